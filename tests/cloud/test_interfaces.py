"""Interfaces that come and go while a server is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Launcher
from harness.guest import Guest
from harness.lab import Lab
from harness.servers import Json, Refused, Servers, wait_event
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = pytest.mark.agent


@pytest.fixture
def subnet(user: Connection, unique: Callable[[str], str]) -> Iterator[Any]:
    """A network of the test's own, without a router. Tests name it before `launch`, so it outlives their servers."""
    network = user.network.create_network(name=unique("network"))
    yield user.network.create_subnet(
        network_id=network.id, name=network.name, cidr="10.91.0.0/24", ip_version=4, gateway_ip=None
    )
    user.network.delete_network(network)


@pytest.fixture
def port(user: Connection, subnet: Any, unique: Callable[[str], str]) -> Iterator[Any]:
    """A port of the user's."""
    port = user.network.create_port(network_id=subnet.network_id, name=unique("port"))
    yield port
    user.network.delete_port(port)


def attach(servers: Servers, server_id: str, **wanted: Any) -> Json:
    """What the API says of the new interface."""
    body = {"interfaceAttachment": wanted}
    answer: Json = servers.request("POST", f"/servers/{server_id}/os-interface", body)["interfaceAttachment"]
    return answer


def detach(servers: Servers, server_id: str, port_id: str) -> None:
    servers.request("DELETE", f"/servers/{server_id}/os-interface/{port_id}")


def port_ids(servers: Servers, server_id: str) -> list[str]:
    return [interface["port_id"] for interface in servers.interfaces(server_id)]


def remembered(lab: Lab, server_id: str) -> list[str]:
    """The ports that are written down as the user's, so that they are not deleted with the server."""
    of_server = f"instance_uuid = '{server_id}' AND deleted = 0"
    keys = lab.sql(
        f"SELECT `key` FROM nova.instance_system_metadata WHERE {of_server} AND `key` LIKE 'user_port_%'"  # noqa: S608, it is the server's own id
    )
    return keys.split()


@pytest.mark.both_doors
def test_an_interface_comes_and_goes_while_the_server_runs(
    subnet: Any,
    launch: Launcher,
    servers: Servers,
    user: Connection,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
) -> None:
    server_id = launch("growing", networks=private_network, key_name=key_name)["id"]
    inside = guest_of(server_id).wait_ssh()
    boot = inside.ssh("cut -d' ' -f22 /proc/1/stat")
    attached = attach(servers, server_id, net_id=subnet.network_id)
    [fixed] = attached["fixed_ips"]
    assert f" {fixed['ip_address']}/24 " in inside.ssh("ip -o address show dev eth1")
    assert inside.ssh("cat /sys/class/net/eth1/address") == attached["mac_addr"]
    assert len(inside.ssh("ip route | grep '^default'").splitlines()) == 1, "the way out is another"
    assert fixed["ip_address"] in servers.addresses(server_id)

    servers.action(server_id, "reboot", {"type": "SOFT"})
    servers.wait(server_id, "ACTIVE")
    inside.wait_ssh()
    assert inside.ssh("cut -d' ' -f22 /proc/1/stat") != boot
    assert f" {fixed['ip_address']}/24 " in inside.ssh("ip -o address show dev eth1"), "lost by the reboot"

    detach(servers, server_id, attached["port_id"])
    eventually(lambda: inside.ssh("ls /sys/class/net", check=False).split() == ["eth0", "lo"], "eth1 gone")
    eventually(lambda: user.network.find_port(attached["port_id"]) is None, "the port gone")
    eventually(lambda: fixed["ip_address"] not in servers.addresses(server_id), "the address gone")


