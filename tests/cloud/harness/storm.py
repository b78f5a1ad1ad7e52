"""Many users at a time, each with a server, and none of them patient."""

from __future__ import annotations

import collections
import dataclasses
import functools
import random
import threading
import time
from collections.abc import Callable

from keystoneauth1.exceptions import ClientException
from openstack.exceptions import SDKException

from harness.lab import Lab
from harness.servers import Json, Refused, Servers
from harness.waiting import TimedOut, eventually

PATIENCE = 60
"""Seconds that a user waits for a task to end before it looks again."""

RARELY = 0.1
"""How often a user wants its server gone, also in the middle of something."""

_REBOOTS = (("reboot", {"type": "SOFT"}), ("reboot", {"type": "HARD"}))


class History:
    """What was done and what went wrong, in order. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        with self._lock:
            self.lines.append(f"{time.monotonic() - self._started:7.1f} {line}")

    def about(self, text: str) -> list[str]:
        """The lines on the servers whose ids are in the text, and on faults."""
        return [line for line in self.lines if not (words := line.split())[1].startswith("user") or words[-1] in text]


@dataclasses.dataclass(frozen=True)
class Storm:
    """The users. What each asks for is drawn from the seed, and from what its server allows at that moment."""

    lab: Lab
    servers: Servers
    seed: int
    over: threading.Event
    history: History
    body: Json
    """Of a launch."""
    flavors: tuple[str, ...]
    begun: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Set when the first faults may come."""
    done: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    launched: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    """The users who have their first server."""

    def user(self, number: int) -> None:
        """Has a server and does something with it, again and again, until the storm is over."""
        draw = random.Random(f"{self.seed}-user-{number}")  # noqa: S311, to be drawn again from the same seed
        server_id = self._try(draw, number, "")
        while not server_id and not self.over.wait(1):
            server_id = self._try(draw, number, "")
        self._wait_idle(server_id)
        self.launched[number] += 1
        self.begun.wait()
        while not self.over.wait(draw.uniform(0, 2)):
            server_id = self._try(draw, number, server_id)

    def _try(self, draw: random.Random, number: int, server_id: str) -> str:
        """A step; what the API refuses, or does not answer in time, is only noted."""
        try:
            return self._step(draw, number, server_id)
        except (Refused, ClientException, SDKException) as error:
            self.history.note(f"user {number}: {type(error).__name__}: {str(error)[:120]!r} {server_id}")
            return server_id

    def _step(self, draw: random.Random, number: int, server_id: str) -> str:
        state = self._state(server_id)
        if state is None:
            body = {**self.body, "name": f"storm-{self.seed}-{number}", "flavorRef": self.flavors[0]}
            made: str = self.servers.request("POST", "/servers", {"server": body})["server"]["id"]
            self._did(number, "create", made)
            return made
        vm_state, task_state, was_launched = state
        is_rare = draw.random() < RARELY
        is_busy = task_state != "None" or vm_state == "building"
        if is_busy and not is_rare:
            self._wait_idle(server_id)
            return server_id
        choices = {} if is_rare or is_busy or not was_launched else self._choices(server_id, vm_state, number)
        name = draw.choice([*choices] or ["delete"])
        choices.get(name, functools.partial(self.servers.delete, server_id))()
        self._did(number, name, server_id)
        return server_id

    def _did(self, number: int, name: str, server_id: str) -> None:
        self.done[name] += 1
        self.history.note(f"user {number}: {name} {server_id}")

    def _state(self, server_id: str) -> tuple[str, str, bool] | None:
        """vm_state, task_state, and whether it ran ever; None when there is no such server."""
        known = "SELECT vm_state, task_state, launched_at FROM {}.instances WHERE uuid = %(id)s AND deleted = 0"
        asked = "SELECT 'building', 'scheduling', NULL FROM nova_api.build_requests WHERE instance_uuid = %(id)s"
        statement = " UNION ALL ".join((known.format("nova"), known.format("nova_cell0"), asked))
        rows = self.lab.sql(statement, {"id": server_id}).splitlines()
        if not rows:
            return None
        vm_state, task_state, launched_at = rows[0].split("\t")
        return vm_state, task_state, launched_at != "None"

    def _wait_idle(self, server_id: str) -> None:
        def idle() -> bool:
            state = self._state(server_id)
            return self.over.is_set() or state is None or (state[1] == "None" and state[0] != "building")

        try:
            eventually(idle, "idle", PATIENCE, interval=0.5)
        except TimedOut:
            self.history.note(f"users wait for {self._state(server_id)} {server_id}")

    def _choices(self, server_id: str, vm_state: str, number: int) -> dict[str, Callable[[], object]]:
        """What Nova may be asked for in a state, besides the end."""

        def act(name: str, arguments: Json | None = None) -> Callable[[], object]:
            return functools.partial(self.servers.action, server_id, name, arguments)

        change = {
            "rebuild": act("rebuild", {"imageRef": self.body["imageRef"]}),
            "resize": act("resize", {"flavorRef": self._other_flavor(server_id)}),
            "shelve": act("shelve"),
            "snapshot": act("createImage", {"name": f"storm-{self.seed}-{number}-snapshot"}),
            "attach": functools.partial(self._attach, server_id),
            "detach": functools.partial(self._detach, server_id),
        }
        reboots = {f"reboot {arguments['type']}": act(name, arguments) for name, arguments in _REBOOTS}
        return {
            "active": {**change, **reboots, "stop": act("os-stop"), "pause": act("pause"), "suspend": act("suspend")},
            "stopped": {**change, "start": act("os-start"), "reboot HARD": reboots["reboot HARD"]},
            "paused": {"unpause": act("unpause")},
            "suspended": {"resume": act("resume")},
            "shelved_offloaded": {"unshelve": act("unshelve")},
            "resized": {"confirm": act("confirmResize"), "revert": act("revertResize")},
            "error": {"rebuild": change["rebuild"], "reboot HARD": reboots["reboot HARD"]},
        }.get(vm_state, {})

    def _other_flavor(self, server_id: str) -> str:
        memory = self.lab.sql("SELECT memory_mb FROM nova.instances WHERE uuid = %(id)s", {"id": server_id})
        return self.flavors[1] if memory == "64" else self.flavors[0]

    def _ports(self, server_id: str) -> list[str]:
        return self.lab.sql("SELECT id FROM neutron.ports WHERE device_id = %(id)s", {"id": server_id}).split()

    def _attach(self, server_id: str) -> None:
        if len(self._ports(server_id)) < 3:
            wanted = {"interfaceAttachment": {"net_id": self.body["networks"][0]["uuid"]}}
            self.servers.request("POST", f"/servers/{server_id}/os-interface", wanted)

    def _detach(self, server_id: str) -> None:
        ports = self._ports(server_id)
        if len(ports) > 1:
            self.servers.request("DELETE", f"/servers/{server_id}/os-interface/{ports[-1]}")
