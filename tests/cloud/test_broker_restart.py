"""A restart of RabbitMQ."""

from __future__ import annotations

import pytest
from conftest import Launcher
from harness.amqp import wait_consumers
from harness.lab import AGENT_PROGRAM, Lab
from harness.restarts import wait_answering
from harness.servers import Servers

pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.usefixtures("usable_afterwards")]


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
