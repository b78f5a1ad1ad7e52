"""The image `debian`: debootstrap's smallest bookworm, with a process that waits."""

from __future__ import annotations

import hashlib
import platform
import shutil
from pathlib import Path

from minicloud import process
from minicloud.files import Marker, write_file
from minicloud.images.tarball import ImageConfig, write_image, write_layer
from minicloud.layout import Layout

_SUITE = "bookworm"
_INIT = """\
#!/bin/sh
# Keeps the container running until it is asked to stop; start beside it whatever you need.
trap 'echo "stopping"; exit 0' TERM INT
echo "Debian $(cat /etc/debian_version) on $(hostname)"
while :; do
    sleep 86400 &
    wait $!
done
"""


class NoMirror(Exception):
    """The machine's apt configuration names no Debian archive."""


def build(layout: Layout) -> str | None:
    """Write cache/debian.tar unless it is there."""
    target = layout.cache / "debian.tar"
    marker = Marker(layout.cache, "debian.made-from")
    sources = [Path(__file__), Path(__file__).with_name("tarball.py")]
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    if target.exists() and marker.value() == wanted:
        return None
    work = layout.cache / "debian.work"
    _remove(work)
    work.mkdir(parents=True)
    # debootstrap mounts /proc in the tree. It has its own mount namespace, which ends with it however it ends.
    process.run(
        ["nice", "unshare", "--mount", "debootstrap", "--variant=minbase", _SUITE, work / "system", mirror()],
        log=layout.log / "debootstrap.log",
        env=process.caller_environment(**_proxies()),
    )
    _clean(work / "system")
    write_file(work / "boot" / "init", _INIT, mode=0o755)
    layers = []
    for name in ("system", "boot"):
        layers.append(work / f"{name}.tar")
        write_layer(work / name, layers[-1])
    config = ImageConfig(
        entrypoint=("/init",),
        environment={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        labels={"org.opencontainers.image.title": "debian"},
    )
    write_image(target, f"debian:{_SUITE}", layers, config, platform.machine())
    _remove(work)
    marker.set(wanted)
    return f"{target.stat().st_size / 1e6:.0f} MB"


def mirror() -> str:
    """The Debian archive that this machine's apt uses."""
    fields = "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
    listing = process.run(
        ["apt-get", "indextargets", "--format", fields, "Identifier: Packages"], env=process.caller_environment()
    )
    for line in listing.splitlines():
        origin, codename, component, address = line.split("|", 3)
        if (origin, codename, component) == ("Debian", _SUITE, "main"):
            return address
    raise NoMirror(f"apt knows no archive of Debian {_SUITE} main; `apt-get indextargets` lists what it knows")


def _proxies() -> dict[str, str]:
    """debootstrap downloads with wget, which does not read apt's configuration."""
    found = {}
    for scheme in ("http", "https"):
        line = process.run(
            ["apt-config", "shell", "proxy", f"Acquire::{scheme}::Proxy"], env=process.caller_environment()
        )
        if line.startswith("proxy='"):
            found[f"{scheme}_proxy"] = line.strip()[len("proxy='") : -1]
    return found


def _clean(tree: Path) -> None:
    """Remove what only this build uses, and what differs from build to build."""
    for pattern in ("dev/*", "var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*", "var/cache/ldconfig/*", "run/*"):
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id"):
        (tree / name).unlink(missing_ok=True)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
