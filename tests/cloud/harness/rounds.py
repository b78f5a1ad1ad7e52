"""The same again and again, each time with the agent killed before another step."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Generator, Iterator, Mapping

from keystoneauth1.exceptions import ClientException

from harness.books import Books
from harness.hosts import wait_usable
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import compute_with, kept_when_deleted
from harness.servers import Json, Refused, Servers
from harness.steps import Steps
from harness.waiting import TimedOut, eventually

_MARK = "/root/mark"

_BACK: Mapping[str, tuple[str, Json | None]] = {
    "SHUTOFF": ("os-start", None),
    "PAUSED": ("unpause", None),
    "SUSPENDED": ("resume", None),
    "RESCUE": ("unrescue", None),
    "VERIFY_RESIZE": ("revertResize", None),
    "SHELVED": ("unshelve", None),
    "SHELVED_OFFLOADED": ("unshelve", None),
    "SOFT_DELETED": ("restore", None),
    "ERROR": ("reboot", {"type": "HARD"}),
}
"""What a user does to have a server ACTIVE again, by its status."""

_AT_WORK = {"amqp": "every instance has been looked at", "grpc": "the container driver is up"}
"""What the agent says when its start is done, by the door."""

_ACTIONS = "SELECT COUNT(*) FROM nova.instance_actions WHERE instance_uuid = %(id)s"
_EVENTS = (
    "SELECT COUNT(*), COALESCE(SUM(result IS NULL), 0) FROM nova.instance_actions_events WHERE event LIKE 'compute%%'"
    " AND action_id = (SELECT MAX(id) FROM nova.instance_actions WHERE instance_uuid = %(id)s)"
)

_FOR_OPERATORS = ("restore", "shelveOffload")
"""What Nova's policy lets operators ask for."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """What is asked of a server, once it has the status `of`."""

    action: str
    """Nova's, or attach, detach and softDelete."""
    arguments: Json | None = None
    of: tuple[str, str] = ("", "ACTIVE")
    """The action that makes it so, and the status."""
    keeps: bool = True
    """Whether the files are the same afterwards."""

    def __str__(self) -> str:
        return "-".join([self.action, *map(str, (self.arguments or {}).values())])

    @contextlib.contextmanager
    def where_it_can_be_asked(self, lab: Lab, admin_servers: Servers) -> Iterator[None]:
        """What the operator has to say for it."""
        if self.action in ("softDelete", "restore"):
            with kept_when_deleted(lab, admin_servers, 3600):
                yield
        elif self.action == "shelveOffload":
            with compute_with(lab, admin_servers, shelved_offload_time="-1"):
                yield
        else:
            yield


@dataclasses.dataclass(frozen=True)
class Round:
    """One server, which is asked for the same again and again."""

    lab: Lab
    servers: Servers
    admin_servers: Servers
    books: Books
    network: Json
    server_id: str

    def ask(self, action: str, arguments: Json | None = None) -> None:
        if action == "softDelete":
            self.servers.delete(self.server_id)
        elif action == "detach":
            *_, last = self._ports()
            self.servers.request("DELETE", f"{self._path}/{last}")
        elif action == "attach":
            self._call(lambda: self.servers.request("POST", self._path, {"interfaceAttachment": self._net}))
        elif action == "changePassword":
            self._call(lambda: self.servers.action(self.server_id, action, arguments))
        else:
            asker = self.admin_servers if action in _FOR_OPERATORS else self.servers
            asker.action(self.server_id, action, arguments or self._body(action))

    @property
    def _path(self) -> str:
        return f"/servers/{self.server_id}/os-interface"

    @property
    def _net(self) -> Json:
        return {"net_id": self.network["uuid"]}

    def _call(self, ask: Callable[[], object]) -> None:
        """Of an agent that is killed the API waits a minute for an answer. It is asked when this returns."""

        def patiently() -> None:
            with contextlib.suppress(Refused, ClientException):
                ask()

        before = self._count()
        threading.Thread(target=patiently, daemon=True).start()
        eventually(lambda: self._count() != before, "the request")

    def _count(self) -> str:
        return self.lab.sql(_ACTIONS, {"id": self.server_id})

    def _ports(self) -> list[str]:
        return [each["port_id"] for each in self.servers.interfaces(self.server_id)]

    def _body(self, action: str) -> Json | None:
        compute = self.servers.connection.compute
        server = self.servers.get(self.server_id)
        if action == "resize":
            other = "c1.small" if server["flavor"]["original_name"] == "c1.tiny" else "c1.tiny"
            return {"flavorRef": compute.find_flavor(other, ignore_missing=False).id}
        return {
            "rebuild": {"imageRef": server["image"]["id"]} if server["image"] else None,
            "createImage": {"name": "steps"},
            "createBackup": {"name": "steps", "backup_type": "daily", "rotation": 1},
        }.get(action)

    def prepare(self, operation: Operation) -> None:
        self.lab.docker("exec", f"nova-{self.server_id}", "sh", "-c", f"echo kept > {_MARK}; sync")
        action, status = operation.of
        if action:
            self.ask(action)
            self.admin_servers.wait(self.server_id, status)
            eventually(self.is_over, f"the end of {action}")

    def is_over(self) -> bool:
        return is_over(self.books, self.server_id)

    def settle(self) -> str:
        """Waits until nobody is at work and all agree; the status that the server then has."""
        balance(self.books)
        return str(self.admin_servers.get(self.server_id)["status"])

    def bring_back(self, status: str) -> None:
        """What its user can do makes it ACTIVE, with one interface."""
        while status != "ACTIVE":
            action, body = _BACK[status]
            self.ask(action, body)
            eventually(self.is_over, f"the end of {action}")
            before, status = status, self.settle()
            assert status != before, f"{action} did nothing"
        seen = self.lab.docker("inspect", "--format", "{{.State.Running}}", f"nova-{self.server_id}")
        assert seen == "true"
        _, *others = self._ports()
        if others:
            self.ask("detach")
            eventually(lambda: len(self._ports()) == len(others), "one interface less")
            assert self.settle() == "ACTIVE"

    def has_mark(self) -> bool:
        return self.lab.docker("exec", f"nova-{self.server_id}", "cat", _MARK, check=False) == "kept"


