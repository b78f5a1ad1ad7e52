"""Gives a service's servers the floating IPs, and the ports of them, that it is reached at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager

from nova_docker_compose import floating
from nova_docker_compose.cloud import MARK, Api, CloudError, Json
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.floating import Address, addresses
from nova_docker_compose.network import outside_network
from nova_docker_compose.translation import Wanted

_POLL = 0.5
_REACHED_SECONDS = 60
_TRIES = 10
_TAKEN = (400, 404, 409)
"""Neutron's answers where another has been quicker."""

Ports = dict[str, Json]
"""The first port of each server, by the server's place."""
Beyond = Callable[[], Sequence[Json]]
"""Lists the ports of servers that will go."""


class Reaching:
    """Floating IPs of one project. All of it can be done again, and by several at once."""

    def __init__(self, api: Api, project: str, tell: Callable[[str], None]) -> None:
        self._api = api
        self._project = project
        self._tell = tell

    def check(self, wanted: Iterable[Wanted]) -> None:
        """Raises ComposeError for ports that this cloud does not forward. Nothing is made."""
        asking = [each for each in wanted if each.forwards]
        if asking and not floating.can_forward(self._api):
            lines = [f"services.{each.name}.ports: {cannot_forward(each)}" for each in asking]
            raise ComposeError("\n".join(lines))

    def bring(self, wanted: Wanted, ports: Ports, beyond: Beyond) -> None:
        """Gives the servers of a service what it is reached at, takes the rest away, and waits until it leads there.

        What leads to those that will go is the first to be given.
        """
        there = self._take_back(wanted, ports, beyond)
        for name, port in ports.items():
            mine = [each for each in there if each.leads_to(port["id"])]
            if not wanted.floating:
                for each in mine:
                    floating.release(self._api, each, port["id"])
            elif wanted.forwards:
                self._forward(wanted, name, port)
            else:
                self._whole(wanted, name, port, mine or [each for each in there if each.is_spare])
                there = addresses(self._api, self._project) if any(each.is_spare for each in there) else there
        if wanted.floating:
            self._wait({port["id"] for port in ports.values()})

    def clear(self, wanted: Wanted, ports: Ports, beyond: Beyond) -> None:
        """Lets nothing lead to servers that will go: a port has one floating IP, and others are to be led there."""
        self._take_back(wanted, ports, beyond, release=True)

    def _take_back(self, wanted: Wanted, ports: Ports, beyond: Beyond, release: bool = False) -> list[Address]:
        """Gives what leads to servers that go to those that lack it, and may remove the rest; what is there then."""
        there = addresses(self._api, self._project)
        # Those that an address leads to by now are among these.
        for old in beyond():
            leading = [each for each in there if each.leads_to(old["id"])]
            lacking = [port for port in ports.values() if not any(each.leads_to(port["id"]) for each in there)]
            if leading and wanted.floating and lacking:
                self.move(old, lacking[0], {each.id for each in leading})
            elif leading and release:
                for each in leading:
                    floating.release(self._api, each, old["id"])
            else:
                continue
            there = addresses(self._api, self._project)
        return there

    def move(self, old: Json, new: Json, chosen: Set[str] | None = None) -> set[str]:
        """Lets what leads to one port lead to another: these floating IPs, or all. Those that lead there then.

        Where another `up` has led something there, an address stays where it is.
        """
        tried = set[str]()
        for _ in range(_TRIES):
            leading = [each for each in addresses(self._api, self._project) if each.leads_to(old["id"])]
            moving = [each for each in leading if chosen is None or each.id in chosen]
            tried |= {each.id for each in moving}
            try:
                for each in moving:
                    floating.move(self._api, each, old, new)
                break
            except CloudError as error:
                if error.status not in _TAKEN:
                    raise
                time.sleep(_POLL)
        return tried & {each.id for each in self._wait({new["id"]})}

    def _whole(self, wanted: Wanted, name: str, port: Json, known: list[Address]) -> None:
        """Gives a server all of a floating IP: one of these, or a new one."""
        if any(each.body["port_id"] for each in known):
            return
        try:
            if known:
                # Until now only ports of it were forwarded; the address stays.
                address = known[0]
                floating.forget(self._api, address, [*address.forwardings])
                with _of(wanted):
                    floating.associate(self._api, address, port["id"])
            else:
                address = self._new(wanted, port["id"])
        except CloudError as error:
            there = addresses(self._api, self._project) if error.status == 409 else []
            # Another `up` has given one; or there are no more to be had, which Neutron says with the same number.
            if not any(each.leads_to(port["id"]) for each in there):
                raise
            return
        self._tell(f"{name}: reached at {address.body['floating_ip_address']}")

    def _forward(self, wanted: Wanted, name: str, port: Json) -> None:
        """Forwards the ports of a server, all of one floating IP. The oldest counts, whichever `up` has made it."""
        refused: CloudError | None = None
        for _ in range(_TRIES):
            there = addresses(self._api, self._project)
            mine = [each for each in there if each.leads_to(port["id"])]
            for each in mine[1:]:
                floating.release(self._api, each, port["id"])
            known = [*mine, *(each for each in there if each.is_spare)]
            address = known[0] if known else self._new(wanted, None)
            if set(address.forwarded(port["id"])) == set(wanted.forwards):
                return
            try:
                self._forward_all(address, wanted, port)
            except CloudError as error:
                refused = error
                if error.status not in _TAKEN:
                    break
                self._give_way(address, port)
                time.sleep(_POLL)
                continue
            self._tell(f"{name}: reached at {', '.join(floating.reached_at(address, port['id']))}")
            return
        if refused is not None:
            with _of(wanted):
                raise refused

    def _forward_all(self, address: Address, wanted: Wanted, port: Json) -> None:
        if address.body["port_id"]:
            # Until now all of it belonged to the server; the address stays.
            floating.associate(self._api, address, None)
        there = address.forwarded(port["id"])
        floating.forget(self._api, address, [each for key, each in there.items() if key not in wanted.forwards])
        for each in wanted.forwards:
            if each not in there:
                floating.forward(self._api, address, each, port)

    def _give_way(self, address: Address, port: Json) -> None:
        """Removes a floating IP of which another `up` does not know, if that has one for the port."""
        there = addresses(self._api, self._project)
        if any(each.leads_to(port["id"]) for each in there if each.id != address.id):
            for each in there:
                if each.id == address.id and each.is_spare:
                    floating.release(self._api, each)

    def _new(self, wanted: Wanted, port_id: str | None) -> Address:
        outside = outside_network(self._api)
        if outside is None:
            raise ComposeError(f"services.{wanted.name}.ports: the cloud has no network outside")
        body: Json = {"floating_network_id": outside, "description": MARK + self._project}
        if port_id is not None:
            body["port_id"] = port_id
        with _of(wanted):
            made = self._api.request("network", "POST", "/floatingips", {"floatingip": body})["floatingip"]
        return Address(made, [])

    def _wait(self, ports: set[str]) -> list[Address]:
        """Waits until what leads to ports can be reached: a router learns of it after Neutron has answered.

        Returns what leads there.
        """
        end = time.monotonic() + _REACHED_SECONDS
        while True:
            there = addresses(self._api, self._project)
            leading = [each for each in there if any(each.leads_to(port) for port in ports)]
            missing = [each.body for each in leading if each.body.get("status") != "ACTIVE"]
            if not missing:
                return leading
            if time.monotonic() > end:
                names = ", ".join(each["floating_ip_address"] for each in missing)
                self._tell(f"warning: Neutron does not say yet that {names} can be reached")
                return leading
            time.sleep(_POLL)


@contextmanager
def _of(wanted: Wanted) -> Iterator[None]:
    """Names the service whose ports the cloud refuses."""
    try:
        yield
    except CloudError as error:
        raise CloudError(error.status, f"services.{wanted.name}.ports: {error}") from error


def cannot_forward(wanted: Wanted) -> str:
    """What is told of a service where Neutron forwards no ports."""
    shown = ", ".join(f"{published}:{target}" for _, published, target in wanted.forwards if published != target)
    own = ", ".join(f"{target}:{target}" for _, published, target in wanted.forwards if published != target)
    return (
        f"{shown} cannot be had: this cloud's Neutron forwards no ports ({floating.EXTENSION}), and a floating IP has"
        f" the container's own ports; write {own}"
    )
