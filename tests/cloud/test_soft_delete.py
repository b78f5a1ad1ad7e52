"""Servers that are deleted where the operator keeps them for a while, and restored or reclaimed."""

from __future__ import annotations

import pytest
from conftest import Launcher
from harness.lab import Lab
from harness.programs import kept_when_deleted
from harness.servers import Servers

# A stock nova-compute counts the time by itself.
pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.amqp]


def is_running(lab: Lab, server_id: str) -> bool:
    return lab.docker("inspect", "--format", "{{.State.Running}}", f"nova-{server_id}") == "true"


def test_a_deleted_server_is_stopped_and_can_be_restored(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    with kept_when_deleted(lab, admin_servers, 3600):
        server_id = launch("regretted")["id"]
        servers.delete(server_id)
        admin_servers.wait(server_id, "SOFT_DELETED")
        assert not is_running(lab, server_id)
        admin_servers.action(server_id, "restore")
        servers.wait(server_id, "ACTIVE")
        assert is_running(lab, server_id)
        assert "ready after" in servers.console(server_id)
        servers.action(server_id, "forceDelete")
        servers.wait_gone(server_id)


@pytest.mark.full
def test_a_deleted_server_is_reclaimed_when_its_time_is_over(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    with kept_when_deleted(lab, admin_servers, 1):
        server_id = launch("forgotten")["id"]
        servers.delete(server_id)
        admin_servers.wait(server_id, "SOFT_DELETED")
        # Nova looks once a minute.
        admin_servers.wait_gone(server_id)
