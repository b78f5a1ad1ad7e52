"""From Nova's network information to the interfaces that the agent plugs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nova_docker import ovn
from nova_docker.amounts import mtu, unusable_port
from nova_docker.v1 import network_pb2

# What nova.network.model.VIF is: a dictionary, with methods that are not needed here.
Vif = Mapping[str, Any]


def interfaces(network_info: Iterable[Vif] | None) -> list[network_pb2.Interface]:
    """The interfaces of an instance, eth0 first; without OVN's part where Neutron does not answer now."""
    vifs = list(network_info or ())
    served = ovn.served(vifs)
    return [_checked(vif, served or {}) for vif in vifs]


def known_interfaces(network_info: Iterable[Vif] | None, silence: ovn.Silence) -> list[network_pb2.Interface] | None:
    """The same; None where Neutron does not answer now, so that nothing is taken from a guest that has it."""
    vifs = list(network_info or ())
    served = ovn.served(vifs, silence)
    return None if served is None else [_checked(vif, served) for vif in vifs]


def interface(vif: Vif) -> network_pb2.Interface:
    """One interface; raises CallError (PLUG_FAILED) when Nova's record of it is not what a port has."""
    return _checked(vif, ovn.served([vif]) or {})


def _checked(vif: Vif, served: ovn.Served) -> network_pb2.Interface:
    try:
        return _interface(vif, served)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # A record in Nova's cache must not end a nova-compute that plugs every server at its start.
        raise unusable_port(vif.get("id"), f"its record is incomplete ({error!r:.80})") from error


def _interface(vif: Vif, served: ovn.Served) -> network_pb2.Interface:
    network = vif["network"]
    details = vif.get("details") or {}
    return network_pb2.Interface(
        port_id=vif["id"],
        mac_address=vif["address"],
        vif_type=vif.get("type") or "",
        hybrid_plug=bool(details.get("ovs_hybrid_plug")),
        device_name=vif.get("devname") or None,
        bridge=network.get("bridge") or details.get("bridge_name") or "",
        mtu=mtu(vif["id"], (network.get("meta") or {}).get("mtu")),
        subnets=[
            _subnet(subnet, ovn.address(served, network.get("id"), subnet)) for subnet in network.get("subnets") or ()
        ],
        network_id=network.get("id") or None,
    )


def _subnet(subnet: Mapping[str, Any], by_ovn: str | None) -> network_pb2.Subnet:
    routes = [(route["cidr"], _address(route.get("gateway")) or "") for route in subnet.get("routes") or ()]
    # The user's own route counts.
    if by_ovn and ovn.METADATA not in dict(routes):
        routes.append((ovn.METADATA, by_ovn))
    return network_pb2.Subnet(
        cidr=subnet["cidr"],
        addresses=[ip["address"] for ip in subnet.get("ips") or ()],
        gateway=_address(subnet.get("gateway")),
        dns_servers=[server["address"] for server in subnet.get("dns") or ()],
        dhcp_server=(subnet.get("meta") or {}).get("dhcp_server") or by_ovn,
        routes=[network_pb2.Route(destination=cidr, via=via) for cidr, via in routes],
    )


def _address(ip: Mapping[str, Any] | None) -> str | None:
    # A subnet without a gateway has an address without an address.
    return (ip or {}).get("address") or None
