"""Numbers that a tenant can set, where they are absurd: they stop neither the server's owner nor the host."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import kill_agent
from harness.servers import Servers
from harness.waiting import eventually

pytestmark = [
    pytest.mark.agent,
    pytest.mark.alone,
    pytest.mark.amqp,
    pytest.mark.usefixtures("usable_afterwards"),
]

SHUT_DOWN = 4
"""Nova's power state."""

TIMEOUTS = [
    "18446744073709551615",
    "2000000000",
    *(pytest.param(text, marks=pytest.mark.full) for text in ("99999999999999999999999", "-1", "x")),
]
"""Of `os_shutdown_timeout`: more than any clock holds, 63 years, more than 64 bits, the past, no number."""


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_an_absurd_shutdown_timeout_stops_neither_the_server_nor_the_agent(
    lab: Lab, add_image: Callable[..., str], launch: Launcher, servers: Servers, tiny: Archive, timeout: str
) -> None:
    # It ends when it is told to; to wait for one that does not is what the tenant has asked for.
    command = "trap exit TERM; while :; do sleep 1; done"
    image = add_image(tiny.running("sh", "-c", command).tar(), os_shutdown_timeout=timeout)
    before = lab.pid(AGENT_PROGRAM)
    server_id = launch("absurd", image=image)["id"]
    servers.action(server_id, "os-stop")
    assert servers.wait(server_id, "SHUTOFF")["OS-EXT-STS:power_state"] == SHUT_DOWN
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")
    servers.delete(server_id)
    servers.wait_gone(server_id)
    assert lab.pid(AGENT_PROGRAM) == before, "the agent did not survive"


def test_an_agent_starts_beside_a_server_with_an_absurd_shutdown_timeout_that_is_to_stop(
    lab: Lab, add_image: Callable[..., str], launch: Launcher, servers: Servers, tiny: Archive
) -> None:
    """The stop is begun again at the start, of a container that does not end by it: the agent serves all the same."""
    deaf = add_image(
        tiny.running("sh", "-c", "trap : TERM; while :; do sleep 1; done").tar(), os_shutdown_timeout=TIMEOUTS[0]
    )
    server_id = launch("deaf", image=deaf)["id"]
    log = Tail(lab.log(AGENT_PROGRAM))
    servers.action(server_id, "os-stop")
    eventually(lambda: 'name="compute_stop_instance"' in log.text(), "the agent at work")
    kill_agent(lab)
    started = lab.pid(AGENT_PROGRAM)
    launch("served")
    # The rest of its time is a tenant's own loss; the operator ends it.
    lab.docker("kill", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF")
    assert lab.pid(AGENT_PROGRAM) == started, "the agent did not survive its start"
