"""What README tells users to type, as the user `demo` with what the cloud comes with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.lab import Lab, Side
from harness.servers import Servers

MINI = Path(__file__).resolve().parents[2] / "devstack" / "mini"

OpenStack = Callable[[str], str]

pytestmark = pytest.mark.long


@pytest.fixture
def openstack(lab: Lab) -> OpenStack:
    """Runs `openstack ...` in a shell that has loaded `mini openrc`. It takes seconds: `demo` waits without it."""

    def run(arguments: str) -> str:
        script = f'eval "$("{MINI}" openrc --state-dir "{lab.state}")" && openstack {arguments}'
        return lab.run(["bash", "-c", script])

    return run


@pytest.fixture
def demo(lab: Lab, side: Side) -> Servers:
    """The servers of the user `demo`."""
    return Servers(lab.connect("demo"), side, lab)


@pytest.fixture
def name(demo: Servers, unique: Callable[[str], str]) -> Iterator[str]:
    """A name for a server that is gone at the end, also when the story breaks off."""
    chosen = unique("hello")
    yield chosen
    for server in demo.connection.compute.servers(name=chosen):
        demo.delete(server.id)
        demo.wait_gone(server.id)


def test_the_commands_of_the_readme(openstack: OpenStack, demo: Servers, name: str, side: Side) -> None:
    launched = json.loads(
        openstack(
            f"server create --image {side.image} --flavor {side.flavor} --network private --key-name demo"
            f" --wait -f json {name}"
        )
    )
    assert launched["status"] == "ACTIVE"
    if side.real:
        demo.wait_console(launched["id"], "ready after")
        assert "ready after" in openstack(f"console log show {name}")
    openstack(f"server stop {name}")
    demo.wait(launched["id"], "SHUTOFF")
    openstack(f"server delete --wait {name}")
    assert not demo.exists(launched["id"])
