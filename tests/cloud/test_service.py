"""What operators see of the compute service: service, hypervisor, inventories, traits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Launcher
from harness import hosts, logs
from harness.lab import Lab, Side
from harness.servers import Servers
from harness.waiting import eventually
from openstack.connection import Connection


@pytest.mark.both_doors
def test_the_service_is_up_and_enabled(admin_servers: Servers) -> None:
    seen = hosts.service(admin_servers)
    assert (seen["state"], seen["status"]) == ("up", "enabled")


def test_the_service_reports_again_and_again(admin_servers: Servers) -> None:
    before = hosts.service(admin_servers)["updated_at"]
    eventually(lambda: hosts.service(admin_servers)["updated_at"] != before, "a new report")


@pytest.mark.both_doors
def test_the_hypervisor_is_up(admin_servers: Servers, side: Side) -> None:
    seen = hosts.hypervisor(admin_servers)
    assert (seen["state"], seen["status"]) == ("up", "enabled")
    assert seen["hypervisor_type"] == ("docker" if side.real else "fake")


@pytest.mark.both_doors
def test_the_details_of_the_hypervisor_can_be_shown(admin_servers: Servers) -> None:
    """`openstack hypervisor show` asks the host for its uptime."""
    own = hosts.hypervisor(admin_servers)["id"]
    assert admin_servers.request("GET", f"/os-hypervisors/{own}")["hypervisor"]["id"] == own


@pytest.mark.both_doors
def test_the_inventories_describe_this_machine(admin: Connection, admin_servers: Servers, side: Side) -> None:
    uuid = hosts.provider(admin_servers)
    found = admin.placement.get(f"/resource_providers/{uuid}/inventories").json()["inventories"]
    assert {"VCPU", "MEMORY_MB", "DISK_GB"} <= found.keys()
    assert all(inventory["total"] > 0 for inventory in found.values())
    if side.real:
        with open("/proc/meminfo") as meminfo:
            kibibytes = int(meminfo.readline().split()[1])
        assert abs(found["MEMORY_MB"]["total"] - kibibytes / 1024) < 64


@pytest.mark.both_doors
def test_the_traits_tell_what_it_is(admin_servers: Servers, side: Side) -> None:
    traits = set(hosts.traits(admin_servers))
    assert {"COMPUTE_NODE", "OWNER_NOVA"} <= traits
    assert "COMPUTE_STATUS_DISABLED" not in traits
    assert ("CUSTOM_HV_DOCKER" in traits) == side.real


@pytest.mark.alone
@pytest.mark.both_doors
def test_traits_that_an_operator_added_stay(admin: Connection, admin_servers: Servers, launch: Launcher) -> None:
    uuid = hosts.provider(admin_servers)
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
def disabled(admin_servers: Servers) -> Iterator[None]:
    own = hosts.service(admin_servers)["id"]
    admin_servers.request("PUT", f"/os-services/{own}", {"status": "disabled", "disabled_reason": "a test"})
    yield
    admin_servers.request("PUT", f"/os-services/{own}", {"status": "enabled"})


@pytest.mark.alone
@pytest.mark.both_doors
def test_nothing_is_launched_on_a_disabled_host(disabled: None, launch: Launcher, admin_servers: Servers) -> None:
    eventually(lambda: "COMPUTE_STATUS_DISABLED" in hosts.traits(admin_servers), "the trait that tells")
    server = launch.failing("unwanted")
    assert "No valid host" in server["fault"]["message"]


@pytest.mark.alone
def test_an_enabled_host_is_used_again(launch: Launcher, admin_servers: Servers) -> None:
    hosts.wait_usable(admin_servers)
    launch("welcome")


@pytest.mark.agent
@pytest.mark.alone
@pytest.mark.both_doors
def test_usage_follows_the_servers(launch: Launcher, admin_servers: Servers, side: Side, servers: Servers) -> None:
    """Old API versions show what the host itself counts."""
    before = len(admin_servers.request("GET", f"/servers?all_tenants=1&host={side.host}")["servers"])

    def wait_running(count: int) -> None:
        def running() -> int:
            found = admin_servers.request("GET", "/os-hypervisors/detail", microversion="2.1")["hypervisors"]
            return int(next(entry["running_vms"] for entry in found if entry["service"]["host"] == side.host))

        eventually(lambda: running() == count, f"{count} servers counted")

    # Those that an earlier test has deleted are counted for a moment.
    wait_running(before)
    server = launch("counted")
    wait_running(before + 1)
    servers.delete(server["id"])
    wait_running(before)


@pytest.mark.agent
@pytest.mark.both_doors
def test_no_password_is_in_the_log_or_on_a_command_line(lab: Lab, side: Side) -> None:
    passwords = json.loads((lab.state / "passwords.json").read_text())
    shown = {program: logs.whole(lab.log(program)) for program in side.programs}
    for program in side.programs:
        assert shown[program], f"{program} has no log"
        shown[f"command line of {program}"] = Path(f"/proc/{lab.pid(program)}/cmdline").read_text()
    assert [(name, where) for name, value in passwords.items() for where, text in shown.items() if value in text] == []


@pytest.mark.agent
def test_what_the_agent_keeps_is_its_own_business(lab: Lab) -> None:
    """Nothing below its state directory can be written by others."""
    files = [path for path in (lab.state / "agent").rglob("*") if not path.is_symlink()]
    assert [path for path in files if path.stat().st_mode & 0o022] == []
