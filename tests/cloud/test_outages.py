"""What waited, or was under way, while the agent or what it needs at its start was away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness.faults import silent, without_network_agent
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import agent_with, kill_agent, without
from harness.restarts import wait_spawning
from harness.servers import Json, Servers
from harness.tenant import Tenant
from harness.waiting import eventually

# Behind nova-compute what waits is nova-compute's.
pytestmark = [
    pytest.mark.agent,
    pytest.mark.alone,
    pytest.mark.amqp,
    pytest.mark.usefixtures("usable_afterwards"),
]


AT_A_TIME = 10
"""Launches: the default of `max_concurrent_builds`."""


@pytest.fixture
def many_servers(admin_servers: Servers, tenant: Tenant) -> Iterator[None]:
    """The project may have more than Nova's ten servers."""
    quota = f"/os-quota-sets/{tenant.project_id}"
    admin_servers.request("PUT", quota, {"quota_set": {"instances": 50, "cores": 50}})
    yield
    admin_servers.request("DELETE", quota)


@pytest.mark.usefixtures("many_servers")
def test_an_agent_that_dies_under_many_launches_leaves_none_of_them_undecided(
    lab: Lab, launch: Launcher, servers: Servers
) -> None:
    """More than are built at a time, so that some wait for their turn."""
    log = Tail(lab.log(AGENT_PROGRAM))
    # A Docker that does not answer holds the launches where they are.
    with silent(lab, "dockerd"):
        launched = [launch.request("stormy") for _ in range(AT_A_TIME + 2)]
        eventually(lambda: log.text().count(": building name=") == AT_A_TIME, "as many launches begun as may be")
        kill_agent(lab)
    ended = [servers.wait_settled(server_id) for server_id in launched]
    for server in ended:
        assert server["status"] == "ACTIVE" or server["fault"]["message"], "nobody knows why it failed"
    for server_id in launched:
        servers.delete(server_id)
    for server_id in launched:
        servers.wait_gone(server_id)


@pytest.mark.full
@pytest.mark.usefixtures("many_servers")
def test_deletes_that_waited_for_the_agent_are_all_done(lab: Lab, launch: Launcher, servers: Servers) -> None:
    """More than are worked on at a time. None ends in an error because it had to wait for its turn."""
    launched = [launch.request("backlog") for _ in range(20)]
    for server_id in launched:
        servers.wait(server_id, "ACTIVE")
    with without(lab, AGENT_PROGRAM):
        for server_id in launched:
            servers.delete(server_id)
    wait_all_gone(servers, launched)


def wait_all_gone(servers: Servers, launched: list[str]) -> None:
    """Wait until none is left. One that is in ERROR fails at once."""

    def left() -> list[Json]:
        seen = servers.request("GET", "/servers/detail")["servers"]
        return [server for server in seen if server["id"] in launched]

    def gone() -> bool:
        failed = [(server["id"], server.get("fault")) for server in left() if server["status"] == "ERROR"]
        assert not failed, f"deletes failed: {failed}"
        return not left()

    eventually(gone, f"{len(launched)} servers deleted")


@pytest.mark.full
@pytest.mark.parametrize("service", [pytest.param("placement", marks=pytest.mark.full), "keystone"])
def test_an_agent_that_starts_before_a_service_waits_for_it(
    lab: Lab, launch: Launcher, servers: Servers, service: str
) -> None:
    running = launch("there")["id"]
    log = Tail(lab.log(AGENT_PROGRAM))
    with without(lab, service):
        lab.supervisorctl("restart", AGENT_PROGRAM)
        started = lab.pid(AGENT_PROGRAM)
        # Without Keystone it cannot report there either.
        eventually(lambda: "cannot report this host to placement" in log.text(), f"the agent missing {service}")
    servers.wait(launch.request("served"), "ACTIVE")
    assert lab.pid(AGENT_PROGRAM) == started, "the agent ended instead of waiting"
    servers.action(running, "os-stop")
    servers.wait(running, "SHUTOFF")


ASKED_AGAIN = "nobody knows what has become of a"


@pytest.mark.full
@pytest.mark.parametrize("way", ["launch", "unshelve"])
def test_a_server_whose_start_no_conductor_has_heard_of_is_active_when_one_does(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json], way: str
) -> None:
    server_id = None
    if way == "unshelve":
        server_id = launch("unheard", networks=private_network)["id"]
        servers.action(server_id, "shelve")
        servers.wait(server_id, "SHELVED_OFFLOADED")
    log = Tail(lab.log(AGENT_PROGRAM))
    with (
        agent_with(lab, admin_servers, section="DEFAULT", rpc_response_timeout="5"),
        contextlib.ExitStack() as conductor,
    ):
        with without_network_agent(lab, admin_servers):
            if server_id:
                servers.action(server_id, "unshelve")
            else:
                server_id = launch.request("unheard", networks=private_network)
            wait_spawning(lab, servers, server_id)
            conductor.enter_context(silent(lab, "nova-conductor"))
        eventually(lambda: log.text().count(ASKED_AGAIN) > 1, "the agent asking again")
        conductor.close()
        assert "fault" not in servers.wait(server_id, "ACTIVE")
    assert lab.docker("inspect", "--format", "{{.State.Running}}", f"nova-{server_id}") == "true"


@pytest.mark.full
def test_an_agent_that_stops_does_not_wait_for_a_conductor_that_is_away(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    server_id = launch("unheard")["id"]
    log = Tail(lab.log(AGENT_PROGRAM))
    with agent_with(lab, admin_servers, section="DEFAULT", rpc_response_timeout="5"):
        with contextlib.ExitStack() as conductor:
            conductor.enter_context(silent(lab, "nova-conductor"))
            servers.action(server_id, "os-stop")
            eventually(lambda: ASKED_AGAIN in log.text(), "the agent asking again")
            with without(lab, AGENT_PROGRAM):
                conductor.close()
        servers.wait(server_id, "SHUTOFF")
    told = log.text()
    assert "given up: nobody knows what has become of a change" in told
    assert "operations still run" not in told, "it waited until its patience was over"


@pytest.mark.full
def test_an_agent_that_stops_while_it_stops_a_server_by_itself_keeps_no_request_for_it_waiting(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    add_image: Callable[..., str],
    tiny: object,
) -> None:
    command = ("sh", "-c", "trap : TERM; echo deaf; while :; do sleep 1; done")
    image = add_image(tiny.running(*command).tar(), "deaf", os_shutdown_timeout="600")  # type: ignore[attr-defined]
    server_id = launch("unheard", image=image)["id"]
    servers.wait_console(server_id, "deaf")
    servers.action(server_id, "os-stop")
    lab.docker("kill", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF")
    log = Tail(lab.log(AGENT_PROGRAM))
    with (
        agent_with(lab, admin_servers, section="DEFAULT", rpc_response_timeout="5"),
        contextlib.ExitStack() as conductor,
    ):
        # Nobody asked for that: it is stopped again.
        lab.docker("start", f"nova-{server_id}")
        eventually(lambda: servers.get(server_id)["OS-EXT-STS:task_state"] == "powering-off", "a stop by itself")
        conductor.enter_context(silent(lab, "nova-conductor"))
        lab.docker("kill", f"nova-{server_id}")
        eventually(lambda: ASKED_AGAIN in log.text(), "the agent asking again")
        servers.delete(server_id)
        with without(lab, AGENT_PROGRAM):
            told = log.text()
            conductor.close()
    assert 'rpc{method="terminate_instance"' in told, "the deletion did not have its turn"
    assert "operations still run" not in told, "it waited until its patience was over"
