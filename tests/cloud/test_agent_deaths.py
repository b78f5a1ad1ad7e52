"""An agent that dies in the middle of something."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from conftest import Launcher
from harness.faults import without_network_agent
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import kill_agent, without
from harness.restarts import set_task, starts, wait_spawning
from harness.servers import Json, Servers
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.usefixtures("usable_afterwards")]


@pytest.mark.amqp  # nova-compute does not ask the agent for anything while it waits for the port, and goes on.
def test_an_agent_that_dies_while_it_builds_leaves_no_task_and_nothing_else(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json]
) -> None:
    with without_network_agent(lab, admin_servers):
        server_id = launch.request("interrupted", networks=private_network)
        wait_spawning(lab, servers, server_id)
        kill_agent(lab)
        server = servers.wait(server_id, "ERROR")
    assert server["OS-EXT-STS:task_state"] is None
    servers.delete(server_id)
    servers.wait_gone(server_id)


@pytest.mark.full
@pytest.mark.amqp  # The ports are nova-compute's business then.
def test_a_users_port_survives_an_agent_that_dies_before_it_recorded_whose_port_it_is(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    user: Connection,
    private_network: list[Json],
    unique: Callable[[str], str],
) -> None:
    """The moment between the binding of a port and the write of Nova's cache is too short to be met, so the cache is
    taken back to what it was."""
    port = user.network.create_port(name=unique("port"), network_id=private_network[0]["uuid"])
    try:
        with without_network_agent(lab, admin_servers):
            server_id = launch.request("interrupted", networks=[{"port": port.id}])
            wait_spawning(lab, servers, server_id)
            os.kill(lab.pid(AGENT_PROGRAM), signal.SIGSTOP)
            try:
                lab.sql(
                    f"UPDATE nova.instance_info_caches SET network_info = '[]' WHERE instance_uuid = '{server_id}';"  # noqa: S608, it is the server's own id
                )
            finally:
                kill_agent(lab)
            servers.wait(server_id, "ERROR")
        left = user.network.get_port(port.id)
        assert left.device_id == ""
        servers.delete(server_id)
        servers.wait_gone(server_id)
    finally:
        user.network.delete_port(port, ignore_missing=True)


@pytest.mark.both_doors
def test_an_agent_that_dies_while_it_deletes_finishes_the_delete_later(
    lab: Lab, launch: Launcher, servers: Servers
) -> None:
    server_id = launch("half-gone")["id"]
    dockerd, agent_log = lab.pid("dockerd"), Tail(lab.log(AGENT_PROGRAM))
    # A Docker that does not answer holds the delete where it is.
    os.kill(dockerd, signal.SIGSTOP)
    try:
        servers.delete(server_id)
        operation = "compute_terminate_instance" if lab.door == "amqp" else "delete_guest"
        begun = f'name="{operation}" instance={server_id}'
        eventually(lambda: begun in agent_log.text(), "the agent at work")
        kill_agent(lab)
    finally:
        os.kill(dockerd, signal.SIGCONT)
    servers.wait_gone(server_id)


@pytest.mark.amqp
@pytest.mark.full
def test_the_container_from_before_a_hard_reboot_goes_when_the_agent_died_before_it_said_so(
    lab: Lab, launch: Launcher, servers: Servers
) -> None:
    """The moment between the start of the new container and the end of the task is too short to be met."""
    server_id = launch("again")["id"]
    name = f"nova-{server_id}"
    form = '{{index .Config.Labels "org.openstack.nova.compute-id"}}'
    compute = lab.docker("inspect", "--format", form, name)
    os.kill(lab.pid(AGENT_PROGRAM), signal.SIGSTOP)
    try:
        labels = [
            f"--label=org.openstack.nova.instance-uuid={server_id}",
            f"--label=org.openstack.nova.compute-id={compute}",
        ]
        image = lab.docker("inspect", "--format", "{{.Image}}", name)
        lab.docker("create", f"--name={name}-aside", *labels, image)
        set_task(lab, server_id, "reboot_started_hard")
    finally:
        kill_agent(lab)
    assert servers.wait_idle(server_id)["status"] == "ACTIVE"
    assert lab.docker("ps", "--all", "--format={{.Names}}", f"--filter=name={name}") == name


@pytest.mark.amqp
@pytest.mark.full
def test_a_hard_reboot_of_a_server_in_error_that_the_agent_did_not_come_to_is_done(
    lab: Lab, launch: Launcher, servers: Servers
) -> None:
    server_id = launch("mended")["id"]
    before = starts(lab, server_id)
    with without(lab, AGENT_PROGRAM):
        lab.sql(f"UPDATE nova.instances SET vm_state = 'error' WHERE uuid = '{server_id}';")  # noqa: S608, the test's own
        set_task(lab, server_id, "rebooting_hard")
    assert servers.wait_idle(server_id)["status"] == "ACTIVE"
    assert starts(lab, server_id) == before + 1
