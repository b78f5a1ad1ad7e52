"""Servers follow what only Neutron knows: the domain, the options of a port, who is a router, what became of a port."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Launcher
from harness.lab import Lab
from harness.servers import Json, Servers
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.amqp, pytest.mark.full]

OPTIONS = [
    {"opt_name": "mtu", "opt_value": "1290", "ip_version": 4},
    {"opt_name": "dns-server", "opt_value": "192.0.2.53", "ip_version": 4},
]


@pytest.fixture
def subnet(user: Connection, unique: Callable[[str], str]) -> Iterator[Any]:
    """A subnet whose gateway is nobody's, in a network with a domain."""
    network = user.network.create_network(name=unique("shop"), dns_domain="shop.example.")
    yield user.network.create_subnet(
        network_id=network.id, name=network.name, cidr="10.92.0.0/24", ip_version=4, gateway_ip="10.92.0.1"
    )
    user.network.delete_network(network)


@pytest.fixture
def port(user: Connection, subnet: Any, unique: Callable[[str], str]) -> Iterator[Any]:
    port = user.network.create_port(network_id=subnet.network_id, name=unique("port"), extra_dhcp_opts=OPTIONS)
    yield port
    user.network.delete_port(port)


def test_metadata_without_a_router_the_domain_and_the_options_of_a_port_reach_the_server(
    port: Any, launch: Launcher, user: Connection, lab: Lab
) -> None:
    server = launch("shop", networks=[{"port": port.id}])

    def inside(*command: str, check: bool = True) -> str:
        return lab.docker("exec", f"nova-{server['id']}", *command, check=check)

    assert inside("ip", "route", "show", "default").split()[2] == "10.92.0.1"
    # On OVN its metadata agent answers, which has a port of its own.
    owner = "network:distributed" if lab.network == "ovn" else "network:dhcp"
    [metadata_port] = user.network.ports(network_id=port.network_id, device_owner=owner)
    way = inside("ip", "route", "get", "169.254.169.254").split()
    assert way[way.index("via") + 1] == metadata_port.fixed_ips[0]["ip_address"]

    def metadata() -> str:
        # Without -T: with it, wget of a static busybox dies of a segmentation fault.
        url = "http://169.254.169.254/openstack/latest/meta_data.json"
        return inside("wget", "-q", "-O", "-", url, check=False)

    # Neutron's agent starts its proxy when it has heard of the network.
    assert json.loads(eventually(metadata, "the metadata"))["uuid"] == server["id"]

    lines = inside("cat", "/etc/resolv.conf").splitlines()
    assert [line for line in lines if line.startswith("nameserver")] == ["nameserver 192.0.2.53"]
    assert "search shop.example mini.internal" in lines
    assert inside("cat", "/sys/class/net/eth0/mtu") == "1290"

    # Neutron tells of the port at once, and the server goes on.
    user.network.update_port(port, extra_dhcp_opts=[{"opt_name": "mtu", "opt_value": "1280", "ip_version": 4}])
    eventually(lambda: inside("cat", "/sys/class/net/eth0/mtu") == "1280", "the new MTU")


def test_a_server_starts_without_a_port_that_has_gone_and_with_one_whose_binding_failed(
    port: Any,
    launch: Launcher,
    servers: Servers,
    admin: Connection,
    private_network: list[Json],
    lab: Lab,
) -> None:
    server_id = launch("two", networks=[*private_network, {"port": port.id}])["id"]
    [other] = [found for found in admin.network.ports(device_id=server_id) if found.id != port.id]
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    # On a host without an agent nothing can be bound.
    failed = admin.network.update_port(other, binding_host_id="nowhere")
    assert failed.binding_vif_type == "binding_failed"
    # Nova is told of no port that has no server.
    admin.network.update_port(port.id, device_id="", device_owner="")

    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")
    found = admin.network.get_port(other.id)
    assert (found.binding_host_id, found.binding_vif_type) == (lab.host, "ovs")
    links = lab.docker("exec", f"nova-{server_id}", "ls", "/sys/class/net").split()
    assert links == ["eth0", "lo"]
    assert [interface["port_id"] for interface in servers.interfaces(server_id)] == [other.id]
    assert port.fixed_ips[0]["ip_address"] not in servers.addresses(server_id)
