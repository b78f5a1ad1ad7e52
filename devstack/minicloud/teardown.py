"""`mini down`: stop what `up` started, remove what it made outside the state directory, and all state."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from minicloud import host, namespaces, openvswitch, process
from minicloud import options as options_module
from minicloud.layout import Layout
from minicloud.programs import INFRASTRUCTURE, programs
from minicloud.supervisor import Supervisor
from minicloud.tasks import Progress

_DEVICES = Path("/sys/class/net")


class NotOurs(Exception):
    """The directory does not look like a cloud's, or holds something that must not be removed."""


def stop(layout: Layout, progress: Progress) -> None:
    """Stop everything. Works on whatever is left of a cloud."""
    supervisor = Supervisor(layout)
    made = namespaces.ours(layout)
    if supervisor.answers():
        _stop_in_order(layout, supervisor, progress)
        supervisor.shutdown()
    # dnsmasq and haproxy leave their agents' process groups; after a crash everything may still run.
    if ended := host.end_processes(layout):
        progress.say(f"ended processes that no supervisor knew ({len(ended)})")
    _remove_datapath(layout)
    if made:
        namespaces.remove(made)
        progress.say(f"removed {len(made)} network namespaces")
    for target in sorted(_mounts_below(layout.root), reverse=True):
        process.run(["umount", target])
    shutil.rmtree(layout.run, ignore_errors=True)
    progress.say("the cloud is down")


def _stop_in_order(layout: Layout, supervisor: Supervisor, progress: Progress) -> None:
    running = set(supervisor.states())
    every = programs(layout, options_module.load(layout.options_file)).values()
    for level in sorted({program.level for program in every}, reverse=True):
        selected = [program for program in every if program.level == level and program.name in running]
        if level == INFRASTRUCTURE and supervisor.states().get("ovs-vswitchd") == "RUNNING":
            host.end_processes(layout, only=("dnsmasq", "haproxy", "keepalived", "radvd"))
            openvswitch.remove_bridges(layout)
        supervisor.stop(selected)
        progress.say(f"stopped {', '.join(program.name for program in selected)}")


def _remove_datapath(layout: Layout) -> None:
    """A kernel datapath outlives an ovs-vswitchd that was killed, with all its devices.

    There is one for all: while any ovs-vswitchd runs it is in use, by another cloud or by the host.
    """
    left = [name for name in openvswitch.BRIDGES if (_DEVICES / name).exists()]
    if left and (_DEVICES / "ovs-system").exists() and not openvswitch.switch_runs():
        process.run(["ovs-dpctl", "del-dp", "system@ovs-system"])


def _mounts_below(directory: Path) -> list[str]:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [mount for mount in mounts if mount.startswith(f"{directory}/")]


def wipe(layout: Layout, keep_cache: bool) -> None:
    """Remove the state directory of a cloud that was stopped."""
    if not (layout.options_file.exists() or layout.cache.exists()):
        raise NotOurs(f"{layout.root} does not look like the state directory of a cloud; it was left alone")
    if mounts := _mounts_below(layout.root):
        raise NotOurs(f"still mounted below {layout.root}: {', '.join(mounts)}; nothing was removed")
    # By these a directory is known as a cloud's: what was interrupted can be done again.
    last = [layout.options_file, layout.cache]
    for entry in [*(entry for entry in layout.root.iterdir() if entry not in last), *last]:
        if keep_cache and entry == layout.cache:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    if not keep_cache:
        os.rmdir(layout.root)
