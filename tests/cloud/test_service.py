"""What operators see of the compute service: service, hypervisor, inventories, traits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Launcher
from harness.lab import Lab, Side
from harness.servers import Json, Servers
from harness.waiting import eventually
from openstack.connection import Connection


def service(admin_servers: Servers, side: Side) -> Json:
    [found] = admin_servers.request("GET", f"/os-services?binary=nova-compute&host={side.host}")["services"]
    return found


def hypervisor(admin_servers: Servers, side: Side) -> Json:
    found = admin_servers.request("GET", "/os-hypervisors/detail")["hypervisors"]
    [own] = [entry for entry in found if entry["service"]["host"] == side.host]
    return own


def provider(admin: Connection, admin_servers: Servers, side: Side) -> str:
    """The resource provider: it has the hypervisor's id."""
    return str(hypervisor(admin_servers, side)["id"])


def test_the_service_is_up_and_enabled(admin_servers: Servers, side: Side) -> None:
    seen = service(admin_servers, side)
    assert (seen["state"], seen["status"]) == ("up", "enabled")


def test_the_service_reports_again_and_again(admin_servers: Servers, side: Side) -> None:
    before = service(admin_servers, side)["updated_at"]
    eventually(lambda: service(admin_servers, side)["updated_at"] != before, "a new report", 15)


def test_the_hypervisor_is_up(admin_servers: Servers, side: Side) -> None:
    seen = hypervisor(admin_servers, side)
    assert (seen["state"], seen["status"]) == ("up", "enabled")
    assert seen["hypervisor_type"] == ("docker" if side.real else "fake")


def test_the_details_of_the_hypervisor_can_be_shown(admin_servers: Servers, side: Side) -> None:
    """`openstack hypervisor show` asks the host for its uptime."""
    own = hypervisor(admin_servers, side)["id"]
    assert admin_servers.request("GET", f"/os-hypervisors/{own}")["hypervisor"]["id"] == own


def test_the_inventories_describe_this_machine(admin: Connection, admin_servers: Servers, side: Side) -> None:
    uuid = provider(admin, admin_servers, side)
    found = admin.placement.get(f"/resource_providers/{uuid}/inventories").json()["inventories"]
    assert {"VCPU", "MEMORY_MB", "DISK_GB"} <= found.keys()
    assert all(inventory["total"] > 0 for inventory in found.values())
    if side.real:
        with open("/proc/meminfo") as meminfo:
            kibibytes = int(meminfo.readline().split()[1])
        assert abs(found["MEMORY_MB"]["total"] - kibibytes / 1024) < 64


def test_the_traits_tell_what_it_is(admin: Connection, admin_servers: Servers, side: Side) -> None:
    uuid = provider(admin, admin_servers, side)
    answer = admin.placement.get(f"/resource_providers/{uuid}/traits", microversion="1.6")
    traits = set(answer.json()["traits"])
    assert {"COMPUTE_NODE", "OWNER_NOVA"} <= traits
    assert "COMPUTE_STATUS_DISABLED" not in traits
    assert ("CUSTOM_HV_DOCKER" in traits) == side.real


def test_traits_that_an_operator_added_stay(
    admin: Connection, admin_servers: Servers, side: Side, launch: Launcher
) -> None:
    uuid = provider(admin, admin_servers, side)
    admin.placement.put("/traits/CUSTOM_ADDED_BY_A_TEST", microversion="1.6")
    path = f"/resource_providers/{uuid}/traits"
    before = admin.placement.get(path, microversion="1.6").json()
    try:
        wanted = {**before, "traits": [*before["traits"], "CUSTOM_ADDED_BY_A_TEST"]}
        assert admin.placement.put(path, json=wanted, microversion="1.6").status_code == 200
        launch("beside")
        assert "CUSTOM_ADDED_BY_A_TEST" in admin.placement.get(path, microversion="1.6").json()["traits"]
    finally:
        now = admin.placement.get(path, microversion="1.6").json()
        left = [trait for trait in now["traits"] if trait != "CUSTOM_ADDED_BY_A_TEST"]
        admin.placement.put(path, json={**now, "traits": left}, microversion="1.6")
        admin.placement.delete("/traits/CUSTOM_ADDED_BY_A_TEST", microversion="1.6")


@pytest.fixture
def disabled(admin_servers: Servers, side: Side) -> Iterator[None]:
    own = service(admin_servers, side)["id"]
    admin_servers.request("PUT", f"/os-services/{own}", {"status": "disabled", "disabled_reason": "a test"})
    yield
    admin_servers.request("PUT", f"/os-services/{own}", {"status": "enabled"})


def _traits(admin: Connection, admin_servers: Servers, side: Side) -> list[str]:
    uuid = provider(admin, admin_servers, side)
    return admin.placement.get(f"/resource_providers/{uuid}/traits", microversion="1.6").json()["traits"]


def test_nothing_is_launched_on_a_disabled_host(
    disabled: None, launch: Launcher, admin: Connection, admin_servers: Servers, side: Side
) -> None:
    eventually(lambda: "COMPUTE_STATUS_DISABLED" in _traits(admin, admin_servers, side), "the trait that tells", 10)
    server = launch.failing("unwanted")
    assert "No valid host" in server["fault"]["message"]


def test_an_enabled_host_is_used_again(launch: Launcher, admin: Connection, admin_servers: Servers, side: Side) -> None:
    eventually(lambda: "COMPUTE_STATUS_DISABLED" not in _traits(admin, admin_servers, side), "the trait gone", 10)
    launch("welcome")


@pytest.mark.agent
def test_usage_follows_the_servers(launch: Launcher, admin_servers: Servers, side: Side, servers: Servers) -> None:
    """Old API versions show what the host itself counts."""

    def running() -> int:
        found = admin_servers.request("GET", "/os-hypervisors/detail", microversion="2.1")["hypervisors"]
        return int(next(entry["running_vms"] for entry in found if entry["service"]["host"] == side.host))

    before = running()
    server = launch("counted")
    eventually(lambda: running() == before + 1, "one more server counted", 10)
    servers.delete(server["id"])
    eventually(lambda: running() == before, "one server less counted", 15)


@pytest.mark.agent
def test_no_password_is_in_the_log_or_on_a_command_line(lab: Lab, side: Side) -> None:
    passwords = json.loads((lab.state / "passwords.json").read_text())
    log = lab.log(side.program).read_text(errors="replace")
    command_line = Path(f"/proc/{lab.pid(side.program)}/cmdline").read_text()
    assert [name for name, value in passwords.items() if value in log or value in command_line] == []


@pytest.mark.agent
def test_what_the_agent_keeps_is_its_own_business(lab: Lab) -> None:
    """Nothing below its state directory can be written by others."""
    files = [path for path in (lab.state / "agent").rglob("*") if not path.is_symlink()]
    assert [path for path in files if path.stat().st_mode & 0o022] == []
