"""OVN: its databases, and what its controller reads of this host."""

from __future__ import annotations

from pathlib import Path

from minicloud import process
from minicloud.layout import ADDRESS, Layout

DATABASES = ("nb", "sb")
"""The northbound database, which Neutron writes, and the southbound one, which the controller reads."""


def socket(layout: Layout, name: str) -> Path:
    return layout.run / "ovn" / f"{name}.sock"


def connection(layout: Layout, name: str) -> str:
    return f"unix:{socket(layout, name)}"


def database(layout: Layout, name: str) -> Path:
    return layout.root / "ovn" / f"{name}.db"


def make_database(layout: Layout, name: str) -> None:
    """Made once, whole or not at all: Neutron's networks are in it."""
    path = database(layout, name)
    (layout.run / "ovn").mkdir(exist_ok=True)
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        return
    fresh = path.with_name(f"{path.name}.new")
    leftovers = (fresh, path.with_name(f".{fresh.name}.~lock~"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    process.run(["ovsdb-tool", "create", fresh, f"/usr/share/ovn/ovn-{name}.ovsschema"])
    fresh.rename(path)
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)


def answers(layout: Layout, name: str) -> bool:
    """Whether the database's server answers. The socket alone may be that of one that was killed."""
    return process.succeeds(["ovsdb-client", "--timeout=20", "list-dbs", connection(layout, name)])


def chassis(layout: Layout, host: str, datapath: str) -> dict[str, str]:
    """What ovn-controller reads of this host in Open vSwitch. Neutron binds ports by the name in `hostname`."""
    return {
        "hostname": host,
        "ovn-remote": connection(layout, "sb"),
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": ADDRESS,
        "ovn-bridge-mappings": "public:br-ex",
        "ovn-bridge-datapath-type": datapath,
        "ovn-cms-options": "enable-chassis-as-gw",
    }
