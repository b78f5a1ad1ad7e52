"""What a restart of the agent leaves alone, and what is done after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Launcher
from harness.faults import silent
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import kill_agent, without
from harness.restarts import started_at, starts, wait_answering
from harness.servers import Json, Servers, wait_event
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.usefixtures("usable_afterwards")]


@pytest.mark.parametrize("how", ["kill", pytest.param("terminate", marks=pytest.mark.full)])
@pytest.mark.both_doors
def test_a_restart_of_the_agent_leaves_running_servers_alone(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    private_network: list[Json],
    guest_of: Callable,
    how: str,
    key_name: str,
) -> None:
    server_id = launch("steady", networks=private_network, key_name=key_name)["id"]
    inside = guest_of(server_id).wait_ssh()
    before = started_at(lab, server_id)
    if how == "kill":
        kill_agent(lab)
    else:
        lab.supervisorctl("restart", AGENT_PROGRAM)
    wait_answering(servers, server_id)
    assert started_at(lab, server_id) == before
    assert servers.get(server_id)["status"] == "ACTIVE"
    assert inside.ssh("echo here") == "here"
    # It is the agent's again: the next request is served.
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")


def _has(port: Any, shown: str, name: str) -> bool:
    """Whether the interface of this name has an address of the port."""
    lines = [line for line in shown.splitlines() if f" {name} " in line]
    return any(f" {fixed['ip_address']}/" in line for line in lines for fixed in port.fixed_ips)


@pytest.mark.amqp
@pytest.mark.full
def test_a_port_that_is_deleted_while_a_start_cannot_plug_it_stays_unplugged(
    lab: Lab, launch: Launcher, servers: Servers, admin: Connection, private_network: list[Json]
) -> None:
    server_id = launch("replugged", networks=[*private_network, *private_network])["id"]
    deleted, kept = (port.id for port in admin.network.ports(device_id=server_id))
    log = Tail(lab.log(AGENT_PROGRAM))
    with silent(lab, "ovsdb"):
        kill_agent(lab)
        eventually(lambda: "cannot plug the instance yet" in log.text(), "a start without Open vSwitch")
        admin.network.delete_port(deleted)
        eventually(lambda: "the port was deleted; unplugging it" in log.text(), "the agent told of it")
    eventually(lambda: "every instance has been looked at" in log.text(), "the agent has looked at the servers")
    plugged = ("--columns=external_ids", "find", "Interface", f"external_ids:vm-uuid={server_id}")
    eventually(lambda: deleted not in lab.vsctl(*plugged), "the port unplugged")
    assert kept in lab.vsctl(*plugged)
    assert [face["port_id"] for face in servers.interfaces(server_id)] == [kept]


@pytest.mark.amqp
def test_a_restart_of_the_agent_leaves_the_interfaces_of_a_running_server_alone(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    user: Connection,
    private_network: list[Json],
) -> None:
    server_id = launch("named", networks=[*private_network, *private_network])["id"]

    def interfaces() -> str:
        return lab.docker("exec", f"nova-{server_id}", "ip", "-o", "-4", "address")

    [first] = [port for port in user.network.ports(device_id=server_id) if _has(port, interfaces(), "eth0")]
    servers.request("DELETE", f"/servers/{server_id}/os-interface/{first.id}")
    eventually(lambda: "eth0" not in interfaces(), "eth0 gone")
    eventually(lambda: len(servers.interfaces(server_id)) == 1, "the port gone")
    before = interfaces()
    assert "eth1" in before
    log = Tail(lab.log(AGENT_PROGRAM))
    kill_agent(lab)
    eventually(lambda: "every instance has been looked at" in log.text(), "the agent has looked at the servers")
    assert interfaces() == before


@pytest.mark.both_doors
def test_a_server_that_ended_while_the_agent_was_away_is_shut_off(lab: Lab, launch: Launcher, servers: Servers) -> None:
    server_id = launch("mortal")["id"]
    with without(lab, AGENT_PROGRAM):
        lab.docker("kill", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF")


@pytest.mark.amqp  # Nobody takes such requests for an agent that nova-compute drives.
def test_what_was_asked_while_the_agent_was_away_is_done_when_it_is_back(
    lab: Lab, launch: Launcher, servers: Servers
) -> None:
    stopped, deleted = launch("stopped")["id"], launch("deleted")["id"]
    with without(lab, AGENT_PROGRAM):
        servers.action(stopped, "os-stop")
        servers.delete(deleted)
        waiting = launch.request("waiting")
    servers.wait(stopped, "SHUTOFF")
    servers.wait_gone(deleted)
    servers.wait(waiting, "ACTIVE")


@pytest.mark.both_doors
def test_a_stopped_server_stays_stopped_over_a_restart(lab: Lab, launch: Launcher, servers: Servers) -> None:
    server_id = launch("asleep")["id"]
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    kill_agent(lab)
    wait_answering(servers, server_id)
    assert servers.get(server_id)["status"] == "SHUTOFF"
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")


@pytest.mark.full
@pytest.mark.amqp
def test_a_pause_that_waited_for_the_agent_is_done(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    """By whoever comes first, the request or the look at what was interrupted."""
    server_id = launch("awaited")["id"]
    with without(lab, AGENT_PROGRAM):
        servers.action(server_id, "pause")
    wait_event(admin_servers, server_id, "pause", "compute_pause_instance")
    assert servers.wait_idle(server_id)["status"] == "PAUSED"
    assert lab.docker("inspect", "--format", "{{.State.Paused}}", f"nova-{server_id}") == "true"


@pytest.mark.amqp
@pytest.mark.full
@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_a_reboot_that_waited_for_the_agent_is_done_once(
    lab: Lab, launch: Launcher, servers: Servers, kind: str
) -> None:
    server_id = launch("awaited")["id"]
    before = starts(lab, server_id)
    with without(lab, AGENT_PROGRAM):
        servers.action(server_id, "reboot", {"type": kind})
    servers.wait(server_id, "ACTIVE")
    # Its turn comes after that of the request, whoever was first to obey it.
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    assert starts(lab, server_id) == before + 1
