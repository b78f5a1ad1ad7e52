"""The machine: what it must have, what is in use, and what a crash left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from minicloud.layout import ADDRESS, AGENT_PORTS, OPTIONAL_PORTS, PORTS, Layout
from minicloud.options import Options
from minicloud.programs import STATE_VARIABLE

_MINIMUM_MEMORY_KIB = 7 * 1024 * 1024
_CLOUD_MEMORY_MB = 6144
_MINIMUM_DISK_BYTES = 12 * 1024**3


class UnfitHost(Exception):
    """The machine cannot run the cloud as it is; the message says what to change."""


def check(layout: Layout) -> list[str]:
    """Raise UnfitHost for what cannot work; return warnings for what may be slow or tight."""
    release = _os_release()
    if release.get("ID") != "debian" or release.get("VERSION_ID") != "12":
        raise UnfitHost(
            "this cloud is made from Debian 12 (bookworm) packages and this machine runs"
            f" {release.get('PRETTY_NAME', 'an unknown system')}; use a Debian 12 machine, virtual or real"
        )
    warnings = []
    memory = int(_meminfo()["MemTotal"])
    if memory < _MINIMUM_MEMORY_KIB:
        warnings.append(f"the machine has {memory // 1024} MiB of memory; the cloud alone takes about 5 GiB")
    parent = next(path for path in (layout.root, *layout.root.parents) if path.exists())
    disk = os.statvfs(parent)
    free = disk.f_bavail * disk.f_frsize
    if free < _MINIMUM_DISK_BYTES and not layout.venv.exists():
        warnings.append(f"{parent} has {free // 1024**3} GiB free; a new cloud takes about 8")
    return warnings


def check_network(layout: Layout, before: Options, options: Options) -> None:
    """Raise UnfitHost for a network that this cloud cannot have: what exists in Neutron belongs to its driver."""
    if layout.passwords_file.exists() and options.network != before.network:
        raise UnfitHost(
            f"the cloud in {layout.root} was made with --network {before.network}, and its networks and ports belong"
            f" to that; for --network {options.network} first remove it, with all its servers"
            " (`mini down --wipe --keep-cache`), or make another cloud with --state-dir"
        )
    if options.network == "ovn" and options.fake_compute:
        raise UnfitHost(
            "--fake-compute needs --network ovs: the stand-in agent of its host binds ports for Open vSwitch alone;"
            " leave it out (`--no-fake-compute`)"
        )


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {name: value.strip('"') for name, value in pairs}


def _meminfo() -> dict[str, str]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: value.split()[0] for name, value in (line.split(":", 1) for line in lines)}


def reserved_memory_mb() -> int:
    """The memory that servers may not use because the cloud uses it, in MiB."""
    total = int(_meminfo()["MemTotal"]) // 1024
    return min(_CLOUD_MEMORY_MB, total // 2)


def processes(layout: Layout) -> dict[int, str]:
    """The command lines of all processes that belong to this cloud, by process id."""
    mark = f"{STATE_VARIABLE}={layout.root}".encode()
    # In a chroot, a container or another mount namespace the same path is another directory, of another cloud.
    place = layout.root if layout.root.exists() else Path("/")
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
            if marked and (entry / "root" / place.relative_to("/")).samefile(place):
                found[int(entry.name)] = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                )
    return found


def end_processes(layout: Layout, seconds: float = 10.0, only: tuple[str, ...] = ()) -> list[str]:
    """End what still runs of this cloud (dnsmasq and haproxy, or everything after supervisord was killed).

    With `only`, just the processes whose program has one of these names.
    """

    def left() -> dict[int, str]:
        found = processes(layout)
        if not only:
            return found
        return {pid: line for pid, line in found.items() if line and Path(line.split()[0]).name in only}

    ended = left()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + seconds
        while left() and time.monotonic() < end:
            time.sleep(0.1)
    return sorted(ended.values())


def check_ports(layout: Layout, options: Options) -> None:
    """Raise UnfitHost when a program of somebody else listens on one of this cloud's ports."""
    wanted = dict(PORTS)
    for extra in options.services:
        wanted |= OPTIONAL_PORTS[extra]
    if not options.agent:
        wanted = {name: port for name, port in wanted.items() if name not in AGENT_PORTS}
    names = {port: name for name, port in wanted.items()}
    ours = processes(layout)
    problems = []
    for port, inode in _listening().items():
        if port not in names:
            continue
        pid = _owner(inode)
        if pid is not None and pid not in ours:
            command = Path(f"/proc/{pid}/comm").read_text().strip()
            problems.append(f"  {ADDRESS}:{port} ({names[port]}) is taken by {command}, process {pid}")
    if problems:
        raise UnfitHost(
            "these ports are taken by processes that are not of this cloud; stop them first:\n"
            + "\n".join(sorted(problems))
        )


def _listening() -> dict[int, str]:
    """Port to socket inode of everything that listens on a TCP port."""
    found: dict[int, str] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    found[int(fields[1].rsplit(":", 1)[1], 16)] = fields[9]
    return found


def _owner(inode: str) -> int | None:
    target = f"socket:[{inode}]"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if any(os.readlink(link) == target for link in (entry / "fd").iterdir()):
                    return int(entry.name)
    return None


def memory_of(layout: Layout) -> int:
    """Proportional set size of all processes of the cloud, in bytes: shared pages are counted once."""
    total = 0
    for pid in processes(layout):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
