"""CRIU, with which the agent suspends servers to disk, out of a later Debian.

Debian 12 has none, so it comes from the machine's own mirror, with every library that it loads, and stays below the
state directory. The machine's own apt and dpkg know nothing of it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from minicloud import process
from minicloud.files import write_file
from minicloud.layout import Layout

_SUITE = "forky"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_OLDEST = (4, 2)
"""Earlier ones cannot dump a process with an internet socket on Linux 6.16 and later."""
_TARGET = "$(CREATED_BY)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)|$(ORIGIN)"


class NoCriu(Exception):
    """There is none to be had here; the message says why."""


def fetch(layout: Layout) -> str | None:
    """Fetch CRIU unless it is there. Where none is to be had, servers are frozen instead."""
    if layout.criu.exists():
        return None
    shutil.rmtree(layout.criu.parent, ignore_errors=True)
    try:
        return f"{_install(layout)} fetched"
    except (NoCriu, process.CommandFailed) as error:
        reason = str(error).strip().splitlines()[-1]
        return f"WARNING: suspended servers will be frozen in memory: no CRIU could be fetched: {reason}"


def _install(layout: Layout) -> str:
    home = layout.criu.parent
    codename = process.run(["sh", "-c", '. /etc/os-release; echo "$VERSION_CODENAME"']).strip()
    uri = mirror(process.run(["apt-get", "indextargets", "--format", _TARGET]), codename)
    root = home / "root"
    for package in _download(layout, home / "apt", uri):
        process.run(["dpkg", "-x", package, root], log=layout.log / "criu.log")
    command = program(root)
    found = version(process.run([*command, "--version"]))
    shutil.rmtree(home / "apt")
    # Last: it says that all the rest is there.
    write_file(layout.criu, f'#!/bin/sh\nexec {" ".join(command)} "$@"\n', mode=0o755)
    return f"CRIU {found}"


def mirror(targets: str, codename: str) -> str:
    """The address of the machine's Debian archive, in what `apt-get indextargets` prints."""
    for line in targets.splitlines():
        created_by, release, component, uri, origin = line.split("|")
        # Before the first update apt does not know the origin.
        if (created_by, release, component) == ("Packages", codename, "main") and origin in ("Debian", "$(ORIGIN)"):
            return uri
    raise NoCriu(f"apt has no source of Debian's {codename} main")


def _download(layout: Layout, apt: Path, uri: str) -> list[Path]:
    """The packages, checked against the archive's signature, by an apt to which nothing is installed."""
    for directory in ("lists/partial", "cache/archives/partial"):
        (apt / directory).mkdir(parents=True)
    write_file(apt / "status", "")
    write_file(apt / "sources.list", f"deb [signed-by={_KEYRING}] {uri} {_SUITE} main\n")
    write_file(apt / "apt.conf", _configuration(apt))
    for command in (["update"], ["install", "-y", "-d", "--no-install-recommends", "criu"]):
        process.run(
            ["apt-get", "-qq", *command],
            log=layout.log / "criu.log",
            env=process.caller_environment(APT_CONFIG=str(apt / "apt.conf"), DEBIAN_FRONTEND="noninteractive"),
        )
    return sorted((apt / "cache/archives").glob("*.deb"))


def _configuration(apt: Path) -> str:
    settings = {
        "Dir::State": apt,
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": "-",
        "Acquire::Languages": "none",
        # An update that reaches nobody is a success otherwise.
        "APT::Update::Error-Mode": "any",
    }
    return "".join(f'{name} "{value}";\n' for name, value in settings.items())


def program(root: Path) -> list[str]:
    """The command that runs CRIU with the libraries that came with it: the machine's are older."""
    for loader in root.glob("usr/lib/*/ld-linux-*.so.*"):
        return [str(loader), "--library-path", str(loader.parent), f"{root}/usr/sbin/criu"]
    raise NoCriu(f"{root} has no dynamic loader")


def version(said: str) -> str:
    """CRIU's version, which must be new enough."""
    match = re.search(r"^Version: (\d+)\.(\d+)\S*", said, re.MULTILINE)
    if match is None:
        raise NoCriu("it does not say its version")
    found = match[0].removeprefix("Version: ")
    if (int(match[1]), int(match[2])) < _OLDEST:
        raise NoCriu(f"Debian's {_SUITE} has {found}; {_OLDEST[0]}.{_OLDEST[1]} or later is needed")
    return found
