"""The network namespaces that Neutron's agents and the Docker agent make for this cloud.

Each is named after its network, router or server. The whole machine has one /run/netns: namespaces of another cloud,
or of the host's own Neutron, differ in nothing but these identifiers.
"""

from __future__ import annotations

import json
from pathlib import Path

from minicloud import database, process
from minicloud.layout import Layout

_DIRECTORY = Path("/run/netns")


def ours(layout: Layout) -> set[str]:
    """The namespaces of this cloud that exist. Asks the database; when it is down, most are found in files."""
    names = _from_files(layout)
    if database.answers(layout):
        names |= database.namespace_names(layout)
    existing = {entry.name for entry in _DIRECTORY.iterdir()} if _DIRECTORY.is_dir() else set()
    return names & existing


def remove(names: set[str]) -> None:
    for name in names:
        if (_DIRECTORY / name).exists():
            process.run(["ip", "netns", "delete", name])


def _from_files(layout: Layout) -> set[str]:
    """The names that the agents' and Docker's own directories show after a crash."""
    neutron = layout.root / "neutron"
    names = {f"qdhcp-{path.name}" for path in neutron.glob("dhcp/*") if path.is_dir()}
    for prefix, pattern in (
        ("qrouter", "ns-metadata-proxy/*.conf"),
        ("qrouter", "ra/*.conf"),
        ("ovnmeta", "ovn-metadata-proxy/*.conf"),
    ):
        names |= {f"{prefix}-{path.name.partition('.')[0]}" for path in neutron.glob(pattern)}
    for path in layout.root.glob("docker/containers/*/config.v2.json"):
        # A container and its namespace are both named after the server.
        names.add(str(json.loads(path.read_text()).get("Name", "")).removeprefix("/"))
    return names
