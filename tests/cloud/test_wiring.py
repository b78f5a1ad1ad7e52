"""A launch whose port is not wired, or of which nobody hears that it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness import hosts
from harness.faults import silent, without_network_agent
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import setting, without
from harness.restarts import wait_spawning
from harness.servers import Json, Servers
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.usefixtures("usable_afterwards")]


@pytest.mark.amqp  # A stock nova-compute deletes a server only when its build has ended.
def test_a_server_that_is_still_built_can_be_deleted_at_once(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json]
) -> None:
    """The port is never wired, so that the build waits; a delete does not wait with it."""
    with without_network_agent(lab, admin_servers):
        server_id = launch.request("unborn", networks=private_network)
        wait_spawning(lab, servers, server_id)
        servers.delete(server_id)
        servers.wait_gone(server_id)


@pytest.fixture
def port_id(user: Connection, private_network: list[Json], unique: Callable[[str], str]) -> Iterator[str]:
    """A port of the user's, which outlives the servers: to be asked for before `launch`."""
    port = user.network.create_port(name=unique("port"), network_id=private_network[0]["uuid"])
    yield port.id
    user.network.delete_port(port, ignore_missing=True)


def _unready(lab: Lab, port_id: str) -> set[str]:
    """Who has not said of a port that it is ready."""
    statement = (
        "SELECT entity FROM neutron.provisioningblocks b JOIN neutron.ports p"
        " ON p.standard_attr_id = b.standard_attr_id WHERE p.id = %(id)s"
    )
    return set(lab.sql(statement, {"id": port_id}).split())


@pytest.mark.full
@pytest.mark.amqp  # A stock nova-compute waits, and fails.
def test_a_port_that_neutron_forgot_to_make_active_is_wired_anew(
    lab: Lab, port_id: str, launch: Launcher, servers: Servers
) -> None:
    """As when its L2 agent and its DHCP agent are ready at one moment: for each the other is still missing."""
    log, anew = Tail(lab.log(AGENT_PROGRAM)), "plugging it once more"
    of_port = f"SELECT standard_attr_id FROM neutron.ports WHERE id = '{port_id}'"  # noqa: S608, the test's own
    lab.sql(f"INSERT INTO neutron.provisioningblocks SELECT standard_attr_id, 'nobody' FROM ({of_port}) AS p")  # noqa: S608
    server_id = launch.request("forgotten", networks=[{"port": port_id}])
    wait_spawning(lab, servers, server_id)
    eventually(lambda: _unready(lab, port_id) == {"nobody"}, "everybody else ready")
    # What wires the port has said so, and says it once more only if it has something to do.
    with silent(lab, lab.network_program):
        eventually(lambda: anew in log.text(), "the agent has looked")
        lab.sql("DELETE FROM neutron.provisioningblocks WHERE entity = 'nobody'")
    servers.wait(server_id, "ACTIVE")


@pytest.mark.full
@pytest.mark.amqp
def test_a_port_of_which_neutrons_word_was_lost_is_found_active(
    lab: Lab, port_id: str, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    log, neutron = Tail(lab.log(AGENT_PROGRAM)), [Tail(lab.log(name)) for name in ("neutron-rpc", "neutron-api")]
    with contextlib.ExitStack() as away:
        with without_network_agent(lab, admin_servers):
            server_id = launch.request("unheard", networks=[{"port": port_id}])
            wait_spawning(lab, servers, server_id)
            away.enter_context(without(lab, "nova-api"))
        # The thread that tells Nova of events has given up.
        given_up = "Exception in thread Thread"
        eventually(lambda: any(given_up in each.text() for each in neutron), "Neutron has told nobody")
    eventually(lambda: hosts.answers(admin_servers), "the API answering")
    servers.wait(server_id, "ACTIVE")
    assert "the port is ACTIVE, of which no event has told" in log.text()


@pytest.mark.full
@pytest.mark.amqp
def test_a_launch_that_takes_longer_than_an_operator_allows_is_in_error(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json]
) -> None:
    configuration = lab.state / "etc" / f"{AGENT_PROGRAM}.conf"
    try:
        with setting(configuration, "DEFAULT", "instance_build_timeout", "1"):
            lab.supervisorctl("restart", AGENT_PROGRAM)
            hosts.wait_usable(admin_servers)
            with without_network_agent(lab, admin_servers):
                server_id = launch.request("endless", networks=private_network)
                servers.until(server_id, lambda: servers.get(server_id)["status"] == "ERROR", "the server in ERROR")
                servers.delete(server_id)
                servers.wait_gone(server_id)
    finally:
        lab.supervisorctl("restart", AGENT_PROGRAM)
        hosts.wait_usable(admin_servers)
