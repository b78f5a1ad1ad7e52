"""Build the agent, its runtime and the registry with cargo."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from minicloud import process
from minicloud.layout import SOURCE, Layout

BINARIES = ("nova-docker-agent", "nova-docker-registry", "nova-docker-runtime")
PACKAGES = tuple(word for name in BINARIES for word in ("-p", name))
_MINIMUM = (1, 88)


class NoCargo(Exception):
    """No Rust toolchain here can build the agent; the message says how to get one."""


def find_cargo() -> Path:
    """A cargo that is new enough: from PATH, or where rustup puts it for root or for the user behind sudo."""
    homes = [os.environ.get("CARGO_HOME"), "/root/.cargo"]
    if user := os.environ.get("SUDO_USER"):
        homes.append(os.path.expanduser(f"~{user}/.cargo"))
    candidates = [shutil.which("cargo"), *(f"{home}/bin/cargo" for home in homes if home)]
    seen = []
    for candidate in dict.fromkeys(candidates):
        if candidate is None or not Path(candidate).exists():
            continue
        version = process.run([candidate, "--version"], env=process.caller_environment())
        match = re.search(r"cargo (\d+)\.(\d+)", version)
        if match and (int(match[1]), int(match[2])) >= _MINIMUM:
            return Path(candidate)
        seen.append(f"{candidate} is {version.strip()}")
    wanted = ".".join(map(str, _MINIMUM))
    found = "; ".join(seen) or "none was found"
    raise NoCargo(
        f"building the agent needs Rust {wanted} or newer ({found}; Debian 12's own package is too old). Install it"
        " with rustup (see https://rustup.rs) and run this again, or start the cloud without it: up --no-agent"
    )


def build(layout: Layout, release: bool) -> str:
    """Build with cargo and put the binaries where the cloud runs them. Cargo knows whether there is work to do.

    The tests use the development build too, so it is compiled once. A release build takes longer.
    """
    cargo = find_cargo()
    environment = process.caller_environment(PATH=f"{cargo.parent}:{os.environ.get('PATH', process.SYSTEM_PATH)}")
    toolchains = cargo.parent.parent.parent / ".rustup"
    if toolchains.is_dir():
        # With sudo, HOME is root's, and rustup would look for its toolchains there.
        environment.setdefault("RUSTUP_HOME", str(toolchains))
    process.run(
        ["nice", cargo, "build", *(["--release"] if release else []), "--locked", *PACKAGES],
        log=layout.log / "agent-build.log",
        env=environment,
        cwd=SOURCE,
    )
    target = Path(os.environ.get("CARGO_TARGET_DIR", SOURCE / "target")) / ("release" if release else "debug")
    for name in BINARIES:
        installed = layout.bin / name
        if installed.exists() and installed.read_bytes() == (target / name).read_bytes():
            continue
        fresh = layout.bin / f".{name}.new"
        shutil.copy2(target / name, fresh)
        # What runs keeps its old file; supervisor restarts it because the digest has changed.
        fresh.rename(installed)
    return "release build" if release else "development build"
