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
            ends = (_within(range_, pool.network_address), _within(range_, pool.broadcast_address))
            body["allocation_pools"] = [{"start": str(ends[0]), "end": str(ends[1])}]
    except ValueError as error:
        raise ComposeError(f"ipam.config: {error}") from error
    return body


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
