"""What happens to servers when the agent, Docker or RabbitMQ goes away and comes back."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Launcher
from harness import hosts
from harness.amqp import Amqp, RpcFailure, instance, wait_consumers
from harness.faults import without_wiring
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import kill_agent, setting, without
from harness.servers import Json, Refused, Servers, events, wait_event
from harness.waiting import eventually
from keystoneauth1.exceptions import ConnectFailure
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.usefixtures("usable_afterwards")]


def started_at(lab: Lab, server_id: str) -> str:
    return lab.docker("inspect", "--format", "{{.State.StartedAt}}", f"nova-{server_id}")


def runs_since(lab: Lab, server_id: str, before: str) -> bool:
    """Whether the container runs, and was started at another time than `before`. A Docker that is away says nothing."""
    form = "{{.State.Running}} {{.State.StartedAt}}"
    running, _, started = lab.docker("inspect", "--format", form, f"nova-{server_id}", check=False).partition(" ")
    return running == "true" and started != before


def wait_answering(servers: Servers, server_id: str) -> None:
    """Wait until the agent answers calls about a server."""

    def answers() -> bool:
        try:
            servers.console(server_id, 1)
        except (Refused, ConnectFailure):
            return False
        return True

    # A call that was lost with the broker's queue is answered by nova-api's patience of a minute, once.
    eventually(answers, "the agent answers")


@contextlib.contextmanager
def without_network_agent(lab: Lab, admin_servers: Servers) -> Iterator[None]:
    """Ports stay unwired for a while; afterwards what wires them is at work again."""
    stopped = time.time()
    try:
        with without_wiring(lab):
            yield
    finally:
        if lab.network == "ovn":
            # Ends when the controller has done all that OVN's database says.
            lab.run(["ovn-nbctl", f"--db=unix:{lab.state}/run/ovn/nb.sock", "--wait=hv", "sync"], seconds=300)
        else:
            wait_network_agent(lab, admin_servers, stopped)


def wait_network_agent(lab: Lab, admin_servers: Servers, since: float) -> None:
    """Wait until the Open vSwitch agent has reported after `since` (it wires ports from then on)."""

    def reported() -> bool:
        for agent in admin_servers.connection.network.agents(agent_type="Open vSwitch agent", host=lab.host):
            seen = time.mktime(time.strptime(agent.last_heartbeat_at[:19], "%Y-%m-%d %H:%M:%S")) - time.timezone
            return seen >= since
        return False

    eventually(reported, "a report of the Open vSwitch agent")


# ------------------------------------------------------------ the agent


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
    starts = _starts(lab, server_id)
    with without(lab, AGENT_PROGRAM):
        servers.action(server_id, "reboot", {"type": kind})
    servers.wait(server_id, "ACTIVE")
    # Its turn comes after that of the request, whoever was first to obey it.
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    assert _starts(lab, server_id) == starts + 1


def _asks(servers: Servers, server_id: str, action: str) -> Json | None:
    """The body of an action."""
    if action == "rebuild":
        return {"imageRef": servers.get(server_id)["image"]["id"]}
    if action == "resize":
        return {"flavorRef": servers.connection.compute.find_flavor("c1.small", ignore_missing=False).id}
    return {"name": "awaited"} if action == "createImage" else None


def _ask_and_wait_for_the_queue(lab: Lab, servers: Servers, amqp: Amqp, server_id: str, action: str) -> None:
    queue = f"compute.{lab.host}"
    before = amqp.waiting(queue)
    servers.action(server_id, action, _asks(servers, server_id, action))
    eventually(lambda: amqp.waiting(queue) > before, "the request in the queue")


@pytest.mark.amqp
@pytest.mark.full
@pytest.mark.parametrize(
    ("action", "event", "status"),
    [
        ("rescue", "compute_rescue_instance", "RESCUE"),
        ("rebuild", "compute_rebuild_instance", "ACTIVE"),
        ("resize", "compute_finish_resize", "VERIFY_RESIZE"),
        ("shelve", "compute_shelve_instance", "SHELVED_OFFLOADED"),
        ("createImage", "compute_snapshot_instance", "ACTIVE"),
    ],
)
def test_what_cannot_be_repeated_and_had_not_begun_is_left_to_its_request(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    user: Connection,
    amqp: Amqp,
    action: str,
    event: str,
    status: str,
) -> None:
    server_id = launch("awaited")["id"]
    with without(lab, AGENT_PROGRAM):
        _ask_and_wait_for_the_queue(lab, servers, amqp, server_id, action)
    assert wait_event(admin_servers, server_id, action, event).result == "Success"
    assert servers.wait_idle(server_id)["status"] == status
    images = list(user.image.images(name="awaited"))
    assert [image.status for image in images] == (["active"] if action == "createImage" else [])
    for image in images:
        user.image.delete_image(image)


@pytest.mark.amqp
@pytest.mark.full
def test_of_a_request_that_a_broker_has_lost_its_user_is_told(
    lab: Lab, launch: Launcher, servers: Servers, amqp: Amqp
) -> None:
    server_id = launch("awaited")["id"]
    with without(lab, AGENT_PROGRAM):
        _ask_and_wait_for_the_queue(lab, servers, amqp, server_id, "rescue")
        amqp.purge(f"compute.{lab.host}")
    assert "restarted meanwhile" in servers.wait(server_id, "ERROR")["fault"]["message"]
    servers.action(server_id, "reboot", {"type": "HARD"})
    servers.wait(server_id, "ACTIVE")


@pytest.mark.amqp
@pytest.mark.full
def test_a_request_whose_work_was_done_before_it_came_succeeds_and_does_nothing(
    lab: Lab, launch: Launcher, servers: Servers, amqp: Amqp
) -> None:
    """As when recovery was faster than the queue: the request finds no task, and the server as it shall be."""
    server_id = launch("done")["id"]
    for action, method, status in [
        ("pause", "pause_instance", "PAUSED"),
        ("unpause", "unpause_instance", "ACTIVE"),
        ("suspend", "suspend_instance", "SUSPENDED"),
        ("resume", "resume_instance", "ACTIVE"),
        ("reboot", "reboot_instance", "ACTIVE"),
        ("os-stop", "stop_instance", "SHUTOFF"),
        ("os-start", "start_instance", "ACTIVE"),
    ]:
        hard = {"type": "HARD"} if action == "reboot" else None
        servers.action(server_id, action, hard)
        servers.wait(server_id, status)
        before = started_at(lab, server_id)
        more = {"reboot_type": "HARD"} if hard else {}
        amqp.call("compute", lab.host, method, {"instance": instance(server_id), **more})
        assert (servers.get(server_id)["status"], started_at(lab, server_id)) == (status, before), action
    assert _faults(lab, server_id) == "0"


@pytest.mark.amqp
@pytest.mark.full
def test_a_request_without_its_task_leaves_the_task_of_another_alone_while_docker_is_away(
    lab: Lab, launch: Launcher, servers: Servers, amqp: Amqp
) -> None:
    server_id = launch("busy")["id"]
    image = {"image_id": str(uuid.uuid4())}
    here = {"source_compute": lab.host, "dest_compute": lab.host}
    migration = {"migration": {**instance(server_id, **here), "nova_object.name": "Migration"}}
    requests: dict[str, Json] = {
        "stop_instance": {},
        "start_instance": {},
        "pause_instance": {},
        "unpause_instance": {},
        "suspend_instance": {},
        "resume_instance": {},
        "reboot_instance": {},
        "unrescue_instance": {},
        "rebuild_instance": {},
        "snapshot_instance": image,
        "backup_instance": {**image, "backup_type": "daily", "rotation": 1},
        "shelve_instance": image,
        "shelve_offload_instance": {},
        "prep_resize": migration,
        "resize_instance": migration,
        "finish_resize": migration,
    }
    with without(lab, "dockerd"):
        _set_task(lab, server_id, "rescuing")
        for method, more in requests.items():
            with pytest.raises(RpcFailure) as failure:
                amqp.call("compute", lab.host, method, {"instance": instance(server_id, host=lab.host), **more})
            assert failure.value.cls.startswith("UnexpectedTaskStateError"), (method, failure.value)
            shown = servers.get(server_id)
            assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", "rescuing"), method
        _set_task(lab, server_id, None)
    servers.wait_idle(server_id)


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
        _set_task(lab, server_id, "reboot_started_hard")
    finally:
        kill_agent(lab)
    assert servers.wait_idle(server_id)["status"] == "ACTIVE"
    assert lab.docker("ps", "--all", "--format={{.Names}}", f"--filter=name={name}") == name


def _faults(lab: Lab, server_id: str) -> str:
    return lab.sql("SELECT COUNT(*) FROM nova.instance_faults WHERE instance_uuid = %(id)s", {"id": server_id})


def _set_task(lab: Lab, server_id: str, task: str | None) -> None:
    value = "NULL" if task is None else f"'{task}'"
    lab.sql(f"UPDATE nova.instances SET task_state = {value} WHERE uuid = '{server_id}';")  # noqa: S608, the test's own


def _starts(lab: Lab, server_id: str) -> int:
    """How often the server's container has been started."""
    of_server = [f"--filter=container=nova-{server_id}", "--filter=event=start"]
    return len(lab.docker("events", "--since=24h", "--until=0s", *of_server).splitlines())


