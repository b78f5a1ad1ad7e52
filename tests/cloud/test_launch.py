"""Launching a server, what the cloud knows about it then, and its end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.guest import Guest
from harness.lab import Lab, Side
from harness.logs import Tail
from harness.servers import Event, Json, Servers, events, wait_event
from harness.waiting import eventually
from openstack.connection import Connection


@pytest.fixture(scope="module")
def server(module_launch: Launcher, private_network: list[Json], key_name: str) -> Json:
    return module_launch("launch", networks=private_network, key_name=key_name, metadata={"purpose": "test"})


@pytest.mark.both_doors
def test_a_launched_server_is_active_and_runs(server: Json) -> None:
    assert server["status"] == "ACTIVE"
    assert server["OS-EXT-STS:power_state"] == 1
    assert server["OS-EXT-STS:vm_state"] == "active"
    assert server["OS-SRV-USG:launched_at"]
    assert "fault" not in server


def test_its_addresses_are_those_of_its_port(server: Json, user: Connection) -> None:
    shown = {
        (address["addr"], address["OS-EXT-IPS-MAC:mac_addr"])
        for addresses in server["addresses"].values()
        for address in addresses
    }
    ports = list(user.network.ports(device_id=server["id"]))
    assert shown == {(fixed["ip_address"], port.mac_address) for port in ports for fixed in port.fixed_ips}
    assert len(ports) == 1


@pytest.mark.both_doors
def test_its_port_is_bound_to_the_host(server: Json, admin: Connection, side: Side) -> None:
    [port] = admin.network.ports(device_id=server["id"])
    assert port.binding_host_id == side.host
    assert port.binding_vif_type == "ovs"
    assert port.device_owner == "compute:nova"


@pytest.mark.agent
def test_its_port_becomes_active(server: Json, user: Connection) -> None:
    def active() -> bool:
        return all(port.status == "ACTIVE" for port in user.network.ports(device_id=server["id"]))

    eventually(active, "the port ACTIVE")


@pytest.mark.both_doors
def test_the_launch_is_recorded_with_success(server: Json, admin_servers: Servers) -> None:
    wait_event(admin_servers, server["id"], "create", "compute__do_build_and_run_instance")
    assert [event for event in events(admin_servers, server["id"]) if event.result != "Success"] == []


def test_an_operator_sees_on_which_host_it_is(server: Json, admin_servers: Servers, side: Side) -> None:
    seen = admin_servers.get(server["id"])
    assert seen["OS-EXT-SRV-ATTR:host"] == side.host
    assert seen["OS-EXT-SRV-ATTR:hypervisor_hostname"]
    assert seen["OS-EXT-SRV-ATTR:root_device_name"]


@pytest.mark.both_doors
def test_placement_holds_what_its_flavor_asks_for(server: Json, admin: Connection, side: Side) -> None:
    answer = admin.placement.get(f"/allocations/{server['id']}").json()["allocations"]
    flavor = admin.compute.find_flavor(side.flavor)
    assert [allocation["resources"] for allocation in answer.values()] == [
        {"VCPU": flavor.vcpus, "MEMORY_MB": flavor.ram, "DISK_GB": flavor.disk}
    ]


@pytest.mark.both_doors
@pytest.mark.agent
def test_one_container_carries_its_uuid_and_nothing_else_of_nova(server: Json, lab: Lab) -> None:
    inspected = json.loads(lab.docker("inspect", f"nova-{server['id']}"))[0]
    assert inspected["State"]["Running"]
    labels = inspected["Config"]["Labels"]
    assert server["id"] in labels.values()
    assert inspected["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
    assert inspected["HostConfig"]["NetworkMode"] == "none"
    assert not inspected["HostConfig"]["Privileged"]


@pytest.mark.full
@pytest.mark.agent
def test_the_image_is_not_downloaded_twice(
    launch: Launcher, lab: Lab, add_image: Callable[..., str], tiny: Archive, unique: Callable[[str], str]
) -> None:
    """A second server of the same image shares its layers."""
    image = add_image(tiny.with_file("marker", unique("once").encode()).tar())
    glance = Tail(lab.log("glance"))

    def read() -> list[int]:
        """How many bytes each answer of Glance had."""
        sizes = re.findall(rf'"GET /v2/images/{image}/file" \d+ (\d+)B', glance.text())
        return [int(size) for size in sizes]

    launch("first", image=image)
    first = read()
    assert sum(first) > 1000, "the log of Glance does not show how an image is read"
    launch("twin", image=image)
    # One byte proves that the user may read it.
    assert set(read()[len(first) :]) <= {1}


def test_a_server_without_network_is_launched(launch: Launcher) -> None:
    server = launch("lonely")
    assert server["addresses"] == {}


@pytest.mark.both_doors
def test_a_deleted_server_is_gone(
    launch: Launcher, servers: Servers, user: Connection, private_network: list[Json]
) -> None:
    server = launch("short", networks=private_network)
    servers.delete(server["id"])
    servers.wait_gone(server["id"])
    # That nothing else is left is checked after every test.
    assert list(user.network.ports(device_id=server["id"])) == []


def test_several_servers_are_launched_at_once(servers: Servers, launch: Launcher) -> None:
    ids = [launch.request(f"many{number}") for number in range(4)]
    assert [servers.wait(server_id, "ACTIVE")["OS-EXT-STS:power_state"] for server_id in ids] == [1, 1, 1, 1]


@pytest.mark.agent
def test_it_serves_its_page(server: Json, guest_of: object, servers: Servers) -> None:
    servers.wait_console(server["id"], "ready after")
    guest: Guest = guest_of(server["id"])  # type: ignore[operator]
    title = f"<h1>{server['name']}</h1>"
    eventually(lambda: title in guest.http(), "its page")


@pytest.mark.agent
def test_metadata_set_on_the_server_does_not_reach_docker_labels_unescaped(server: Json, lab: Lab) -> None:
    """Tenant's text is data: the labels that tie the container to Nova cannot be forged through it."""
    labels = json.loads(lab.docker("inspect", f"nova-{server['id']}"))[0]["Config"]["Labels"]
    assert "purpose" not in labels


def test_events_of_a_launch_carry_its_own_action(server: Json, admin_servers: Servers) -> None:
    wait_event(admin_servers, server["id"], "create", "compute__do_build_and_run_instance")
    found = events(admin_servers, server["id"])
    assert Event("create", "compute__do_build_and_run_instance", "Success", None) in found