def test_the_user_s_port_outlives_its_attachment(
    port: Any, launch: Launcher, servers: Servers, user: Connection, lab: Lab
) -> None:
    server_id = launch("borrowing")["id"]
    for _ in range(2):
        assert attach(servers, server_id, port_id=port.id)["port_id"] == port.id
        assert user.network.get_port(port.id).device_id == server_id
        # A stock nova-compute writes nothing down.
        assert remembered(lab, server_id) == ([f"user_port_{port.id}"] if lab.door == "amqp" else [])
        detach(servers, server_id, port.id)
        eventually(lambda: user.network.get_port(port.id).device_id == "", "the port free")
        eventually(lambda: not remembered(lab, server_id), "nothing of the port remembered")
    attach(servers, server_id, port_id=port.id)
    servers.delete(server_id)
    servers.wait_gone(server_id)
    assert user.network.get_port(port.id).device_id == ""


def test_a_stopped_server_has_the_interface_when_it_starts(
    subnet: Any,
    launch: Launcher,
    servers: Servers,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
) -> None:
    server_id = launch("asleep", networks=private_network, key_name=key_name)["id"]
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    [fixed] = attach(servers, server_id, net_id=subnet.network_id)["fixed_ips"]
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")
    inside = guest_of(server_id).wait_ssh()
    assert f" {fixed['ip_address']}/24 " in inside.ssh("ip -o address show dev eth1")


@pytest.mark.full
def test_what_cannot_be_had_is_refused_with_the_reason(port: Any, launch: Launcher, servers: Servers, lab: Lab) -> None:
    owner, other = launch("owner")["id"], launch("other")["id"]
    attach(servers, owner, port_id=port.id)
    taken = port.fixed_ips[0]["ip_address"]
    wrong: list[tuple[int, Json]] = [
        (409, {"port_id": port.id}),
        (409, {"net_id": port.network_id, "fixed_ips": [{"ip_address": taken}]}),
        (404, {"port_id": "00000000-0000-4000-8000-000000000000"}),
    ]
    for status, wanted in wrong:
        with pytest.raises(Refused) as refusal:
            attach(servers, other, **wanted)
        assert refusal.value.status == status, (wanted, refusal.value.message)
        assert "Unexpected API Error" not in refusal.value.message
    assert port_ids(servers, other) == []
    assert not remembered(lab, other)
    assert port_ids(servers, owner) == [port.id]
    assert servers.get(other)["status"] == "ACTIVE"


@pytest.mark.full
@pytest.mark.amqp
def test_mistakes_that_a_stock_nova_compute_takes_for_its_own_are_the_user_s(
    subnet: Any, launch: Launcher, servers: Servers
) -> None:
    server_id = launch("mistaken")["id"]
    wrong: list[tuple[int, str, Json]] = [
        (400, "192.0.2.1", {"net_id": subnet.network_id, "fixed_ips": [{"ip_address": "192.0.2.1"}]}),
        (404, "00000000", {"net_id": "00000000-0000-4000-8000-000000000000"}),
    ]
    for status, words, wanted in wrong:
        with pytest.raises(Refused) as refusal:
            attach(servers, server_id, **wanted)
        assert refusal.value.status == status
        assert words in refusal.value.message
    assert port_ids(servers, server_id) == []


def test_an_interface_that_cannot_be_plugged_leaves_nothing(
    subnet: Any, port: Any, launch: Launcher, servers: Servers, user: Connection, admin_servers: Servers, lab: Lab
) -> None:
    server_id = launch("hollow")["id"]
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    with _hidden(lab, f"nova-{server_id}"):
        for wanted in ({"net_id": subnet.network_id}, {"port_id": port.id}):
            with pytest.raises(Refused) as refusal:
                attach(servers, server_id, **wanted)
            assert "Unexpected API Error" not in refusal.value.message
        event = wait_event(admin_servers, server_id, "attach_interface", "compute_attach_interface")
    assert event.result == "Error"
    assert not list(user.network.ports(device_id=server_id))
    assert user.network.get_port(port.id).device_id == ""
    assert port_ids(servers, server_id) == []
    assert servers.addresses(server_id) == []


@contextlib.contextmanager
def _hidden(lab: Lab, container: str) -> Iterator[None]:
    """Somebody has renamed a container behind Nova's back."""
    lab.docker("rename", container, f"{container}-hidden")
    try:
        yield
    finally:
        lab.docker("rename", f"{container}-hidden", container)
