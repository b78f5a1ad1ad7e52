"""Requests that waited for the agent, came late, or never: whose the task of a server is."""

from __future__ import annotations

import uuid

import pytest
from conftest import Launcher
from harness.amqp import Amqp, RpcFailure, instance
from harness.books import Books
from harness.faults import silent
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import kill_agent, without
from harness.restarts import count_faults, set_task, started_at
from harness.servers import Json, Servers, wait_event
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.usefixtures("usable_afterwards")]


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
def test_a_resize_that_is_still_with_the_conductor_is_left_to_its_request(
    lab: Lab, launch: Launcher, servers: Servers
) -> None:
    """The conductor has it for as long as the scheduler does not answer, and the agent's queue does not."""
    server_id = launch("awaited")["id"]
    log = Tail(lab.log(AGENT_PROGRAM))
    looked = "nothing of the instance's task has begun"
    with silent(lab, "nova-scheduler"):
        servers.action(server_id, "resize", _asks(servers, server_id, "resize"))
        kill_agent(lab)
        eventually(lambda: log.text().count(looked) > 1, "the agent has looked a second time")
    servers.wait(server_id, "VERIFY_RESIZE")


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
        ("os-stop", "stop_instance", "SHUTOFF"),
        ("os-start", "start_instance", "ACTIVE"),
    ]:
        servers.action(server_id, action)
        servers.wait(server_id, status)
        before = started_at(lab, server_id)
        amqp.call("compute", lab.host, method, {"instance": instance(server_id)})
        assert (servers.get(server_id)["status"], started_at(lab, server_id)) == (status, before), action
    assert count_faults(lab, server_id) == "0"


@pytest.mark.amqp
@pytest.mark.full
def test_a_reboot_that_recovery_has_done_is_done_once(lab: Lab, launch: Launcher, servers: Servers, amqp: Amqp) -> None:
    """A server is the same before a reboot and after it: a request whose reboot nobody has done is refused."""
    server_id = launch("rebooted")["id"]
    first = started_at(lab, server_id)
    with without(lab, AGENT_PROGRAM):
        set_task(lab, server_id, "rebooting_hard")
    servers.wait_idle(server_id)
    second = started_at(lab, server_id)
    assert second != first

    def come() -> None:
        amqp.call("compute", lab.host, "reboot_instance", {"instance": instance(server_id), "reboot_type": "HARD"})

    come()
    assert (servers.wait_idle(server_id)["status"], started_at(lab, server_id)) == ("ACTIVE", second)
    with pytest.raises(RpcFailure) as refused:
        come()
    assert refused.value.cls == "UnexpectedTaskStateError"
    assert (servers.wait_idle(server_id)["status"], started_at(lab, server_id)) == ("ACTIVE", second)


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
        "live_migration": {},
    }
    with without(lab, "dockerd"):
        set_task(lab, server_id, "rescuing")
        for method, more in requests.items():
            with pytest.raises(RpcFailure) as failure:
                amqp.call("compute", lab.host, method, {"instance": instance(server_id, host=lab.host), **more})
            assert failure.value.cls.startswith("UnexpectedTaskStateError"), (method, failure.value)
            shown = servers.get(server_id)
            assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", "rescuing"), method
        set_task(lab, server_id, None)
    servers.wait_idle(server_id)


@pytest.mark.amqp
@pytest.mark.full
def test_a_refused_request_without_its_task_leaves_the_task_of_another_alone(
    lab: Lab, launch: Launcher, servers: Servers, amqp: Amqp
) -> None:
    server_id = launch("busy")["id"]
    elsewhere = {"migration": {**instance(server_id, dest_compute="elsewhere"), "nova_object.name": "Migration"}}
    requests: dict[str, tuple[str, str, Json]] = {
        "prep_resize": ("elsewhere", "UnexpectedTaskStateError", elsewhere),
        "resize_instance": (lab.host, "UnexpectedTaskStateError", elsewhere),
        "finish_resize": (lab.host, "UnexpectedTaskStateError", elsewhere),
        "rebuild_instance": ("elsewhere", "UnexpectedTaskStateError", {**elsewhere, "recreate": True}),
        # For these Nova sets no task.
        "attach_volume": (lab.host, "NotSupported", {}),
        "trigger_crash_dump": (lab.host, "NotSupported", {}),
        "live_migration_abort": (lab.host, "NotSupported", elsewhere),
    }
    set_task(lab, server_id, "rescuing")
    for method, (host, failure, more) in requests.items():
        with pytest.raises(RpcFailure) as caught:
            amqp.call("compute", lab.host, method, {"instance": instance(server_id, host=host), **more})
        assert caught.value.cls.startswith(failure), (method, caught.value)
        shown = servers.get(server_id)
        assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", "rescuing"), method
    set_task(lab, server_id, None)
    servers.wait_idle(server_id)


@pytest.mark.amqp
@pytest.mark.full
def test_a_resize_that_comes_when_its_task_is_gone_leaves_nothing(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, tenant: Tenant, amqp: Amqp
) -> None:
    """An operator has reset the server's state meanwhile."""
    server_id = launch("reset")["id"]
    with without(lab, AGENT_PROGRAM):
        _ask_and_wait_for_the_queue(lab, servers, amqp, server_id, "resize")
        admin_servers.action(server_id, "os-resetState", {"state": "active"})
    assert wait_event(admin_servers, server_id, "resize", "compute_prep_resize").result == "Error"
    assert servers.wait_idle(server_id)["status"] == "ACTIVE"
    statement = "SELECT status FROM nova.migrations WHERE instance_uuid = %(id)s"
    eventually(lambda: lab.sql(statement, {"id": server_id}) == "error", "its migration given up")
    books = Books(lab, tenant.project_id)
    assert [line for line in books.disagreements() if server_id in line or "consumer" in line] == []


@pytest.mark.amqp
@pytest.mark.full
def test_a_launch_that_was_given_up_is_not_built_when_its_request_comes(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, tenant: Tenant, amqp: Amqp
) -> None:
    """Its user was told that it failed, and may have launched another one."""
    queue = f"compute.{lab.host}"
    with without(lab, AGENT_PROGRAM):
        before = amqp.waiting(queue)
        server_id = launch.request("given-up")
        eventually(lambda: amqp.waiting(queue) > before, "the request in the queue")
        admin_servers.action(server_id, "os-resetState", {"state": "error"})
    wait_event(admin_servers, server_id, "create", "compute__do_build_and_run_instance")
    assert servers.wait_idle(server_id)["status"] == "ERROR"
    assert admin_servers.get(server_id)["OS-EXT-SRV-ATTR:host"] is None
    assert lab.docker("ps", "-aq", "--filter", f"name={server_id}") == ""
    books = Books(lab, tenant.project_id)
    holds = f"server {server_id} (error) holds"
    eventually(lambda: not [line for line in books.disagreements() if holds in line], "what it held is given back")
