"""The image `tiny`: busybox, a boot log, ssh, a web page, and what Tempest's scenario tests ask of an image.

They log in as root and say `sudo`, `curl`, `ping`, `ip`, `date`, `set -o pipefail`. Scripts are what busybox lacks.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from pathlib import Path

from minicloud import process
from minicloud.files import Marker, write_file
from minicloud.images import packages
from minicloud.images.tarball import ImageConfig, write_image, write_layer

# busybox' own ping needs a raw socket, which containers do not get; that of iputils needs none.
_PROGRAM_PACKAGES = ("busybox-static", "dropbear-bin", "util-linux", "iputils-ping")
_PROGRAMS = ("usr/sbin/dropbear", "usr/bin/dropbearkey", "usr/bin/dbclient", "bin/lsblk", "bin/ping")
_ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/shells": "/bin/sh\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    # busybox' shell prefers its own applets to programs of the same name.
    "etc/profile": "alias ping=/bin/ping ping6=/bin/ping lsblk=/bin/lsblk\n",
}
# Nobody has a password, until Nova sets one (`openstack server set --password`).
_SHADOW = "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n"
# Scripts, by their place in the image.
_SCRIPTS = {
    "init": Path(__file__).with_name("tiny-init"),
    "usr/bin/curl": Path(__file__).with_name("tiny-curl"),
    "usr/bin/sudo": Path(__file__).with_name("tiny-sudo"),
}


def build(cache: Path) -> str | None:
    """Write tiny.tar into the directory `cache` unless it is there. The DevStack plugin uses the same image."""
    target = cache / "tiny.tar"
    marker = Marker(cache, "tiny.made-from")
    sources = [*_SCRIPTS.values(), *Path(__file__).parent.glob("*.py")]
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    if target.exists() and marker.value() == wanted:
        return None
    work = cache / "tiny.work"
    packages.unpack((*_PROGRAM_PACKAGES, *packages.library_packages(_PROGRAM_PACKAGES)), work)
    system, boot = work / "system", work / "boot"
    _make_system(work / "root", system)
    _make_boot(boot)
    for name, tree in (("system.tar", system), ("boot.tar", boot)):
        write_layer(tree, work / name)
    config = ImageConfig(
        entrypoint=("/init",),
        environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        labels={"org.opencontainers.image.title": "tiny"},
        exposed_ports=("22/tcp", "80/tcp"),
    )
    write_image(target, "tiny:latest", [work / "system.tar", work / "boot.tar"], config, platform.machine())
    shutil.rmtree(work)
    marker.set(wanted)
    return f"{target.stat().st_size / 1e6:.0f} MB"


def _make_system(source: Path, target: Path) -> None:
    """The layer of programs and libraries."""
    copied: set[Path | str] = {"bin/busybox", *_PROGRAMS, *packages.libraries(source, _PROGRAMS)}
    packages.copy(source, target, copied)
    for applet in process.run([target / "bin/busybox", "--list-full"]).split():
        link = target / applet
        # The real lsblk and dropbear's programs win over applets.
        if not link.exists() and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to("/bin/busybox")


def _make_boot(target: Path) -> None:
    """The layer of accounts, directories and the init script."""
    for name, mode in (
        ("dev", 0o755),
        ("proc", 0o755),
        ("sys", 0o755),
        ("run", 0o755),
        ("etc/dropbear", 0o700),
        ("root", 0o700),
        ("srv/www", 0o755),
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
    ):
        (target / name).mkdir(parents=True)
        (target / name).chmod(mode)
    for name, text in _ETC.items():
        write_file(target / name, text)
    write_file(target / "etc/shadow", _SHADOW, mode=0o600)
    for name, script in _SCRIPTS.items():
        write_file(target / name, script.read_text(), mode=0o755)
