"""The interfaces of guests, against the fake agent."""

import threading

import pytest
from conftest import INSTANCE, PORT
from nova import exception
from nova.network import model, neutron
from nova_docker import ovn


def test_a_missing_container_does_not_keep_nova_compute_from_starting(driver, fake_agent, instance, network_info):
    driver.plug_vifs(instance, network_info)
    assert fake_agent.methods() == ["PlugGuest"]


def test_interfaces_are_plugged_and_unplugged(driver, running, fake_agent, context, instance, network_info):
    driver.plug_vifs(instance, network_info)
    driver.attach_interface(context, instance, None, network_info[0])
    driver.detach_interface(context, instance, network_info[0])
    driver.unplug_vifs(instance, network_info)
    assert fake_agent.methods() == ["PlugGuest", "AttachInterface", "DetachInterface", "UnplugGuest"]
    assert fake_agent.request("AttachInterface")["interface"]["port_id"] == PORT
    assert fake_agent.request("DetachInterface") == {"guest_id": INSTANCE, "port_id": PORT}


NETWORK = "9e25f37b-91f4-4438-b681-7c14f776f1e8"


class Neutron:
    """Neutron's ports of OVN in the network of the tests."""

    def __init__(self, *ports):
        self.ports = ports
        self.asked = []

    def list_ports(self, **filters):
        self.asked.append(filters)
        return {"ports": list(self.ports)}


def ovn_port(address, device=f"ovnmeta-{NETWORK}"):
    return {"network_id": NETWORK, "device_id": device, "fixed_ips": [{"ip_address": address}]}


@pytest.fixture
def by_ovn(network_info):
    """The interface as ML2/OVN binds it: no DHCP server is Neutron's."""
    vif = network_info[0]
    vif["details"]["bound_drivers"] = {"0": "ovn"}
    vif["network"]["subnets"][0]["meta"].pop("dhcp_server")
    return vif


def plugged_subnet(driver, fake_agent, instance, network_info):
    driver.plug_vifs(instance, network_info)
    (subnet,) = fake_agent.request("PlugGuest")["interfaces"][0]["subnets"]
    return subnet


def test_ovns_own_port_serves_metadata_and_names(
    driver, running, fake_agent, instance, network_info, by_ovn, monkeypatch
):
    # A load balancer's address is no metadata service, and one elsewhere is not of this subnet.
    cloud = Neutron(ovn_port("10.0.0.8", "ovn-lb-vip"), ovn_port("10.9.0.3"), ovn_port("10.0.0.3"))
    monkeypatch.setattr(neutron, "get_client", lambda *arguments, **options: cloud)
    subnet = plugged_subnet(driver, fake_agent, instance, network_info)
    assert subnet["routes"][-1] == {"destination": "169.254.169.254/32", "via": "10.0.0.3"}
    assert subnet["dhcp_server"] == "10.0.0.3"
    assert cloud.asked == [{"network_id": [NETWORK], "device_owner": "network:distributed"}]


def test_a_users_own_route_to_metadata_counts(driver, running, fake_agent, instance, network_info, by_ovn, monkeypatch):
    own = model.Route(cidr="169.254.169.254/32", gateway=model.IP(address="10.0.0.9", type="gateway"))
    by_ovn["network"]["subnets"][0]["routes"] = [own]
    monkeypatch.setattr(neutron, "get_client", lambda *arguments, **options: Neutron(ovn_port("10.0.0.3")))
    subnet = plugged_subnet(driver, fake_agent, instance, network_info)
    assert subnet["routes"] == [{"destination": "169.254.169.254/32", "via": "10.0.0.9"}]


def test_a_neutron_that_does_not_answer_takes_nothing_from_a_running_server_and_stops_no_start(
    driver, running, fake_agent, context, instance, network_info, by_ovn, monkeypatch
):
    def unreachable(*arguments, **options):
        raise exception.NeutronAdminCredentialConfigurationInvalid

    monkeypatch.setattr(neutron, "get_client", unreachable)
    driver.plug_vifs(instance, network_info)
    assert fake_agent.methods() == []
    driver.power_on(context, instance, network_info)
    (subnet,) = fake_agent.request("StartGuest")["interfaces"][0]["subnets"]
    assert [route["destination"] for route in subnet["routes"]] == ["192.0.2.0/24"]


def test_of_a_neutron_that_keeps_silent_a_start_of_nova_compute_asks_once(
    driver, running, fake_agent, instance, network_info, by_ovn, monkeypatch
):
    asked, end = [], threading.Event()

    class Silent:
        def list_ports(self, **filters):
            asked.append(filters)
            end.wait()

    monkeypatch.setattr(ovn, "_PATIENCE", 0.05)
    monkeypatch.setattr(neutron, "get_client", lambda *arguments, **options: Silent())
    for _ in range(3):
        driver.plug_vifs(instance, network_info)
    assert (len(asked), fake_agent.methods()) == (1, [])
    end.set()
    monkeypatch.setattr(neutron, "get_client", lambda *arguments, **options: Neutron(ovn_port("10.0.0.3")))
    driver._neutron_silence = ovn.Silence()
    assert plugged_subnet(driver, fake_agent, instance, network_info)["dhcp_server"] == "10.0.0.3"


def test_ovns_port_serves_metadata_beside_a_dhcp_server_and_one_of_a_segment_does_too(
    driver, running, fake_agent, instance, network_info, by_ovn, monkeypatch
):
    by_ovn["network"]["subnets"][0]["meta"]["dhcp_server"] = "10.0.0.2"
    cloud = Neutron(ovn_port("10.0.0.3", "ovnmeta-77777777-0000-4000-8000-000000000000"))
    monkeypatch.setattr(neutron, "get_client", lambda *arguments, **options: cloud)
    subnet = plugged_subnet(driver, fake_agent, instance, network_info)
    assert subnet["routes"][-1] == {"destination": "169.254.169.254/32", "via": "10.0.0.3"}
    assert subnet["dhcp_server"] == "10.0.0.2"


def test_neutron_is_not_asked_about_ports_that_its_own_agents_wire(
    driver, running, fake_agent, instance, network_info, monkeypatch
):
    cloud = Neutron()
    monkeypatch.setattr(neutron, "get_client", lambda *arguments, **options: cloud)
    subnet = plugged_subnet(driver, fake_agent, instance, network_info)
    assert subnet["dhcp_server"] == "10.0.0.2"
    assert cloud.asked == []
