"""CRIU, with which the agent suspends servers to disk, out of a later Debian.

Debian 12 has none, so it comes from the machine's own mirror, with every library that it loads, and stays below the
state directory. The machine's own apt and dpkg know nothing of it.
"""

from __future__ import annotations

import datetime
import re
import shutil
from pathlib import Path

from minicloud import process
from minicloud.files import write_file
from minicloud.layout import SOURCE, Layout

_RELEASE = "forky"
_OLDEST = (4, 2)
"""Earlier ones cannot dump a process with an internet socket on Linux 6.16 and later."""

_PATIENCE = datetime.timedelta(days=1)
"""How long an attempt that failed is not repeated."""


class NoCriu(Exception):
    """There is none to be had here; the message says why."""


def fetch(layout: Layout) -> str | None:
    """Fetch CRIU unless it is there. Where none is to be had, servers are frozen instead."""
    if layout.criu.exists():
        return None
    failure = _last_failure(layout)
    if failure is None:
        shutil.rmtree(layout.criu.parent, ignore_errors=True)
        try:
            return f"{_install(layout)} fetched"
        except (NoCriu, process.CommandFailed) as error:
            reason = str(error).strip().splitlines()[-1]
        failure = f"{_now().isoformat(timespec='seconds')} {reason}"
        write_file(_failure_file(layout), failure)
    date, _, reason = failure.partition(" ")
    return (
        f"WARNING: suspended servers will be frozen in memory: no CRIU could be fetched at {date}: {reason};"
        f" `mini up` tries again after a day, or without {_failure_file(layout)} at once"
    )


def _failure_file(layout: Layout) -> Path:
    """When the last attempt failed, and why. Without a mirror in reach one takes minutes."""
    return layout.criu.parent / "failed"


def _last_failure(layout: Layout) -> str | None:
    """What is remembered of it, unless that is too old, or of a clock that was wrong."""
    try:
        failure = _failure_file(layout).read_text()
        age = _now() - datetime.datetime.fromisoformat(failure.partition(" ")[0])
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return failure if datetime.timedelta() <= age < _PATIENCE else None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _install(layout: Layout) -> str:
    root = layout.criu.parent / "root"
    process.run(
        [SOURCE / "devstack" / "unpack-debian", "--with-libraries", _RELEASE, root, "criu"],
        log=layout.log / "criu.log",
        env=process.caller_environment(),
    )
    command = program(root)
    found = version(process.run([*command, "--version"]))
    # Last: it says that all the rest is there.
    write_file(layout.criu, f'#!/bin/sh\nexec {" ".join(command)} "$@"\n', mode=0o755)
    return f"CRIU {found}"


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
        raise NoCriu(f"Debian's {_RELEASE} has {found}; {_OLDEST[0]}.{_OLDEST[1]} or later is needed")
    return found
