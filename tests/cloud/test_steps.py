"""An agent that is killed (SIGKILL) before each step of an operation, one by one.

Each time its next start leaves a server that its user can go on with: no task is stuck, all books balance, and what was
in its files is there. Behind nova-compute, which goes on, the operation comes to its end or fails with the reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Launcher
from harness.books import Books
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import agent_with, environment
from harness.rounds import Operation, Round, balance, killed_by, was_killed
from harness.servers import Json, Servers
from harness.steps import Steps
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [
    pytest.mark.agent,
    pytest.mark.alone,
    pytest.mark.full,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("usable_afterwards"),
]

BOTH_DOORS = [
    Operation("rebuild", keeps=False),
    Operation("createImage", least=3),
]
FIRST_DOOR = [
    Operation("os-stop"),
    Operation("os-start", of=("os-stop", "SHUTOFF")),
    Operation("reboot", {"type": "SOFT"}),
    Operation("reboot", {"type": "HARD"}),
    Operation("pause"),
    Operation("unpause", of=("pause", "PAUSED")),
    Operation("suspend"),
    Operation("resume", of=("suspend", "SUSPENDED")),
    Operation("rescue"),
    Operation("unrescue", of=("rescue", "RESCUE")),
    Operation("shelve"),
    Operation("shelveOffload", of=("shelve", "SHELVED")),
    Operation("unshelve", of=("shelve", "SHELVED_OFFLOADED")),
    Operation("resize"),
    Operation("confirmResize", of=("resize", "VERIFY_RESIZE")),
    Operation("revertResize", of=("resize", "VERIFY_RESIZE")),
    Operation("createBackup"),
    Operation("attach"),
    Operation("detach", of=("attach", "ACTIVE")),
    Operation("changePassword", {"adminPass": "Tr0ub4dor"}),
    Operation("softDelete"),
    Operation("restore", of=("softDelete", "SOFT_DELETED")),
]


def _parameters() -> Iterator[Any]:
    yield from (pytest.param(each, id=str(each)) for each in BOTH_DOORS)
    yield from (pytest.param(each, id=str(each), marks=pytest.mark.amqp) for each in FIRST_DOOR)


@pytest.fixture(scope="module")
def steps(lab: Lab, admin_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    made = Steps(tmp_path_factory.mktemp("steps"))
    # A request that the conductor may be about to send is waited for as long as that waits for the scheduler.
    with (
        agent_with(lab, admin_servers, "DEFAULT", long_rpc_timeout="10"),
        environment(lab, AGENT_PROGRAM, made.environment),
    ):
        yield made


@pytest.mark.parametrize("operation", _parameters())
def test_a_server_can_be_used_after_an_agent_that_was_killed_before_any_step(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    user: Connection,
    tenant: Tenant,
    private_network: list[Json],
    steps: Steps,
    operation: Operation,
) -> None:
    server_id = launch("steps", networks=private_network)["id"]
    books = Books(lab, tenant.project_id)
    round_ = Round(lab, servers, admin_servers, books, private_network[0], server_id)
    story: list[str] = []
    try:
        with operation.where_it_can_be_asked(lab, admin_servers), killed_by(lab, admin_servers, steps):
            for number in itertools.count(1):
                round_.prepare(operation)
                killed = round_.is_killed(operation, steps, number)
                story.append(f"{number}: {steps.not_taken or 'none'}")
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
        print("\n".join(story))
        for image in user.image.images(owner=tenant.project_id):
            user.image.delete_image(image, ignore_missing=True)
    assert number > operation.least, "the steps are not seen"


@pytest.mark.amqp
def test_a_launch_is_there_or_has_failed_after_an_agent_that_was_killed_before_any_step(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    tenant: Tenant,
    private_network: list[Json],
    steps: Steps,
) -> None:
    books = Books(lab, tenant.project_id)
    story: list[str] = []

    def is_settled(server_id: str) -> bool:
        return servers.get(server_id)["status"] in ("ACTIVE", "ERROR")

    try:
        with killed_by(lab, admin_servers, steps):
            for number in itertools.count(1):
                log = Tail(lab.log(AGENT_PROGRAM))
                steps.kill_at(number)
                server_id = launch.request("steps", networks=private_network)
                eventually(lambda id_=server_id: steps.not_taken or is_settled(id_), "launched, or the agent killed")
                killed = was_killed(lab, steps, log)
                story.append(f"{number}: {steps.not_taken or 'none'}")
                eventually(lambda id_=server_id: is_settled(id_), "launched, or failed")
                balance(books)
                server = servers.get(server_id)
                story[-1] += f" -> {server['status']}"
                if server["status"] == "ERROR":
                    assert server["fault"]["message"]
                    owned = "SELECT COUNT(*) FROM neutron.ports WHERE device_id = %(id)s"
                    assert lab.sql(owned, {"id": server_id}) == "0", "a port is left"
                servers.delete(server_id)
                servers.wait_gone(server_id)
                # What the agent does by and by is not waited for.
                balance(books, 5)
                if not killed:
                    assert server["status"] == "ACTIVE"
                    break
    finally:
        print("\n".join(story))
    assert number > 5, "the steps are not seen"


def test_a_deletion_comes_to_its_end_after_an_agent_that_was_killed_before_any_step(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    tenant: Tenant,
    private_network: list[Json],
    steps: Steps,
) -> None:
    books = Books(lab, tenant.project_id)
    story: list[str] = []
    try:
        with killed_by(lab, admin_servers, steps):
            for number in itertools.count(1):
                server_id = launch("steps", networks=private_network)["id"]
                log = Tail(lab.log(AGENT_PROGRAM))
                steps.kill_at(number)
                servers.delete(server_id)
                eventually(
                    lambda id_=server_id: steps.not_taken or not servers.exists(id_), "gone, or the agent killed"
                )
                killed = was_killed(lab, steps, log)
                story.append(f"{number}: {steps.not_taken or 'none'}")
                servers.wait_gone(server_id)
                balance(books)
                if not killed:
                    break
    finally:
        print("\n".join(story))
    assert number > 5, "the steps are not seen"
