"""An agent that is killed (SIGKILL) before each step of an operation, one by one.

Each time its next start leaves a server that its user can go on with: no task is stuck, all books balance, and what was
in its files is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator

import pytest
from conftest import Launcher
from harness.books import Books
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import agent_with, environment
from harness.servers import Json, Servers
from harness.steps import Steps
from harness.tenant import Tenant
from harness.waiting import TimedOut, eventually
from openstack.connection import Connection

pytestmark = [
    pytest.mark.agent,
    pytest.mark.alone,
    # Behind nova-compute an operation that was interrupted is nova-compute's.
    pytest.mark.amqp,
    pytest.mark.full,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("usable_afterwards"),
]

MARK = "/root/mark"

_BACK = {
    "SHUTOFF": ("os-start", None),
    "PAUSED": ("unpause", None),
    "SUSPENDED": ("resume", None),
    "RESCUE": ("unrescue", None),
    "VERIFY_RESIZE": ("revertResize", None),
    "SHELVED": ("unshelve", None),
    "SHELVED_OFFLOADED": ("unshelve", None),
    "ERROR": ("reboot", {"type": "HARD"}),
}
"""What a user does to have a server ACTIVE again, by its status."""

_UNFINISHED = (
    "SELECT COUNT(*), SUM(result IS NULL) FROM nova.instance_actions_events WHERE event LIKE 'compute%%'"
    " AND action_id = (SELECT MAX(id) FROM nova.instance_actions WHERE instance_uuid = %(id)s)"
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """What is asked of a server, once it has the status `of`."""

    action: str
    of: tuple[str, str] = ("", "ACTIVE")
    """The action that makes it so, and the status."""
    least: int = 5
    """How many steps it has at least."""
    keeps: bool = True
    """Whether the files are the same afterwards."""


OPERATIONS = [
    Operation("rebuild", keeps=False),
    Operation("rescue"),
    Operation("unrescue", of=("rescue", "RESCUE")),
    Operation("shelve"),
    Operation("unshelve", of=("shelve", "SHELVED_OFFLOADED")),
    Operation("suspend"),
    Operation("resume", of=("suspend", "SUSPENDED")),
    Operation("resize"),
    Operation("confirmResize", of=("resize", "VERIFY_RESIZE")),
    Operation("revertResize", of=("resize", "VERIFY_RESIZE")),
    Operation("createImage"),
    Operation("createBackup"),
]


@dataclasses.dataclass(frozen=True)
class Round:
    """One server, which is asked for the same again and again."""

    lab: Lab
    servers: Servers
    books: Books
    server_id: str

    def ask(self, action: str) -> None:
        self.servers.action(self.server_id, action, self._body(action))

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
        self.lab.docker("exec", f"nova-{self.server_id}", "sh", "-c", f"echo kept > {MARK}; sync")
        action, status = operation.of
        if action:
            self.ask(action)
            self.servers.wait(self.server_id, status)
            eventually(self._is_over, f"the end of {action}")

    def is_killed(self, operation: Operation, steps: Steps, number: int) -> bool:
        """Asks for it, without the step of this number. Whether it has so many steps: then the agent is killed."""
        steps.kill_at(number)
        self.ask(operation.action)
        eventually(lambda: steps.not_taken or self._is_over(), f"{operation.action} over, or the agent killed")
        if steps.not_taken:
            return True
        steps.kill_at(0)
        return False

    def _is_over(self) -> bool:
        begun, unfinished = self.lab.sql(_UNFINISHED, {"id": self.server_id}).split("\t")
        return begun != "0" and unfinished == "0" and not self.books.stuck()

    def settle(self) -> str:
        """Waits until nobody is at work and all agree; the status that the server then has."""

        with contextlib.suppress(TimedOut):
            eventually(lambda: not self._amiss(), "the books balance", 120, interval=0.5)
        assert self._amiss() == []
        return str(self.servers.get(self.server_id)["status"])

    def _amiss(self) -> list[str]:
        # One that is on no host may be stuck on its way to one.
        servers = [each for each in self.books.servers() if each.task_state != "None"]
        stuck = [f"the server is {each.vm_state}, at {each.task_state}" for each in servers]
        return stuck or self.books.disagreements()

    def bring_back(self, status: str) -> None:
        """What its user can do makes it ACTIVE."""
        while status != "ACTIVE":
            action, body = _BACK[status]
            self.servers.action(self.server_id, action, body)
            eventually(self._is_over, f"the end of {action}")
            before, status = status, self.settle()
            assert status != before, f"{action} did nothing"
        seen = self.lab.docker("inspect", "--format", "{{.State.Running}}", f"nova-{self.server_id}")
        assert seen == "true"

    def has_mark(self) -> bool:
        return self.lab.docker("exec", f"nova-{self.server_id}", "cat", MARK, check=False) == "kept"


@pytest.fixture(scope="module")
def steps(lab: Lab, admin_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    made = Steps(tmp_path_factory.mktemp("steps"))
    # A request that the conductor may be about to send is waited for as long as that waits for the scheduler.
    with (
        agent_with(lab, admin_servers, "DEFAULT", long_rpc_timeout="10"),
        environment(lab, AGENT_PROGRAM, made.environment),
    ):
        yield made


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.action)
def test_a_server_can_be_used_after_an_agent_that_was_killed_before_any_step(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    user: Connection,
    tenant: Tenant,
    private_network: list[Json],
    steps: Steps,
    operation: Operation,
) -> None:
    server_id = launch("steps", networks=private_network)["id"]
    round_ = Round(lab, servers, Books(lab, tenant.project_id), server_id)
    story: list[str] = []
    try:
        for number in itertools.count(1):
            round_.prepare(operation)
            log = Tail(lab.log(AGENT_PROGRAM))
            killed = round_.is_killed(operation, steps, number)
            story.append(f"{number}: {steps.not_taken or 'none'}")
            if killed:
                eventually(lambda log=log: "every instance has been looked at" in log.text(), "the agent at work again")
            status = round_.settle()
            story[-1] += f" -> {status}"
            round_.bring_back(status)
            if operation.keeps:
                assert round_.has_mark(), "what was in the server's files is lost"
            for image in user.image.images(owner=tenant.project_id, name="steps"):
                user.image.delete_image(image)
            if not killed:
                break
    finally:
        steps.kill_at(0)
        print("\n".join(story))
        for image in user.image.images(owner=tenant.project_id):
            user.image.delete_image(image, ignore_missing=True)
    assert number > operation.least, "the steps are not seen"
