"""What happens to servers when Docker goes away and comes back, or loses a container."""

from __future__ import annotations

import os
import signal

import pytest
from conftest import Launcher
from harness import hosts
from harness.lab import AGENT_PROGRAM, Lab
from harness.programs import setting, without
from harness.restarts import runs_since, started_at
from harness.servers import Json, Servers, events
from harness.waiting import eventually

pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.usefixtures("usable_afterwards")]


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
