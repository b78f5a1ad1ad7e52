"""From Nova's network information to the interfaces that the agent plugs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nova_docker.amounts import mtu, unusable_port
from nova_docker.v1 import network_pb2

# What nova.network.model.VIF is: a dictionary, with methods that are not needed here.
Vif = Mapping[str, Any]


def interfaces(network_info: Iterable[Vif] | None) -> list[network_pb2.Interface]:
    """The interfaces of an instance, eth0 first."""
    return [interface(vif) for vif in network_info or ()]


def interface(vif: Vif) -> network_pb2.Interface:
    """One interface; raises CallError (PLUG_FAILED) when Nova's record of it is not what a port has."""
    try:
        return _interface(vif)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # A record in Nova's cache must not end a nova-compute that plugs every server at its start.
        raise unusable_port(vif.get("id"), f"its record is incomplete ({error!r:.80})") from error


def _interface(vif: Vif) -> network_pb2.Interface:
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
        subnets=[_subnet(subnet) for subnet in network.get("subnets") or ()],
        network_id=network.get("id") or None,
    )


def _subnet(subnet: Mapping[str, Any]) -> network_pb2.Subnet:
    return network_pb2.Subnet(
        cidr=subnet["cidr"],
        addresses=[ip["address"] for ip in subnet.get("ips") or ()],
        gateway=_address(subnet.get("gateway")),
        dns_servers=[server["address"] for server in subnet.get("dns") or ()],
        dhcp_server=(subnet.get("meta") or {}).get("dhcp_server") or None,
        routes=[
            network_pb2.Route(destination=route["cidr"], via=_address(route.get("gateway")) or "")
            for route in subnet.get("routes") or ()
        ],
    )


def _address(ip: Mapping[str, Any] | None) -> str | None:
    # A subnet without a gateway has an address without an address.
    return (ip or {}).get("address") or None
