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
    """Made once: Neutron's networks are in it."""
    path = database(layout, name)
    (layout.run / "ovn").mkdir(exist_ok=True)
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        process.run(["ovsdb-tool", "create", path, f"/usr/share/ovn/ovn-{name}.ovsschema"])


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
