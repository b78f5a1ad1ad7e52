"""The network inside servers, and between them."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Launcher
from harness.guest import Guest
from harness.lab import Lab, Side
from harness.servers import Json, Refused, Servers
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

MTU = 1300


@pytest.fixture(scope="module")
def server(module_launch: Launcher, private_network: list[Json], key_name: str) -> Json:
    return module_launch("one", networks=private_network, key_name=key_name)


@pytest.fixture(scope="module")
def inside(server: Json, guest_of: Callable[[str], Guest]) -> Guest:
    return guest_of(server["id"]).wait_ssh()


@pytest.fixture
def networks(user: Connection, unique: Callable[[str], str]) -> Iterator[Callable[..., Any]]:
    """Makes networks with one IPv4 subnet that live as long as the test."""
    made: list[Any] = []

    def make(cidr: str, **fields: Any) -> Any:
        made.append(user.network.create_network(name=unique("net"), **fields))
        user.network.create_subnet(network_id=made[-1].id, ip_version=4, cidr=cidr, gateway_ip=None)
        return made[-1]

    yield make
    for network in made:
        for port in user.network.ports(network_id=network.id):
            if not port.device_owner.startswith("network:"):
                user.network.delete_port(port)
        user.network.delete_network(network)


# ------------------------------------------------------------ one server


@pytest.mark.agent
@pytest.mark.both_doors
def test_the_key_pair_opens_ssh_and_nothing_else_does(server: Json, inside: Guest, lab: Lab) -> None:
    assert inside.ssh("id -u") == "0"
    # Nor does a password: the image has none.
    assert [line.split(":")[1] for line in inside.ssh("cat /etc/shadow").splitlines()] == ["*", "*"]
    keys = inside.ssh("cat /root/.ssh/authorized_keys").splitlines()
    assert len([line for line in keys if line.strip()]) == 1


@pytest.mark.agent
@pytest.mark.both_doors
def test_the_host_name_is_that_of_the_server(server: Json, inside: Guest) -> None:
    assert inside.ssh("hostname") == server["OS-EXT-SRV-ATTR:hostname"] == server["name"]
    own = inside.ssh("cat /etc/hosts")
    assert server["name"] in own and "localhost" in own


@pytest.mark.agent
@pytest.mark.both_doors
def test_eth0_has_the_addresses_and_the_mac_of_its_port(server: Json, inside: Guest, user: Connection) -> None:
    [port] = user.network.ports(device_id=server["id"])
    assert inside.ssh("cat /sys/class/net/eth0/address") == port.mac_address
    shown = inside.ssh("ip -o address show dev eth0")
    for fixed in port.fixed_ips:
        assert f" {fixed['ip_address']}/" in shown
    assert inside.ssh("ls /sys/class/net").split() == ["eth0", "lo"]
    assert "127.0.0.1/8" in inside.ssh("ip -o address show dev lo")


@pytest.mark.agent
@pytest.mark.both_doors
def test_the_network_is_there_before_the_first_process(server: Json, servers: Servers) -> None:
    """Process 1 looks at its interfaces once, while it writes the boot log. Regression: predecessors plugged later."""
    log = servers.wait_console(server["id"], "ready after")
    assert f"eth0 inet {servers.addresses(server['id'])[0]}/" in log
    assert re.search(r"interface eth0: up,", log), "the interface was not up yet"


@pytest.mark.agent
@pytest.mark.ipv6
def test_an_ipv6_subnet_gives_an_ipv6_address(server: Json, inside: Guest, servers: Servers, tenant: Tenant) -> None:
    [address] = servers.addresses(server["id"], version=6)
    assert f" {address}/64 " in inside.ssh("ip -6 -o address show dev eth0 scope global")
    assert tenant.subnet6 is not None
    eventually(lambda: inside.pings(tenant.subnet6.gateway_ip), "an answer of the IPv6 gateway")


@pytest.mark.agent
def test_the_default_route_and_the_name_servers_are_the_subnets(inside: Guest, tenant: Tenant) -> None:
    subnets = [subnet for subnet in (tenant.subnet, tenant.subnet6) if subnet is not None]
    assert inside.ssh("ip route | grep '^default'").split()[2] == tenant.subnet.gateway_ip
    servers_inside = [line.split()[1] for line in inside.ssh("grep ^nameserver /etc/resolv.conf").splitlines()]
    assert servers_inside, "no name server"
    # Whichever subnet comes first in Neutron's answer.
    for text in servers_inside:
        server = ipaddress.ip_address(text)
        given = [text in subnet.dns_nameservers for subnet in subnets]
        assert any(given) or any(server in ipaddress.ip_network(subnet.cidr) for subnet in subnets)


@pytest.mark.agent
def test_the_mtu_is_the_networks(inside: Guest, tenant: Tenant) -> None:
    assert inside.ssh("cat /sys/class/net/eth0/mtu") == str(tenant.network.mtu)


@pytest.mark.agent
def test_the_metadata_service_knows_the_server(server: Json, inside: Guest, key_name: str) -> None:
    text = inside.ssh("wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json")
    metadata = json.loads(text)
    assert metadata["uuid"] == server["id"]
    assert metadata["hostname"].startswith(server["name"])
    assert list(metadata["public_keys"]) == [key_name]


@pytest.mark.agent
def test_large_transfers_get_through(inside: Guest) -> None:
    """Checksum offload on a path that does not complete checksums lets ping through and TCP not."""
    inside.ssh("dd if=/dev/zero of=/srv/www/megabytes bs=1M count=4 2>/dev/null")
    eventually(lambda: len(inside.http("/megabytes")) >= 4 * 1024 * 1024, "all of the file")


@pytest.mark.agent
def test_a_floating_address_reaches_the_server(
    server: Json, inside: Guest, lab: Lab, tenant: Tenant, user: Connection, servers: Servers
) -> None:
    [port] = user.network.ports(device_id=server["id"])
    public = user.network.find_network("public", ignore_missing=False)
    floating = user.network.create_ip(floating_network_id=public.id, port_id=port.id)
    try:
        outside = Guest(lab, floating.floating_ip_address, tenant.key)
        eventually(lambda: "<h1>" in outside.http(), "the page at the floating address")
        assert outside.wait_ssh().ssh("hostname") == server["name"]

        def shown() -> list[str]:
            addresses = [a for network in servers.get(server["id"])["addresses"].values() for a in network]
            return [a["addr"] for a in addresses if a["OS-EXT-IPS:type"] == "floating"]

        eventually(lambda: shown() == [floating.floating_ip_address], "the floating address in Nova's view")
    finally:
        user.network.delete_ip(floating)


# ------------------------------------------------------------ ports that users make


@pytest.fixture
def free_address(admin: Connection, tenant: Tenant) -> str:
    """An address of the private network that no port has: Neutron gives them out at random."""
    ports = admin.network.ports(network_id=tenant.network.id)
    taken = {fixed["ip_address"] for port in ports for fixed in port.fixed_ips} | {tenant.subnet.gateway_ip}
    addresses = (str(address) for address in ipaddress.ip_network(tenant.subnet.cidr).hosts())
    return next(address for address in addresses if address not in taken)


@pytest.fixture
def port(
    user: Connection, private_network: list[Json], unique: Callable[[str], str], free_address: str
) -> Iterator[Any]:
    """A port of the user's own, with an address of the user's choice."""
    made = user.network.create_port(
        name=unique("port"),
        network_id=private_network[0]["uuid"],
        fixed_ips=[{"ip_address": free_address}],
    )
    yield made
    user.network.delete_port(made, ignore_missing=True)


def test_a_users_own_port_survives_the_server(
    port: Any, launch: Launcher, servers: Servers, user: Connection, admin: Connection
) -> None:
    server = launch("borrower", networks=[{"port": port.id}])
    wanted = {fixed["ip_address"] for fixed in port.fixed_ips}
    assert {*servers.addresses(server["id"]), *servers.addresses(server["id"], 6)} == wanted
    servers.delete(server["id"])
    servers.wait_gone(server["id"])
    left = admin.network.get_port(port.id)
    assert (left.device_id, left.device_owner, left.binding_host_id) == ("", "", "")
    assert {fixed["ip_address"] for fixed in left.fixed_ips} == wanted
    # And it can be used again.
    again = launch("successor", networks=[{"port": port.id}])
    assert set(servers.addresses(again["id"])) <= wanted


@pytest.mark.full
def test_a_port_in_use_is_refused(port: Any, launch: Launcher, servers: Servers) -> None:
    launch("first", networks=[{"port": port.id}])
    with pytest.raises(Refused) as refusal:
        servers.create("second", networks=[{"port": port.id}])
    assert refusal.value.status == 409


def test_a_fixed_address_can_be_asked_for(
    launch: Launcher, servers: Servers, private_network: list[Json], free_address: str
) -> None:
    server = launch("chosen", networks=[{**private_network[0], "fixed_ip": free_address}])
    assert servers.addresses(server["id"]) == [free_address]


@pytest.mark.full
@pytest.mark.agent
@pytest.mark.amqp
def test_a_changed_address_reaches_the_running_server(
    launch: Launcher,
    servers: Servers,
    user: Connection,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
    free_address: str,
) -> None:
    server_id = launch("moving", networks=private_network, key_name=key_name)["id"]
    before = guest_of(server_id).wait_ssh()
    boot = before.ssh("cut -d' ' -f22 /proc/1/stat")
    [port] = user.network.ports(device_id=server_id)
    kept = [fixed for fixed in port.fixed_ips if fixed["ip_address"] != before.address]
    [subnet_id] = [fixed["subnet_id"] for fixed in port.fixed_ips if fixed["ip_address"] == before.address]
    new = {"subnet_id": subnet_id, "ip_address": free_address}
    user.network.update_port(port, fixed_ips=[*kept, new])

    eventually(lambda: servers.addresses(server_id) == [free_address], "the new address in Nova's view")
    inside = guest_of(server_id).wait_ssh()
    assert inside.ssh("cut -d' ' -f22 /proc/1/stat") == boot, "the server was started anew"

    def shown() -> str:
        return inside.ssh("ip -o address show dev eth0")

    # The new address comes before the old one goes.
    eventually(lambda: f" {before.address}/" not in shown(), "the old address gone")
    assert f" {free_address}/" in shown()
    for fixed in kept:
        assert f" {fixed['ip_address']}/" in shown()
    eventually(lambda: len(inside.ssh("ip route | grep '^default'").splitlines()) == 1, "one default route")
    eventually(lambda: f"{free_address}\t" in inside.ssh("cat /etc/hosts"), "the new address in /etc/hosts")
    assert f"{before.address}\t" not in inside.ssh("cat /etc/hosts")


@pytest.mark.full
@pytest.mark.agent
@pytest.mark.amqp
def test_new_name_servers_come_with_a_reboot_and_a_file_of_the_user_s_stays(
    networks: Callable[..., Any], launch: Launcher, servers: Servers, user: Connection, lab: Lab
) -> None:
    network = networks("10.83.0.0/24")
    [subnet] = user.network.subnets(network_id=network.id)
    server_id = launch("asking", networks=[{"uuid": network.id}])["id"]

    def resolv_conf_after_reboot(*name_servers: str) -> str:
        user.network.update_subnet(subnet, dns_nameservers=list(name_servers))
        servers.action(server_id, "reboot", {"type": "HARD"})
        servers.wait(server_id, "ACTIVE")
        return lab.docker("exec", f"nova-{server_id}", "cat", "/etc/resolv.conf")

    assert "nameserver 192.0.2.53" in resolv_conf_after_reboot("192.0.2.53").splitlines()
    changed = resolv_conf_after_reboot("192.0.2.54").splitlines()
    assert "nameserver 192.0.2.54" in changed
    assert "nameserver 192.0.2.53" not in changed
    own = "echo 'nameserver 192.0.2.99' >/etc/resolv.conf"
    lab.docker("exec", f"nova-{server_id}", "sh", "-c", own)
    assert resolv_conf_after_reboot("192.0.2.55") == "nameserver 192.0.2.99"


@pytest.mark.agent
def test_several_interfaces_come_in_the_order_that_was_asked_for(
    networks: Callable[..., Any],
    launch: Launcher,
    servers: Servers,
    user: Connection,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
) -> None:
    """Regression: a predecessor named interfaces after ports, never eth0, and routed by the last."""
    small = networks("10.81.0.0/24", mtu=MTU)
    plain = networks("10.82.0.0/24")
    asked = [*private_network, {"uuid": plain.id}, {"uuid": small.id}]
    server = launch("many", networks=asked, key_name=key_name)
    ports = {port.network_id: port for port in user.network.ports(device_id=server["id"])}
    inside = guest_of(server["id"]).wait_ssh()
    assert inside.ssh("ls /sys/class/net").split() == ["eth0", "eth1", "eth2", "lo"]
    for number, wanted in enumerate(asked):
        port = ports[wanted["uuid"]]
        assert inside.ssh(f"cat /sys/class/net/eth{number}/address") == port.mac_address
        assert f" {port.fixed_ips[0]['ip_address']}/" in inside.ssh(f"ip -o address show dev eth{number}")
    assert inside.ssh("cat /sys/class/net/eth2/mtu") == str(MTU)
    assert len(inside.ssh("ip route | grep '^default'").splitlines()) == 1


def test_a_network_that_the_project_has_not_is_refused(servers: Servers, side: Side) -> None:
    with pytest.raises(Refused) as refusal:
        servers.create("nowhere", networks=[{"uuid": "00000000-0000-4000-8000-000000000000"}])
    assert refusal.value.status == 400


# ------------------------------------------------------------ several servers


@pytest.fixture(scope="module")
def groups(user: Connection, unique: Callable[[str], str]) -> Iterator[tuple[Any, Any, Any]]:
    """A group `inner` that answers pings of the members of `friends` only, and the rule that says so."""
    network = user.network
    inner = network.create_security_group(name=unique("inner"))
    friends = network.create_security_group(name=unique("friends"))
    rule = network.create_security_group_rule(
        security_group_id=inner.id,
        direction="ingress",
        ether_type="IPv4",
        protocol="icmp",
        remote_group_id=friends.id,
    )
    yield inner, friends, rule
    network.delete_security_group(inner)
    network.delete_security_group(friends)


@pytest.fixture(scope="module")
def members(
    groups: tuple[Any, Any, Any],
    servers: Servers,
    unique: Callable[[str], str],
    private_network: list[Json],
    key_name: str,
) -> Iterator[tuple[Json, Json]]:
    """A server that is in `inner` only, and one that is in `friends`. They go before their groups do."""
    inner, friends, _ = groups
    launcher = Launcher(servers, unique)
    common = {"networks": private_network, "key_name": key_name}
    guarded = launcher("guarded", security_groups=[{"name": inner.name}], **common)
    friend = launcher("friend", security_groups=[{"name": friends.name}, {"name": "default"}], **common)
    yield guarded, friend
    launcher.take_away()


@pytest.mark.agent
def test_servers_reach_each_other_by_name(
    server: Json, inside: Guest, members: tuple[Json, Json], user: Connection, servers: Servers
) -> None:
    """The names of ports, answered by the network's own DNS."""
    _, friend = members
    [port] = user.network.ports(device_id=friend["id"])
    names = [entry["hostname"] for entry in port.dns_assignment or []]
    assert friend["name"] in names
    [address] = servers.addresses(friend["id"])
    eventually(lambda: address in inside.ssh(f"nslookup {friend['name']}", check=False), "its address by its name")
    eventually(lambda: inside.pings(friend["name"]), "an answer of the other server")


