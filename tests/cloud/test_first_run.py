"""A launch is done before its container's grace is over: what becomes of one that ends within the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.lab import Lab
from harness.programs import agent_with
from harness.servers import Servers
from harness.waiting import eventually

pytestmark = [pytest.mark.agent, pytest.mark.amqp, pytest.mark.alone]


@pytest.fixture
def lingering(lab: Lab, admin_servers: Servers) -> Iterator[None]:
    """A launch is done at once, and its container is watched for longer than the test takes."""
    with agent_with(lab, admin_servers, build_grace_seconds="600"):
        yield


@pytest.mark.usefixtures("lingering")
def test_a_server_whose_container_ends_within_its_grace_is_in_error_after_all(
    lab: Lab, add_image: Callable[..., str], launch: Launcher, servers: Servers, tiny: Archive
) -> None:
    command = "trap 'echo goodbye; exit 7' USR1; echo up; while :; do sleep 0.1; done"
    image = add_image(tiny.running("sh", "-c", command).tar())
    server_id = launch("short-lived", image=image)["id"]
    servers.wait_console(server_id, "up")
    lab.docker("kill", "--signal=USR1", f"nova-{server_id}")
    servers.wait(server_id, "ERROR")
    fault = eventually(lambda: servers.get(server_id).get("fault"), "the fault")
    assert "the container exited at once with code 7; its last words: up\ngoodbye" in fault["message"]
    assert "goodbye" in servers.console(server_id)
    # Not the first run any more: its end is a stop.
    servers.action(server_id, "reboot", {"type": "HARD"})
    servers.until(server_id, lambda: servers.get(server_id)["status"] == "ACTIVE", "the server ACTIVE")
    servers.wait_idle(server_id)
    lab.docker("kill", "--signal=USR1", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF")