@dataclasses.dataclass
class Attempt:
    """What is done once, without the step of this number: the agent is killed before it."""

    lab: Lab
    steps: Steps
    number: int
    was_killed: bool = False
    """Whether there are so many steps."""
    story: str = ""
    """What the step was, and what came of it."""
    _log: Tail = dataclasses.field(init=False)

    def begin(self) -> None:
        """The steps count from now on."""
        self._log = Tail(self.lab.log(AGENT_PROGRAM))
        self.steps.kill_at(self.number)

    def end(self, has_ended: Callable[[], bool]) -> None:
        """Waits until it has ended, or an agent that was killed is at work again; that takes all steps."""
        eventually(lambda: self.steps.not_taken or has_ended(), f"{self.number}: the end, or the agent killed")
        self.was_killed = bool(self.steps.not_taken)
        self.story = f"{self.number}: {self.steps.not_taken or 'none'}"
        if self.was_killed:
            eventually(lambda: _AT_WORK[self.lab.door] in self._log.text(), "the agent at work again")
        else:
            self.steps.kill_at(0)


@contextlib.contextmanager
def attempts(lab: Lab, admin_servers: Servers, steps: Steps, least: int = 5) -> Iterator[Iterator[Attempt]]:
    """One for each step, of which there are so many at least, and one with them all. Their story is printed.

    Whatever happens, the agent takes all steps in the end.
    """
    try:
        with contextlib.closing(_attempts(lab, steps, least)) as each:
            yield each
    finally:
        steps.kill_at(0)
        wait_usable(admin_servers)


def _attempts(lab: Lab, steps: Steps, least: int) -> Generator[Attempt, None, None]:
    for number in itertools.count(1):
        attempt = Attempt(lab, steps, number)
        try:
            yield attempt
        finally:
            print(attempt.story, flush=True)
        if not attempt.was_killed:
            assert number > least, "the steps are not seen"
            return


def is_over(books: Books, server_id: str) -> bool:
    """Whether what was asked of a server last has ended on its host, in one way or the other."""
    begun, unfinished = _events(books, server_id)
    return begun > 0 and unfinished == 0 and not books.stuck()


def _events(books: Books, server_id: str) -> tuple[int, int]:
    """How many events of compute hosts the last request has, and how many of them have not ended."""
    begun, unfinished = books.lab.sql(_EVENTS, {"id": server_id}).split("\t")
    return int(begun), int(unfinished)


def balance(books: Books) -> None:
    """Waits until nobody is at work on any server of the project, and all books balance."""

    def amiss() -> list[str]:
        # One that is on no host may be stuck on its way to one.
        stuck = [each for each in books.servers() if each.task_state != "None" or each.vm_state == "building"]
        said = [f"the server is {each.vm_state}, at {each.task_state}" for each in stuck]
        return said or books.disagreements()

    with contextlib.suppress(TimedOut):
        eventually(lambda: not amiss(), "the books balance", interval=0.5)
    left = amiss()
    assert not left, left


def delete_all_of(servers: Servers, books: Books, server_id: str) -> None:
    """Deletes a server. Nothing is left when that has ended: what is cleared away by and by is not waited for."""
    servers.delete(server_id)
    servers.wait_gone(server_id)
    # One that is on no host is deleted by the API, without an event.
    eventually(lambda: _events(books, server_id)[1] == 0, "the end of the deletion")
    left = books.disagreements()
    assert not left, left
