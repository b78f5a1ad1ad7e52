"""What the user selected with `up`. A later plain `up` brings the same cloud back."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

from minicloud.files import write_file

SERVICES = ("heat", "cinder")

EXTRAS = (*SERVICES, "debian")
"""What `up --with` names: services of OpenStack, and the image `debian`."""

DOORS = ("amqp", "grpc")
"""How Nova reaches the agent: it is the compute service itself, or a stock nova-compute drives it."""


NETWORKS = ("ovs", "ovn")
"""What wires the ports of servers: Neutron's Open vSwitch agent, or OVN's controller."""


@dataclasses.dataclass(frozen=True)
class Options:
    extras: tuple[str, ...] = ()
    fake_compute: bool = False
    agent: bool = True
    door: str = "amqp"
    network: str = "ovs"
    release: bool = False
    """Whether cargo builds the agent for release."""
    # Kept from the first `up`: Nova and Neutron know a host by this name for ever, even when DHCP renames it.
    host: str = dataclasses.field(default_factory=socket.gethostname)

    @property
    def services(self) -> tuple[str, ...]:
        """The services of OpenStack among the extras."""
        return tuple(name for name in self.extras if name in SERVICES)

    @property
    def fake_host(self) -> str:
        """The host name under which the stock nova-compute with the fake driver registers."""
        return f"{self.host}-fake"

    def save(self, path: Path) -> None:
        write_file(path, json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def load(path: Path) -> Options:
    """The remembered selection, or the defaults when there is none."""
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError:
        return Options()
    return Options(
        extras=tuple(stored["extras"]),
        fake_compute=stored["fake_compute"],
        agent=stored["agent"],
        door=stored.get("door", "amqp"),
        network=stored.get("network", "ovs"),
        release=stored.get("release", False),
        host=stored["host"],
    )


def change(before: Options, **given: Any) -> Options:
    """Apply what was given on the command line, by the names of the fields; None means `as before`."""
    return dataclasses.replace(before, **{name: value for name, value in given.items() if value is not None})
