"""What a stock nova-compute makes of the agent, beyond what both doors do."""

from __future__ import annotations

import os
import signal

import pytest
from conftest import Launcher
from harness import hosts
from harness.lab import AGENT_PROGRAM, COMPUTE_PROGRAM, Lab
from harness.logs import Tail
from harness.servers import Json, Servers
from harness.waiting import eventually

pytestmark = [pytest.mark.agent, pytest.mark.grpc]


@pytest.mark.alone
@pytest.mark.usefixtures("usable_afterwards")
def test_a_launch_goes_on_when_its_agent_is_lost_in_the_middle_and_comes_back(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json]
) -> None:
    bystander = launch("bystander")["id"]
    database = lab.pid("ovsdb")
    tail = Tail(lab.log(AGENT_PROGRAM))
    # An Open vSwitch that does not answer holds the launch where it is.
    os.kill(database, signal.SIGSTOP)
    try:
        interrupted = launch.request("interrupted", networks=private_network)
        begun = f'name="create_guest" instance={interrupted}'
        eventually(lambda: begun in tail.text(), "the agent at work")
        os.kill(lab.pid(AGENT_PROGRAM), signal.SIGKILL)
    finally:
        os.kill(database, signal.SIGCONT)
    # nova-compute asks the agent again, which begins anew and leaves one container.
    servers.wait(interrupted, "ACTIVE")
    assert lab.docker("ps", "--all", "--format", "{{.Names}}").split().count(f"nova-{interrupted}") == 1
    assert servers.get(bystander)["status"] == "ACTIVE"
    servers.action(bystander, "os-stop")
    servers.wait(bystander, "SHUTOFF")
    hosts.wait_usable(admin_servers)
    launch("later")


@pytest.mark.alone
@pytest.mark.usefixtures("usable_afterwards")
def test_nova_compute_waits_for_an_agent_that_is_not_there_and_says_so(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    running = launch("running")["id"]
    started = lab.docker("inspect", "--format", "{{.State.StartedAt}}", f"nova-{running}")
    lab.supervisorctl("stop", AGENT_PROGRAM)
    try:
        tail = Tail(lab.log(COMPUTE_PROGRAM))
        lab.supervisorctl("restart", COMPUTE_PROGRAM)
        socket = f"{lab.state}/run/driver.sock"
        eventually(lambda: f"cannot be used at unix://{socket}" in tail.text(), "a word in the log")
    finally:
        lab.supervisorctl("start", AGENT_PROGRAM)
    hosts.wait_usable(admin_servers)
    # Its next try may be half a minute away.
    launched = launch.request("patient")
    servers.wait(launched, "ACTIVE")
    assert lab.docker("inspect", "--format", "{{.State.StartedAt}}", f"nova-{running}") == started
    assert servers.get(running)["status"] == "ACTIVE"
