"""An agent that is killed (SIGKILL) before each step of an operation, one by one.

Each time its next start leaves a server that its user can go on with: no task is stuck, all books balance, and what was
in its files is there. Behind nova-compute, which goes on, the operation comes to its end or fails with the reason; what
the conductor, Neutron and Placement are told there is nova-compute's own, and no step of the agent.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from conftest import Launcher
from harness.books import Books
from harness.lab import AGENT_PROGRAM, Lab
from harness.programs import agent_with, environment
from harness.rounds import Operation, Round, attempts, balance, delete_all_of, is_over
from harness.servers import Json, Servers
from harness.steps import Steps
from harness.tenant import Tenant
from openstack.connection import Connection

pytestmark = [
    pytest.mark.agent,
    pytest.mark.alone,
    pytest.mark.full,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("usable_afterwards"),
]

OPERATIONS = [
    Operation("rebuild", keeps=False),
    Operation("resize"),
    Operation("createImage"),
    Operation("os-stop"),
    Operation("os-start", of=("os-stop", "SHUTOFF")),
    Operation("reboot", {"type": "SOFT"}),
    Operation("reboot", {"type": "HARD"}),
    Operation("shelve"),
    Operation("confirmResize", of=("resize", "VERIFY_RESIZE")),
    Operation("revertResize", of=("resize", "VERIFY_RESIZE")),
    Operation("unshelve", of=("shelve", "SHELVED_OFFLOADED")),
    Operation("suspend"),
    Operation("resume", of=("suspend", "SUSPENDED")),
    Operation("rescue"),
    Operation("unrescue", of=("rescue", "RESCUE")),
    Operation("attach"),
    Operation("detach", of=("attach", "ACTIVE")),
    Operation("pause"),
    Operation("unpause", of=("pause", "PAUSED")),
    Operation("changePassword", {"adminPass": "Tr0ub4dor"}),
    Operation("softDelete"),
    Operation("shelveOffload", of=("shelve", "SHELVED")),
    Operation("createBackup"),
    Operation("restore", of=("softDelete", "SOFT_DELETED")),
]


@pytest.fixture(scope="module")
def steps(lab: Lab, admin_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    made = Steps(tmp_path_factory.mktemp("steps"))
    # A request that the conductor may be about to send is waited for as long as that waits for the scheduler.
    with (
        agent_with(lab, admin_servers, "DEFAULT", long_rpc_timeout="10"),
        environment(lab, AGENT_PROGRAM, made.environment),
    ):
        yield made


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
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
    # Behind nova-compute some have one.
    least = 5 if lab.door == "amqp" else 1
    try:
        with operation.where_it_can_be_asked(lab, admin_servers), attempts(lab, admin_servers, steps, least) as each:
            for attempt in each:
                round_.prepare(operation)
                attempt.begin()
                round_.ask(operation.action, operation.arguments)
                attempt.end(round_.is_over)
                status = round_.settle()
                attempt.story += f" -> {status}"
                round_.bring_back(status)
                if operation.keeps:
                    assert round_.has_mark(), "what was in the server's files is lost"
                for image in user.image.images(owner=tenant.project_id, name="steps"):
                    user.image.delete_image(image)
    finally:
        for image in user.image.images(owner=tenant.project_id):
            user.image.delete_image(image, ignore_missing=True)


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
    with attempts(lab, admin_servers, steps) as each:
        for attempt in each:
            attempt.begin()
            server_id = launch.request("steps", networks=private_network)
            attempt.end(functools.partial(is_over, books, server_id))
            status = servers.wait_settled(server_id)["status"]
            attempt.story += f" -> {status}"
            balance(books)
            if status == "ERROR":
                assert attempt.was_killed
                assert servers.get(server_id)["fault"]["message"]
                owned = "SELECT COUNT(*) FROM neutron.ports WHERE device_id = %(id)s"
                assert lab.sql(owned, {"id": server_id}) == "0", "a port is left"
            delete_all_of(servers, books, server_id)


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
    with attempts(lab, admin_servers, steps) as each:
        for attempt in each:
            server_id = launch("steps", networks=private_network)["id"]
            attempt.begin()
            servers.delete(server_id)
            attempt.end(functools.partial(is_over, books, server_id))
            servers.wait_gone(server_id)
            balance(books)