def _has(port: Any, shown: str, name: str) -> bool:
    """Whether the interface of this name has an address of the port."""
    lines = [line for line in shown.splitlines() if f" {name} " in line]
    return any(f" {fixed['ip_address']}/" in line for line in lines for fixed in port.fixed_ips)


@pytest.mark.both_doors
def test_a_server_that_ended_while_the_agent_was_away_is_shut_off(lab: Lab, launch: Launcher, servers: Servers) -> None:
    server_id = launch("mortal")["id"]
    with without(lab, AGENT_PROGRAM):
        lab.docker("kill", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF")


@pytest.mark.amqp  # nova-compute says nothing of it.
@pytest.mark.full
def test_a_server_whose_container_somebody_removed_is_in_error_and_says_why(
    lab: Lab, launch: Launcher, servers: Servers
) -> None:
    server_id = launch("robbed")["id"]
    lab.docker("rm", "--force", f"nova-{server_id}")
    assert "vanished" in servers.wait(server_id, "ERROR")["fault"]["message"]
    servers.action(server_id, "rebuild", {"imageRef": servers.get(server_id)["image"]["id"]})
    servers.wait(server_id, "ACTIVE")


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


def _wait_spawning(servers: Servers, server_id: str, lab: Lab) -> None:
    """The build has its network namespace and waits for its port to be wired."""
    servers.until(server_id, lambda: servers.get(server_id)["OS-EXT-STS:task_state"] == "spawning", "spawning")
    eventually(lambda: f"nova-{server_id}" in lab.run(["ip", "netns", "list"]), "the namespace")


@pytest.mark.amqp  # A stock nova-compute deletes a server only when its build has ended.
def test_a_server_that_is_still_built_can_be_deleted_at_once(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json]
) -> None:
    """The port is never wired, so that the build waits; a delete does not wait with it."""
    with without_network_agent(lab, admin_servers):
        server_id = launch.request("unborn", networks=private_network)
        _wait_spawning(servers, server_id, lab)
        servers.delete(server_id)
        servers.wait_gone(server_id)


