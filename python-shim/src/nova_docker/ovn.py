"""OVN's own ports, which serve metadata and names in every network, on every host.

Nova's network information names DHCP servers, and OVN has none: a virtual machine hears of the port when ovn-controller
answers its DHCP client. A container has no such client, so Neutron is asked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from nova import context
from nova.network import neutron
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

METADATA = "169.254.169.254/32"

# The addresses of OVN's ports, by network.
Served = Mapping[str, list[str]]

_OWNER = "network:distributed"
# Load balancers have ports of that owner too.
_DEVICE = "ovnmeta-"


def served(vifs: Iterable[Mapping[str, Any]]) -> Served | None:
    """Who serves the networks that OVN wires, if any are; None where Neutron does not answer now."""
    networks = sorted({network for vif in vifs if (network := _network(vif))})
    if not networks:
        return {}
    try:
        client = neutron.get_client(context.get_admin_context(), admin=True)
        ports = client.list_ports(network_id=networks, device_owner=_OWNER)["ports"]
        return {network: _addresses(ports, network) for network in networks}
    except Exception as error:
        # Whatever it is: a server that starts again does not wait for Neutron.
        LOG.warning("Neutron does not name OVN's ports in the networks %s: %s", networks, error)
        return None


def address(served: Served, network: Any, subnet: Mapping[str, Any]) -> str | None:
    """The address of OVN's port in a subnet, if it has one there and no DHCP server of Neutron's is there."""
    cidr = ipaddress.ip_network(subnet["cidr"], strict=False)
    if cidr.version != 4 or (subnet.get("meta") or {}).get("dhcp_server"):
        return None
    return next((found for found in served.get(network, ()) if ipaddress.ip_address(found) in cidr), None)


def _network(vif: Mapping[str, Any]) -> str | None:
    """The network of an interface that OVN's mechanism driver has bound."""
    details, network = vif.get("details"), vif.get("network")
    if not isinstance(details, Mapping) or not isinstance(network, Mapping):
        return None
    drivers = details.get("bound_drivers")
    return network.get("id") if isinstance(drivers, Mapping) and "ovn" in drivers.values() else None


def _addresses(ports: Iterable[Mapping[str, Any]], network: str) -> list[str]:
    own = (port for port in ports if port["network_id"] == network and port["device_id"] == f"{_DEVICE}{network}")
    return sorted(ip["ip_address"] for port in own for ip in port["fixed_ips"])
