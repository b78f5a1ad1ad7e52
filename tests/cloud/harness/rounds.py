"""One server of which the same is asked again and again, each time with the agent killed before another step."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping

from keystoneauth1.exceptions import ClientException

from harness.books import Books
from harness.hosts import wait_usable
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import agent_with, kept_when_deleted
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
_UNFINISHED = (
    "SELECT COUNT(*), SUM(result IS NULL) FROM nova.instance_actions_events WHERE event LIKE 'compute%%'"
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
    least: int = 5
    """How many steps it has at least."""
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
            with agent_with(lab, admin_servers, "DEFAULT", shelved_offload_time="-1"):
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

    def is_killed(self, operation: Operation, steps: Steps, number: int) -> bool:
        """Asks for it, without the step of this number. Whether it has so many steps: then the agent is killed."""
        log = Tail(self.lab.log(AGENT_PROGRAM))
        steps.kill_at(number)
        self.ask(operation.action, operation.arguments)
        eventually(lambda: steps.not_taken or self.is_over(), f"{operation} over, or the agent killed")
        return was_killed(self.lab, steps, log)

    def is_over(self) -> bool:
        """Whether what was asked for last has ended, in one way or the other."""
        begun, unfinished = self.lab.sql(_UNFINISHED, {"id": self.server_id}).split("\t")
        return begun != "0" and unfinished == "0" and not self.books.stuck()

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


def was_killed(lab: Lab, steps: Steps, log: Tail) -> bool:
    """Whether the agent did not take the step. Then it is at work again, by its log since; else it takes all steps."""
    if steps.not_taken:
        eventually(lambda: _AT_WORK[lab.door] in log.text(), "the agent at work again")
        return True
    steps.kill_at(0)
    return False


def balance(books: Books, seconds: float = 120) -> None:
    """Waits until nobody is at work on any server of the project, and all books balance."""

    def amiss() -> list[str]:
        # One that is on no host may be stuck on its way to one.
        stuck = [each for each in books.servers() if each.task_state != "None" or each.vm_state == "building"]
        said = [f"the server is {each.vm_state}, at {each.task_state}" for each in stuck]
        return said or books.disagreements()

    with contextlib.suppress(TimedOut):
        eventually(lambda: not amiss(), "the books balance", seconds, interval=0.5)
    left = amiss()
    assert not left, left


@contextlib.contextmanager
def killed_by(lab: Lab, admin_servers: Servers, steps: Steps) -> Iterator[None]:
    """Whatever happens, the agent takes all steps in the end."""
    try:
        yield
    finally:
        steps.kill_at(0)
        wait_usable(admin_servers)
