"""What the user selected with `up`, remembered so that a later plain `up` brings the same cloud back."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

from minicloud.files import write_file

EXTRAS = ("heat", "cinder")

DOORS = ("amqp", "grpc")
"""How Nova reaches the agent: as the compute service itself, or as what a stock nova-compute drives."""


@dataclasses.dataclass(frozen=True)
class Options:
    extras: tuple[str, ...] = ()
    fake_compute: bool = False
    agent: bool = True
    door: str = "amqp"
    # Kept from the first `up`: Nova and Neutron know a host by this name for ever, also when DHCP renames it.
    host: str = dataclasses.field(default_factory=socket.gethostname)

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
        host=stored["host"],
    )


def change(
    before: Options,
    *,
    extras: tuple[str, ...] | None,
    fake_compute: bool | None,
    agent: bool | None,
    door: str | None,
) -> Options:
    """Apply what was given on the command line; None means `as before`."""
    return dataclasses.replace(
        before,
        extras=before.extras if extras is None else extras,
        fake_compute=before.fake_compute if fake_compute is None else fake_compute,
        agent=before.agent if agent is None else agent,
        door=before.door if door is None else door,
    )
