"""Floating IPs of a project: whole ones, and those of which single ports are forwarded.

A whole one belongs to a port and has the container's own ports. Where a published port is another than the container's,
the floating IP belongs to nobody, and Neutron forwards ports of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nova_docker_compose.cloud import Api, CloudError, Json, of_project

EXTENSION = "floating-ip-port-forwarding"
Forward = tuple[str, int, int]
"""Protocol, published port, the container's port."""

_NOT_FOUND = 404


@dataclass
class Address:
    """A floating IP with what it forwards."""

    body: Json
    forwardings: list[Json]

    @property
    def id(self) -> str:
        return str(self.body["id"])

    def leads_to(self, port_id: str) -> bool:
        """Whether the port is reached at it."""
        return self.body["port_id"] == port_id or bool(self.forwarded(port_id))

    def forwarded(self, port_id: str) -> dict[Forward, Json]:
        """What of it is forwarded to a port."""
        return {
            (each["protocol"], each["external_port"], each["internal_port"]): each
            for each in self.forwardings
            if each["internal_port_id"] == port_id
        }

    @property
    def is_spare(self) -> bool:
        """Whether it leads nowhere: its `up` was stopped."""
        return not self.body["port_id"] and not self.forwardings


def addresses(api: Api, project: str) -> list[Address]:
    """Those of the project, the oldest first."""
    return [Address(each, _forwardings(api, each)) for each in of_project(api, project, "floatingips")]


def _forwardings(api: Api, body: Json) -> list[Json]:
    if body["port_id"]:
        # Neutron forwards nothing of these.
        return []
    try:
        return api.listed("network", f"/floatingips/{body['id']}/port_forwardings", "port_forwardings")
    except CloudError as error:
        # It has gone, or this Neutron forwards nothing.
        if error.status != _NOT_FOUND:
            raise
        return []


def can_forward(api: Api) -> bool:
    """Whether the cloud's Neutron forwards ports."""
    try:
        api.request("network", "GET", f"/extensions/{EXTENSION}")
    except CloudError as error:
        if error.status != _NOT_FOUND:
            raise
        return False
    return True


def associate(api: Api, address: Address, port_id: str | None) -> None:
    """Gives all of a floating IP to a port, or to none."""
    answer = api.request("network", "PUT", f"/floatingips/{address.id}", {"floatingip": {"port_id": port_id}})
    address.body = answer["floatingip"]


def forward(api: Api, address: Address, wanted: Forward, port: Json) -> None:
    """Forwards a port of a floating IP. Raises CloudError."""
    protocol, published, target = wanted
    body = {"protocol": protocol, "external_port": published, **_inside(port, target)}
    path = f"/floatingips/{address.id}/port_forwardings"
    address.forwardings.append(api.request("network", "POST", path, {"port_forwarding": body})["port_forwarding"])


def move(api: Api, address: Address, old: Json, new: Json) -> None:
    """Lets what leads to one port lead to another of the same router. Raises CloudError."""
    if address.body["port_id"] == old["id"]:
        associate(api, address, new["id"])
    for (_, _, target), each in address.forwarded(old["id"]).items():
        path = f"/floatingips/{address.id}/port_forwardings/{each['id']}"
        api.request("network", "PUT", path, {"port_forwarding": _inside(new, target)})


def _inside(port: Json, target: int) -> Json:
    # Neutron forwards IPv4 alone.
    four = [each["ip_address"] for each in port["fixed_ips"] if ":" not in each["ip_address"]]
    return {"internal_port_id": port["id"], "internal_ip_address": (four or [None])[0], "internal_port": target}


def forget(api: Api, address: Address, forwardings: list[Json]) -> None:
    """Ends these forwardings of a floating IP."""
    for each in forwardings:
        _delete(api, f"/floatingips/{address.id}/port_forwardings/{each['id']}")
        address.forwardings.remove(each)


def release(api: Api, address: Address, port_id: str | None = None) -> None:
    """Removes a floating IP; where it leads elsewhere too, only what leads to this port."""
    mine = [each for each in address.forwardings if port_id in (None, each["internal_port_id"])]
    forget(api, address, mine)
    if not address.forwardings:
        _delete(api, f"/floatingips/{address.id}")


def _delete(api: Api, path: str) -> None:
    try:
        api.request("network", "DELETE", path)
    except CloudError as error:
        if error.status != _NOT_FOUND:
            raise


def reached_at(address: Address, port_id: str) -> list[str]:
    """Where a port is reached: an address, or single ports of it."""
    whole = str(address.body["floating_ip_address"])
    if address.body["port_id"] == port_id:
        return [whole]
    by_port = sorted(address.forwarded(port_id), key=lambda each: each[1:])
    return [f"{whole}:{published}->{target}/{protocol}" for protocol, published, target in by_port]


def forwarded_to(api: Api, project: str) -> dict[str, list[tuple[Address, str]]]:
    """The floating IPs that forward to servers, with the port that they forward to, by the server's id."""
    there = [each for each in addresses(api, project) if each.forwardings]
    made: dict[str, list[tuple[Address, str]]] = {}
    for port in of_project(api, project, "ports") if there else []:
        for each in there:
            if each.forwarded(port["id"]):
                made.setdefault(port["device_id"], []).append((each, port["id"]))
    return made
