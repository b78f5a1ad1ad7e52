"""Jobs, which end well, and the tags that tell how containers ended and how healthy they are."""

from __future__ import annotations

import pytest
from conftest import Launcher
from harness.lab import Lab
from harness.servers import Servers
from harness.waiting import eventually

pytestmark = [pytest.mark.agent, pytest.mark.both_doors]

JOB = """sh -c '
[ -e /ran ] && { echo again; exec sleep 9999; }
touch /ran; echo done'"""

SERVICE = """sh -c 'trap "echo goodbye; exit 7" USR1; echo up; while :; do sleep 0.1; done'"""
CHECK = '{"test": "test -e /works", "interval": "1s", "retries": 1}'


def _tags(servers: Servers, server_id: str) -> set[str]:
    return set(servers.get(server_id)["tags"])


def _wait_tags(servers: Servers, server_id: str, *tags: str) -> None:
    eventually(lambda: _tags(servers, server_id) == set(tags), f"tags {tags} of {server_id}")


def _listed(servers: Servers, tag: str) -> set[str]:
    found = servers.request("GET", f"/servers?tags={tag}")["servers"]
    return {server["id"] for server in found}


def test_a_job_that_ends_well_is_shut_off_with_its_exit_code_and_runs_again(
    lab: Lab, launch: Launcher, servers: Servers
) -> None:
    server_id = launch.request(
        "job", metadata={"docker:oneshot": "true", "docker:entrypoint": JOB}, tags=["of-its-user"]
    )
    servers.wait(server_id, "SHUTOFF")
    assert "done" in servers.console(server_id)
    _wait_tags(servers, server_id, "exit:0", "of-its-user")
    assert server_id in _listed(servers, "exit:0")
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")
    servers.wait_console(server_id, "again")
    _wait_tags(servers, server_id, "of-its-user")
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    eventually(lambda: any(tag.startswith("exit:") for tag in _tags(servers, server_id)), "how the stop ended it")
    if lab.door != "amqp":
        # Nova itself starts the new container, and then stops it.
        return
    servers.action(server_id, "rebuild", {"imageRef": servers.get(server_id)["image"]["id"]})
    servers.wait(server_id, "SHUTOFF")
    _wait_tags(servers, server_id, "of-its-user")


def test_a_job_that_ends_badly_at_once_is_a_failed_launch(launch: Launcher) -> None:
    metadata = {"docker:oneshot": "true", "docker:entrypoint": "sh -c 'echo no database; exit 3'"}
    message = launch.failing("broken-job", metadata=metadata)["fault"]["message"]
    assert "the container exited at once with code 3; its last words: no database" in message


def test_tags_tell_of_a_servers_health_and_then_of_its_end(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    metadata = {"docker:entrypoint": SERVICE, "docker:healthcheck": CHECK}
    server_id = launch("checked", metadata=metadata)["id"]
    servers.wait_console(server_id, "up")
    _wait_tags(servers, server_id, "health:unhealthy")
    lab.docker("exec", f"nova-{server_id}", "touch", "/works")
    _wait_tags(servers, server_id, "health:healthy")
    told = admin_servers.request("GET", f"/servers/{server_id}/diagnostics", microversion="2.1")
    assert told["health"] == "healthy"
    lab.docker("kill", "--signal=USR1", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF")
    _wait_tags(servers, server_id, "exit:7")
