"""Open vSwitch: its database, the external bridge, and the way to it from the host."""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from collections.abc import Mapping
from pathlib import Path

from minicloud import process
from minicloud.layout import EXTERNAL_CIDR, EXTERNAL_HOST_ADDRESS, Layout
from minicloud.programs import ovs_environment
from minicloud.supervisor import wait_until

EXTERNAL_BRIDGE = "br-ex"
BRIDGES = ("br-int", "br-tun", EXTERNAL_BRIDGE)


def choose_datapath() -> tuple[str, str]:
    """The datapath type, and the reason in words."""
    if not Path("/dev/net/tun").exists():
        process.succeeds(["modprobe", "tun"])
    if not Path("/sys/module/openvswitch").exists() and not process.succeeds(["modprobe", "openvswitch"]):
        return "netdev", "userspace datapath, the kernel has no openvswitch module"
    if host_switch_runs():
        return "netdev", "userspace datapath, the host's own Open vSwitch has the kernel's"
    return "system", "kernel datapath"


def host_switch_runs() -> bool:
    """Whether the host has its own Open vSwitch; the kernel's datapath serves one at a time."""
    pid_file = Path("/run/openvswitch/ovs-vswitchd.pid")
    return pid_file.exists() and Path(f"/proc/{pid_file.read_text().strip()}").exists()


def switch_runs() -> bool:
    """Whether any ovs-vswitchd runs in this network namespace: the host's own, or one of any cloud."""
    namespace = Path("/proc/self/ns/net").readlink()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # It may have ended meanwhile; what is left of it then has no namespace.
            with contextlib.suppress(OSError):
                named = (entry / "comm").read_text().strip() == "ovs-vswitchd"
                if named and (entry / "ns/net").readlink() == namespace:
                    return True
    return False


def make_database(layout: Layout) -> None:
    """An empty switch for a new start. Ports of an earlier one would come back as dead devices of the host;
    Neutron's agents and the Docker agent plug what belongs there."""
    path = layout.root / "ovs" / "conf.db"
    path.parent.mkdir(exist_ok=True)
    for leftover in (path, path.with_name(".conf.db.~lock~")):
        leftover.unlink(missing_ok=True)
    process.run(["ovsdb-tool", "create", path, "/usr/share/openvswitch/vswitch.ovsschema"])


def vsctl(layout: Layout, *arguments: str) -> str:
    environment = process.clean_environment(**ovs_environment(layout))
    command = ["ovs-vsctl", f"--db=unix:{layout.ovs_db_socket}", "--timeout=20", *arguments]
    return process.run(command, env=environment)


def answers(layout: Layout) -> bool:
    """Whether ovsdb-server answers."""
    try:
        vsctl(layout, "--no-wait", "init")
    except process.CommandFailed:
        return False
    return True


def prepare(layout: Layout, host: str, external_ids: Mapping[str, str]) -> None:
    """Settings that must exist before ovs-vswitchd, and OVN's controller, read them."""
    settings = {"system-id": host, **external_ids}
    pairs = [f'external-ids:{key}="{value}"' for key, value in settings.items()]
    vsctl(layout, "--no-wait", "set", "Open_vSwitch", ".", *pairs)


def make_external_bridge(layout: Layout, datapath: str) -> None:
    """The bridge of the network `public`, with the host as that network's gateway."""
    bridge = EXTERNAL_BRIDGE
    datapath_setting = ["--", "set", "bridge", bridge, f"datapath_type={datapath}"]
    vsctl(layout, "--may-exist", "add-br", bridge, *datapath_setting)
    wait_until(lambda: Path(f"/sys/class/net/{bridge}").exists(), 20, f"ovs-vswitchd to make {bridge}")
    process.run(["ip", "address", "replace", EXTERNAL_HOST_ADDRESS, "dev", bridge])
    process.run(["ip", "link", "set", bridge, "up"])


def foreign_route(table: str | None = None) -> str | None:
    """The device, other than ours, through which the host already reaches the external network's addresses.

    `table` is the text of /proc/net/route, which exists before `ip` is installed.
    """
    external = ipaddress.ip_network(EXTERNAL_CIDR)
    for line in (table or Path("/proc/net/route").read_text()).splitlines()[1:]:
        device, destination, mask = (line.split()[index] for index in (0, 1, 7))
        # Both are numbers in the byte order of memory.
        address, netmask = (int.from_bytes(bytes.fromhex(text), sys.byteorder) for text in (destination, mask))
        network = ipaddress.ip_network((address, netmask.bit_count()))
        if network.prefixlen and network.overlaps(external) and device != EXTERNAL_BRIDGE:
            return device
    return None


def has_bridge(layout: Layout, bridge: str) -> bool:
    return bridge in vsctl(layout, "list-br").split()


def remove_bridges(layout: Layout) -> None:
    for bridge in BRIDGES:
        vsctl(layout, "--if-exists", "del-br", bridge)
