"""Servers that write more than their flavor's disk has, on a Docker that does not hold them to it."""

from __future__ import annotations

import pytest
from conftest import Launcher
from harness.lab import Lab
from harness.programs import agent_with
from harness.servers import Servers, wait_event

pytestmark = [
    pytest.mark.agent,
    pytest.mark.alone,
    pytest.mark.full,
    pytest.mark.usefixtures("usable_afterwards"),
]


def test_where_storage_has_no_quota_a_server_that_outgrows_its_disk_is_shut_off_until_files_are_gone(
    launch: Launcher, servers: Servers, admin_servers: Servers, lab: Lab
) -> None:
    greedy, modest = launch("greedy")["id"], launch("modest")["id"]
    with agent_with(lab, admin_servers, storage_overuse="stop", storage_check_seconds="2"):
        lab.docker("exec", f"nova-{greedy}", "fallocate", "-l", "1100M", "/large")
        servers.wait(greedy, "SHUTOFF")
        said = servers.console(greedy)
        assert "stopped: the server has written" in said and "delete files, or resize it" in said
        if lab.door == "amqp":
            event = wait_event(admin_servers, greedy, "stop", "compute_stop_instance")
            assert event.result == "Error"
            assert "and its flavor's disk has 1 GiB" in str(event.details)
    servers.action(greedy, "os-start")
    servers.wait(greedy, "ACTIVE")
    lab.docker("exec", f"nova-{greedy}", "rm", "/large")
    assert servers.get(modest)["status"] == "ACTIVE"
