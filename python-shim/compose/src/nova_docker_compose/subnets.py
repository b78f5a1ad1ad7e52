"""Ranges of addresses: those that a file says, and those that nobody says."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

from nova_docker_compose.errors import ComposeError

_POOL = ipaddress.ip_network("10.128.0.0/9")
"""Where the subnets come from whose range nobody says."""


def subnet_of(said: dict[str, Any]) -> dict[str, Any]:
    """What Neutron takes for an entry of `ipam.config`. Raises ComposeError where its addresses are none."""
    try:
        range_ = ipaddress.ip_network(said["subnet"], strict=False)
        body: dict[str, Any] = {"cidr": str(range_), "ip_version": range_.version}
        if "gateway" in said:
            body["gateway_ip"] = str(_within(range_, ipaddress.ip_address(said["gateway"])))
        elif range_.version == 6:
            body["gateway_ip"] = str(range_.network_address + 1)
        if "ip_range" in said:
            pool = ipaddress.ip_network(said["ip_range"], strict=False)
            # Without a word Neutron takes the first.
            gateway = ipaddress.ip_address(body["gateway_ip"]) if "gateway_ip" in body else range_[0] + 1
            body["allocation_pools"] = _pools(range_, pool, gateway)
    except ValueError as error:
        raise ComposeError(f"ipam.config: {error}") from error
    return body


def _pools(range_: Any, pool: Any, gateway: Any) -> list[dict[str, str]]:
    """The addresses of a pool that Neutron gives to servers: not the gateway's, nor those that mean the subnet."""
    start = _within(range_, pool.network_address)
    end = _within(range_, pool.broadcast_address)
    if range_.version == 6 or range_.prefixlen <= 30:
        start = max(start, range_.network_address + 1)
    if range_.version == 4 and range_.prefixlen <= 30:
        end = min(end, range_.broadcast_address - 1)
    parts = [(start, end)]
    if start <= gateway <= end:
        parts = [(start, gateway - 1)] if gateway > start else []
        parts += [(gateway + 1, end)] if gateway < end else []
    if start > end or not parts:
        raise ValueError(f"{pool} has no address for a server")
    return [{"start": str(first), "end": str(last)} for first, last in parts]


def _within(range_: Any, address: Any) -> Any:
    if address not in range_:
        raise ValueError(f"{address} is not in {range_}")
    return address


def free_range(network_id: str, others: list[dict[str, Any]]) -> str:
    """A range of 254 addresses that the project has not yet; each `up` finds the same for a network."""
    taken = [ipaddress.ip_network(each["cidr"]) for each in others]
    size = 1 << (24 - _POOL.prefixlen)
    start = int(hashlib.sha256(network_id.encode()).hexdigest(), 16)
    for step in range(size):
        base = int(_POOL.network_address) + ((start + step) % size) * 256
        found = ipaddress.ip_network((base, 24))
        if not any(found.version == each.version and found.overlaps(each) for each in taken):
            return str(found)
    raise ComposeError("networks: there is no free range of addresses left")
