"""A launch whose port is not wired, or of which nobody hears that it is."""

from __future__ import annotations

import pytest
from conftest import Launcher
from harness.faults import without_network_agent
from harness.lab import Lab
from harness.restarts import wait_spawning
from harness.servers import Json, Servers

pytestmark = [pytest.mark.agent, pytest.mark.alone, pytest.mark.usefixtures("usable_afterwards")]


@pytest.mark.amqp  # A stock nova-compute deletes a server only when its build has ended.
def test_a_server_that_is_still_built_can_be_deleted_at_once(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json]
) -> None:
    """The port is never wired, so that the build waits; a delete does not wait with it."""
    with without_network_agent(lab, admin_servers):
        server_id = launch.request("unborn", networks=private_network)
        wait_spawning(lab, servers, server_id)
        servers.delete(server_id)
        servers.wait_gone(server_id)
