"""What README tells users to type, as the user `demo` with what the cloud comes with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.lab import Lab, Side
from harness.waiting import eventually

MINI = Path(__file__).resolve().parents[2] / "devstack" / "mini"

OpenStack = Callable[[str], str]

pytestmark = pytest.mark.long


@pytest.fixture
def openstack(lab: Lab) -> OpenStack:
    """Runs `openstack ...` in a shell that has loaded `mini openrc`."""

    def run(arguments: str, *, check: bool = True) -> str:
        script = f'eval "$("{MINI}" openrc --state-dir "{lab.state}")" && openstack {arguments}'
        return lab.run(["bash", "-c", script], seconds=300, check=check)

    return run


@pytest.fixture
def name(openstack: OpenStack, unique: Callable[[str], str]) -> Iterator[str]:
    """A name for a server that is gone at the end, also when the story breaks off."""
    chosen = unique("hello")
    yield chosen
    listed = json.loads(openstack(f"server list --name {chosen} -f json"))
    for server in listed:
        openstack(f"server delete --wait {server['ID']}")


def test_the_commands_of_the_readme(openstack: OpenStack, name: str, side: Side) -> None:
    launched = json.loads(
        openstack(
            f"server create --image {side.image} --flavor {side.flavor} --network private --key-name demo"
            f" --wait -f json {name}"
        )
    )
    assert launched["status"] == "ACTIVE"
    if side.real:
        eventually(lambda: "ready after" in openstack(f"console log show {name}"), "the boot log")
    openstack(f"server stop {name}")
    eventually(lambda: openstack(f"server show {name} -f value -c status").strip() == "SHUTOFF", "the server stopped")
    openstack(f"server delete --wait {name}")
    assert json.loads(openstack(f"server list --name {name} -f json")) == []