@pytest.mark.agent
def test_a_security_group_lets_members_in_and_nobody_else(
    server: Json,
    inside: Guest,
    groups: tuple[Any, Any, Any],
    members: tuple[Json, Json],
    servers: Servers,
    user: Connection,
    guest_of: Callable[[str], Guest],
) -> None:
    _, _, rule = groups
    guarded, friend = members
    target = servers.addresses(guarded["id"])[0]
    from_friend = guest_of(friend["id"]).wait_ssh()
    eventually(lambda: from_friend.pings(target), "a member let in")
    eventually(lambda: inside.pings_in_vain(target), "a server outside of the group blocked")
    user.network.delete_security_group_rule(rule)
    eventually(
        lambda: all(from_friend.pings_in_vain(target) for _ in range(3)),
        "the member blocked after its rule was removed",
    )


@pytest.mark.agent
def test_nobody_can_send_with_a_foreign_address(
    inside: Guest, members: tuple[Json, Json], servers: Servers, free_address: str
) -> None:
    """Port security drops it; and the server may not have the capability to try in the first place."""
    _, friend = members
    target = servers.addresses(friend["id"])[0]
    inside.ssh(f"ip address add {free_address}/32 dev eth0", check=False)
    answer = inside.ssh(f"/bin/ping -c 2 -W 1 -I {free_address} {target} 2>&1; true")
    assert answer and ", 0% packet loss" not in answer, answer
    inside.ssh(f"ip address del {free_address}/32 dev eth0", check=False)
