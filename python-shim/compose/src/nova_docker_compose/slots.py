"""The places of a service's servers: ports that are made before them, of which there can only be one.

Nova gives two servers one name. Neutron gives no two ports of a network one MAC address, so a port whose address is
made of project, service and number is the place of that server, whoever makes it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from datetime import datetime

from nova_docker_compose.cloud import MARK, Api, CloudError, Json, of_project
from nova_docker_compose.network import wait_out
from nova_docker_compose.translation import Wanted

_CLAIM_SECONDS = 60
"""So long a claim is left to another `up`; then that one has died between its claim and its launch."""
_POLL = 1.0


@dataclass
class Place:
    """Where a server is plugged in: its ports, the first of which is the place itself."""

    service: str
    number: int
    ports: list[Json]

    def addresses(self, network_id: str) -> list[str]:
        """Its addresses on a network."""
        ports = [port for port in self.ports if port["network_id"] == network_id]
        return [address["ip_address"] for port in ports for address in port["fixed_ips"]]


class Places:
    """The places of all services of a project."""

    def __init__(self, api: Api, project: str, networks: dict[str, str], groups: dict[str, str]) -> None:
        self._api = api
        self._project = project
        self._networks = networks
        self._groups = groups
        self._there: dict[tuple[str, str], Json] = {}
        for port in reversed(of_project(api, project, "ports")):
            self._there[_slot(port), port["network_id"]] = port

    def make(self, wanted: Wanted, number: int, more_groups: list[str]) -> Place:
        """The place of a server, made if it is not there."""
        groups = [self._groups[key] for key in ("", wanted.name) if key in self._groups] + more_groups
        ports = []
        for key, said in wanted.networks:
            network = self._networks[key]
            slot = slot_name(self._project, wanted.name, number)
            port = self._there.get((slot, network)) or self._make(wanted, number, network, said, groups)
            if set(port["security_groups"]) != set(groups):
                body = {"port": {"security_groups": groups}}
                port = self._api.request("network", "PUT", f"/ports/{port['id']}", body)["port"]
            self._there[slot, network] = port
            ports.append(port)
        return Place(wanted.name, number, ports)

    def there(self, wanted: Wanted) -> list[Place]:
        """The places that a service has already."""
        found: dict[int, list[Json]] = {}
        for (slot, _), port in self._there.items():
            number = _number(self._project, wanted.name, slot)
            if number is not None:
                found.setdefault(number, []).append(port)
        return [Place(wanted.name, number, ports) for number, ports in sorted(found.items())]

    def _make(self, wanted: Wanted, number: int, network: str, said: Json, groups: list[str]) -> Json:
        slot = slot_name(self._project, wanted.name, number)
        body: Json = {
            "name": slot,
            "description": MARK + self._project,
            "network_id": network,
            "security_groups": groups,
            "mac_address": said.get("mac_address") or mac_address(self._api.project_id(), slot, network),
        }
        fixed = [said[key] for key in ("ipv4_address", "ipv6_address") if key in said]
        if fixed:
            body["fixed_ips"] = [{"ip_address": address} for address in fixed]
        try:
            return dict(self._api.request("network", "POST", "/ports", {"port": body})["port"])
        except CloudError as error:
            if error.status == 409:
                return self._of_another(network, body, error)
            # Not everybody may choose an address on a network of another's.
            if error.status != 403 or "mac_address" in said:
                raise
        return self._without_address(network, body)

    def _of_another(self, network: str, body: Json, error: CloudError) -> Json:
        """The port that another `up` has made meanwhile."""
        params = {"network_id": network, "mac_address": body["mac_address"]}
        for port in self._api.listed("network", "/ports", "ports", **params):
            if _slot(port) == body["name"] and port.get("description") == body["description"]:
                return port
        raise error

    def _without_address(self, network: str, body: Json) -> Json:
        """On a network of another project: the oldest of the ports with this name is the place."""
        del body["mac_address"]
        made = self._api.request("network", "POST", "/ports", {"port": body})["port"]
        wait_out(self._api, made["created_at"])
        same = [
            port
            for port in of_project(self._api, self._project, "ports")
            if _slot(port) == body["name"] and port["network_id"] == network
        ]
        if same and same[0]["id"] != made["id"]:
            self._api.request("network", "DELETE", f"/ports/{made['id']}")
            return same[0]
        return dict(made)


def slot_name(project: str, service: str, number: int) -> str:
    """The name of a place, and of its server."""
    return f"{project}-{service}-{number}"


def _number(project: str, service: str, slot: str) -> int | None:
    number = slot.removeprefix(slot_name(project, service, 0)[:-1])
    return int(number) if number.isdigit() else None


def mac_address(project_id: str, slot: str, network: str) -> str:
    """The address of a place's port: of the kind that nobody's hardware has."""
    digest = hashlib.sha256(f"{project_id} {slot} {network}".encode()).digest()
    return ":".join(["02", *(f"{byte:02x}" for byte in digest[:5])])


def claim(api: Api, place: Place) -> bool:
    """Whether the server of this place is ours to make. False: another `up` has made it."""
    port_id = place.ports[0]["id"]
    while True:
        port = api.request("network", "GET", f"/ports/{port_id}")["port"]
        if port["device_id"]:
            return False
        if _claimed_by(port) and _age(api, port) < _CLAIM_SECONDS:
            # Neutron has nothing to wait on.
            time.sleep(_POLL)
            continue
        body = {"port": {"name": f"{_slot(port)} {secrets.token_hex(4)}"}}
        match = {"If-Match": f"revision_number={port['revision_number']}"}
        try:
            api.request("network", "PUT", f"/ports/{port_id}", body, headers=match)
            return True
        except CloudError as error:
            if error.status != 412:
                raise


def give_back(api: Api, place: Place) -> None:
    """Ends a claim whose launch was refused, so that nobody waits for it."""
    body = {"port": {"name": _slot(place.ports[0])}}
    api.request("network", "PUT", f"/ports/{place.ports[0]['id']}", body)


def remove(api: Api, project: str, slots: set[str] | None = None) -> None:
    """Removes places with their floating IPs: these, or all. Their servers are gone."""
    floating = of_project(api, project, "floatingips")
    for port in of_project(api, project, "ports"):
        if slots is None or _slot(port) in slots:
            for each in floating:
                if each["port_id"] == port["id"]:
                    _delete(api, f"/floatingips/{each['id']}")
            _delete(api, f"/ports/{port['id']}")


def beyond(api: Api, project: str, service: str, replicas: int) -> set[str]:
    """The places of a service with higher numbers, with or without a server."""
    found = set()
    for port in of_project(api, project, "ports"):
        number = _number(project, service, _slot(port))
        if number is not None and number > replicas:
            found.add(_slot(port))
    return found


def _delete(api: Api, path: str) -> None:
    try:
        api.request("network", "DELETE", path)
    except CloudError as error:
        if error.status != 404:
            raise


def _slot(port: Json) -> str:
    return str(port["name"]).partition(" ")[0]


def _claimed_by(port: Json) -> str:
    return str(port["name"]).partition(" ")[2]


def _age(api: Api, port: Json) -> float:
    updated = datetime.fromisoformat(port["updated_at"].replace("Z", "+00:00"))
    return (api.now - updated).total_seconds()