@pytest.mark.amqp  # nova-compute does not ask the agent for anything while it waits for the port, and goes on.
def test_an_agent_that_dies_while_it_builds_leaves_no_task_and_nothing_else(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json]
) -> None:
    with without_network_agent(lab, admin_servers):
        server_id = launch.request("interrupted", networks=private_network)
        _wait_spawning(servers, server_id, lab)
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
            _wait_spawning(servers, server_id, lab)
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


# ------------------------------------------------------------ RabbitMQ


def test_a_restart_of_rabbitmq_heals(lab: Lab, launch: Launcher, servers: Servers) -> None:
    server_id = launch("patient")["id"]
    before = lab.pid(AGENT_PROGRAM)
    lab.supervisorctl("restart", "rabbitmq")
    # The rest of the cloud heals too, each service in its own time.
    wait_consumers(lab, "conductor", "scheduler", f"compute.{lab.host}")
    wait_answering(servers, server_id)
    assert lab.pid(AGENT_PROGRAM) == before, "the agent did not survive"
    assert servers.get(server_id)["status"] == "ACTIVE"
    # A call between others of the cloud may have been lost with their queues, and is patient for a minute.
    servers.wait(launch.request("healed"), "ACTIVE")


# ------------------------------------------------------------ Docker


@pytest.mark.both_doors
def test_without_docker_requests_fail_clearly_and_all_is_well_when_it_is_back(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    def service() -> Json:
        return hosts.service(admin_servers)

    running, doomed = launch("running")["id"], launch("doomed")["id"]
    with without(lab, "dockerd"):
        eventually(lambda: service()["status"] == "disabled", "the host taken off the scheduler's list")
        reason = service()["disabled_reason"]
        assert reason.startswith("AUTO: ") and "docker" in reason.lower(), reason
        failed = launch.failing("too-early")
        # Another host might have a Docker that runs; there is none.
        assert "No valid host" in failed["fault"]["message"]
        # The containers ended with their engine. Whatever Nova makes of that, no task is left over.
        servers.wait_idle(running)
        servers.delete(doomed)
        servers.wait(doomed, "ERROR")
    # A delete that failed without Docker may be asked for again.
    servers.delete(doomed)
    servers.wait_gone(doomed)
    servers.wait(running, "SHUTOFF")
    servers.action(running, "os-start")
    servers.wait(running, "ACTIVE")
    hosts.wait_usable(admin_servers)
    assert service()["disabled_reason"] is None
    launch("later")


@pytest.mark.full
@pytest.mark.amqp  # A stock nova-compute hears of a Docker that comes back, and starts nothing.
@pytest.mark.parametrize("how", ["restart", pytest.param("kill", marks=pytest.mark.full)])
def test_where_guests_are_resumed_a_restart_of_docker_starts_again_what_was_running(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, how: str
) -> None:
    running, stopped = launch("running")["id"], launch("stopped")["id"]
    servers.action(stopped, "os-stop")
    servers.wait(stopped, "SHUTOFF")
    configuration = lab.state / "etc" / f"{AGENT_PROGRAM}.conf"
    with setting(configuration, "DEFAULT", "resume_guests_state_on_host_boot", "true"):
        try:
            lab.supervisorctl("restart", AGENT_PROGRAM)
            hosts.wait_usable(admin_servers)
            before = started_at(lab, running)
            if how == "kill":
                os.kill(lab.pid("dockerd"), signal.SIGKILL)
            else:
                lab.supervisorctl("restart", "dockerd")
            eventually(lambda: runs_since(lab, running, before), "the container started again")
            servers.wait_idle(running)
            assert servers.get(running)["status"] == "ACTIVE"
            assert not [event for event in events(admin_servers, running) if event.name == "compute_stop_instance"]
            assert servers.get(stopped)["status"] == "SHUTOFF"
            assert not runs_since(lab, stopped, "")
        finally:
            hosts.wait_usable(admin_servers)
    lab.supervisorctl("restart", AGENT_PROGRAM)
    hosts.wait_usable(admin_servers)
