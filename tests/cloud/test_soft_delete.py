"""Servers that are deleted where the operator keeps them for a while, and restored or reclaimed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from conftest import Launcher
from harness import hosts
from harness.lab import AGENT_PROGRAM, Lab
from harness.programs import setting
from harness.servers import Refused, Servers
from harness.waiting import eventually
from keystoneauth1.exceptions import ConnectFailure

# A stock nova-compute counts the time by itself.
pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.amqp]

CONFIGURED = {"nova-api": "nova.conf", AGENT_PROGRAM: f"{AGENT_PROGRAM}.conf"}
"""The programs that know of soft deletion, and their files."""


def restart(lab: Lab, admin_servers: Servers) -> None:
    """Both programs take what is configured now."""
    lab.supervisorctl("restart", *CONFIGURED)

    def answers() -> bool:
        try:
            hosts.service(admin_servers)
        except (Refused, ConnectFailure):
            return False
        return True

    eventually(answers, "nova-api answers")
    hosts.wait_usable(admin_servers)


@contextlib.contextmanager
def kept_for(lab: Lab, admin_servers: Servers, seconds: int) -> Iterator[None]:
    """Deleted servers are kept for so long."""
    try:
        with contextlib.ExitStack() as settings:
            for file in CONFIGURED.values():
                path = lab.state / "etc" / file
                settings.enter_context(setting(path, "DEFAULT", "reclaim_instance_interval", str(seconds)))
            restart(lab, admin_servers)
            yield
    finally:
        restart(lab, admin_servers)


def is_running(lab: Lab, server_id: str) -> bool:
    return lab.docker("inspect", "--format", "{{.State.Running}}", f"nova-{server_id}") == "true"


def test_a_deleted_server_is_stopped_and_can_be_restored(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    with kept_for(lab, admin_servers, 3600):
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
    with kept_for(lab, admin_servers, 1):
        server_id = launch("forgotten")["id"]
        servers.delete(server_id)
        admin_servers.wait(server_id, "SOFT_DELETED")
        # Nova looks once a minute.
        admin_servers.wait_gone(server_id)
