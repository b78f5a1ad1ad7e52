"""Containers as OS::Nova::Server of Heat: the templates of devstack/examples/heat."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.guest import Guest
from harness.heat import Heat
from harness.lab import Lab
from harness.servers import Servers
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.heat, pytest.mark.full, pytest.mark.long]


@pytest.fixture
def second_network(user: Connection, unique: Callable[[str], str]) -> Iterator[str]:
    network = user.network.create_network(name=unique("second"))
    user.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.230.0.0/24", gateway_ip=None)
    yield network.name
    user.network.delete_network(network)


@pytest.fixture
def tiny_twice(tiny: Any, add_image: Callable[..., str]) -> str:
    """Another image."""
    return add_image(tiny.with_file("mark", b"another\n").tar(), img_hv_type="docker")


def test_a_stack_changes_its_server_in_place(
    heat: Heat,
    servers: Servers,
    tenant: Tenant,
    guest_of: Callable[[str], Guest],
    second_network: str,
    tiny_twice: str,
) -> None:
    stack = heat("server", networks=tenant.name, key_name=tenant.name, metadata={"color": "blue"})
    server_id = stack.resource("server")
    assert servers.get(server_id)["metadata"] == {"color": "blue"}
    # Nova lists a network's addresses as Neutron lists its subnets: either kind may be the first.
    addresses = [*servers.addresses(server_id), *servers.addresses(server_id, version=6)]
    assert stack.output("address") in addresses
    inside = guest_of(server_id).wait_ssh()
    inside.ssh("echo kept > /root/file")

    stack.update(metadata={"color": "red", "docker:env:A": "b"})
    assert servers.get(server_id)["metadata"] == {"color": "red", "docker:env:A": "b"}

    stack.update(flavor="c1.small")
    assert servers.get(server_id)["flavor"]["original_name"] == "c1.small"
    assert inside.wait_ssh().ssh("cat /root/file") == "kept", "a resize keeps the files"

    stack.update(networks=f"{tenant.name},{second_network}")
    addresses = servers.addresses(server_id)
    assert len(addresses) == 2
    assert any(ipaddress.ip_address(each) in ipaddress.ip_network("10.230.0.0/24") for each in addresses)
    stack.update(networks=tenant.name)
    assert len(servers.addresses(server_id)) == 1

    stack.update(image=tiny_twice)
    assert servers.get(server_id)["image"]["id"] == tiny_twice
    assert inside.wait_ssh().ssh("cat /mark; ls /root") == "another", "all of it is new"
    assert "A=b" in inside.ssh("tr '\\0' '\\n' </proc/1/environ").split(), "a rebuild has the metadata of now"
    assert stack.resource("server") == server_id, "it was the same server all along"


def test_a_stack_is_suspended_resumed_and_checked(
    heat: Heat, servers: Servers, tenant: Tenant, guest_of: Callable[[str], Guest], lab: Lab
) -> None:
    stack = heat("server", networks=tenant.name, key_name=tenant.name)
    server_id = stack.resource("server")
    inside = guest_of(server_id).wait_ssh()
    boot = inside.ssh("cut -d' ' -f22 /proc/1/stat")
    stack.act("suspend")
    assert servers.get(server_id)["status"] == "SUSPENDED"
    stack.act("resume")
    assert servers.get(server_id)["status"] == "ACTIVE"
    assert inside.wait_ssh().ssh("cut -d' ' -f22 /proc/1/stat") == boot, "the same process goes on"
    stack.act("check")
    lab.docker("kill", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF")
    assert "SHUTOFF" in stack.act("check", "FAILED")


def test_user_data_configures_the_container(heat: Heat, servers: Servers, tenant: Tenant) -> None:
    greeting = "It's \"5 o'clock\": {time} # for tea"
    stack = heat("configured", network=tenant.name, greeting=greeting)
    servers.wait_console(stack.resource("server"), f"{greeting} from /srv")


def test_a_container_that_fails_fails_its_stack_with_the_reason(
    heat: Heat, tenant: Tenant, add_image: Callable[..., str], tiny: Any
) -> None:
    broken = add_image(tiny.running("/no/such/program").tar(), img_hv_type="docker")
    stack = heat.request("server", image=broken, networks=tenant.name, key_name=tenant.name)
    assert "/no/such/program" in stack.wait("CREATE", "FAILED")


def test_a_stack_is_complete_when_its_container_says_so(heat: Heat, servers: Servers, tenant: Tenant) -> None:
    stack = heat("ready", network=tenant.name)
    assert "it is done" in str(stack.output("said"))


def test_a_container_can_fail_its_stack(heat: Heat, tenant: Tenant) -> None:
    stack = heat.request("ready", network=tenant.name, status="FAILURE")
    assert "the container says FAILURE" in stack.wait("CREATE", "FAILED")


def test_nothing_is_left_of_a_stack(heat: Heat, servers: Servers, tenant: Tenant) -> None:
    stack = heat("server", networks=tenant.name, key_name=tenant.name)
    server_id = stack.resource("server")
    stack.delete()
    eventually(stack.is_gone, "the stack is gone")
    assert not servers.exists(server_id)
