"""The places of a service's servers.

Nova gives two servers one name. Neutron gives no two ports of a network one MAC address, so a port whose address is
made of project, service and number is the place of that server, whoever makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from nova_docker_compose.cloud import MARK, Api, CloudError, Json, of_project
from nova_docker_compose.floating import addresses, release
from nova_docker_compose.network import wait_out
from nova_docker_compose.translation import Wanted, known_as

Hosts = dict[str, list[str]]
"""Addresses by name."""

CLAIM = "claim"
"""What the names of ports that are claims end with."""
_TRIES = 10


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
        ports = [port for port in of_project(api, project, "ports") if CLAIM not in port["name"].split()]
        for port in reversed(ports):
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
        port, _ = exclusive(self._api, body, can_do_without="mac_address" not in said)
        return port


def known_hosts(wanted: Wanted, networks: list[str], neighbours: Iterable[tuple[Wanted, Place]]) -> Hosts:
    """What a server of a service knows by name: the places that share a network with it. `networks` has their ids."""
    made: Hosts = {}
    mine = {network: networks[at] for at, (network, _) in enumerate(wanted.networks)}
    for other, place in neighbours:
        for network, said in other.networks:
            if network in mine:
                for alias in known_as(other, said, wanted):
                    known = made.setdefault(alias, [])
                    known += [each for each in place.addresses(mine[network]) if each not in known]
    return made


def exclusive(api: Api, body: Json, can_do_without: bool = True) -> tuple[Json, bool]:
    """The one port of this name and address, and whether it is we who have made it."""
    for _ in range(_TRIES):
        try:
            return api.request("network", "POST", "/ports", {"port": body})["port"], True
        except CloudError as error:
            refusal = error
        if refusal.status != 409:
            break
        params = {"network_id": body["network_id"], "mac_address": body["mac_address"]}
        same = [each for each in api.listed("network", "/ports", "ports", **params) if _is_same(each, body)]
        if same:
            return same[0], False
        # It has gone meanwhile.
    # On a network of another project not everybody may choose an address: the oldest port of the name counts.
    if refusal.status != 403 or not can_do_without:
        raise refusal
    without = {key: value for key, value in body.items() if key != "mac_address"}
    made = api.request("network", "POST", "/ports", {"port": without})["port"]
    wait_out(api, made["created_at"])
    project = body["description"].removeprefix(MARK)
    same = [each for each in of_project(api, project, "ports") if _is_same(each, body)]
    if not same or same[0]["id"] == made["id"]:
        return made, True
    delete_port(api, made["id"])
    return same[0], False


def _is_same(port: Json, body: Json) -> bool:
    return all(port.get(key) == body[key] for key in ("name", "description", "network_id"))


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


def remove(api: Api, project: str, slots: set[str] | None = None) -> None:
    """Removes places with their floating IPs: these, or all. Their servers are gone."""
    there = addresses(api, project)
    for port in of_project(api, project, "ports"):
        if slots is None or _slot(port) in slots:
            for each in there:
                if each.leads_to(port["id"]):
                    release(api, each, port["id"])
            delete_port(api, port["id"])


def beyond(api: Api, project: str, service: str, replicas: int) -> set[str]:
    """The places of a service with higher numbers, with or without a server."""
    found = set()
    for port in of_project(api, project, "ports"):
        number = _number(project, service, _slot(port))
        if number is not None and number > replicas:
            found.add(_slot(port))
    return found


def delete_port(api: Api, port_id: str) -> None:
    """Removes a port, if it is still there."""
    try:
        api.request("network", "DELETE", f"/ports/{port_id}")
    except CloudError as error:
        if error.status != 404:
            raise


def _slot(port: Json) -> str:
    return str(port["name"]).partition(" ")[0]
