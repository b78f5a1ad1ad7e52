"""Brings a project's servers to what its files say, from whatever is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nova_docker_compose import conditions, host_groups, slots
from nova_docker_compose.choosing import Choices, choose
from nova_docker_compose.cloud import MARK, Api, CloudError, Server, of_project
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.network import Networks, more_groups, outside_network
from nova_docker_compose.project import COMPLETED, HEALTHY, Project, has_check
from nova_docker_compose.servers import Recipe, Servers
from nova_docker_compose.slots import Hosts, Place, Places, known_hosts
from nova_docker_compose.supply import supply
from nova_docker_compose.translation import Wanted, translate

_POLL = 0.5
_REACHED_SECONDS = 60


@dataclass
class Options:
    """What a user says beside the files."""

    services: Sequence[str] = ()
    """Those to bring up, in order, with what they need; none: all."""
    scale: dict[str, int] = field(default_factory=dict)
    force_recreate: bool = False
    no_recreate: bool = False
    remove_orphans: bool = False
    build: bool = False
    """Images too that are there already."""
    wait: bool = False
    """Until what has a health check is healthy."""


class Up:
    """One `up`. It can be interrupted anywhere, and run again or beside another."""

    def __init__(self, api: Api, project: Project, options: Options, tell: Callable[[str], None]) -> None:
        self._api = api
        self._project = project
        self._options = options
        self._tell = tell
        self._servers = Servers(api, project.name, tell)
        self._places: dict[tuple[str, int], Place] = {}
        self._recipes: dict[str, Recipe] = {}
        self._neighbours: list[tuple[Wanted, Place]] = []
        """All that servers know by name: places of the services that are brought up, and of those that are there."""

    def run(self) -> None:
        """Does it all. Raises ComposeError; what is there stays, and running it again goes on."""
        translation = translate(self._project, self._options.scale)
        for warning in translation.warnings:
            self._tell(f"warning: {warning}")
        chosen = [translation.wanted[name] for name in self._options.services or translation.wanted]
        self._prepare(chosen, [each for each in translation.wanted.values() if each not in chosen])
        for wanted in chosen:
            self._conditions(wanted)
            self._converge(wanted)
        for wanted in chosen:
            if self._options.wait and has_check(wanted.service):
                self._wait_for(wanted, HEALTHY)
        self._orphans()

    def _prepare(self, chosen: list[Wanted], others: list[Wanted]) -> None:
        """Chooses images and flavors for all before anything is made, then makes networks, groups and places."""
        choices = Choices(self._api)
        supply(self._api, self._project, choices, chosen, self._tell, self._options.build)
        picked = choose(choices, chosen)
        networks = Networks(self._api, self._project, self._tell)
        networks.make(chosen)
        groups = networks.groups(chosen)
        places = Places(self._api, self._project.name, networks.ids, groups)
        for wanted in chosen:
            image, flavor = picked[wanted.name]
            ids = [networks.ids[key] for key, _ in wanted.networks] if wanted.replicas else []
            group = host_groups.make(self._api, self._project.name, wanted) if wanted.replicas else None
            self._recipes[wanted.name] = Recipe(wanted, image, flavor, ids, group)
            self._recipes[wanted.name].user_data({})
            more = more_groups(self._api, wanted)
            for number in range(1, wanted.replicas + 1):
                self._places[wanted.name, number] = places.make(wanted, number, more)
                self._neighbours.append((wanted, self._places[wanted.name, number]))
        self._neighbours += [(wanted, place) for wanted in others for place in places.there(wanted)]

    def _conditions(self, wanted: Wanted) -> None:
        """Waits for what a service wants of those before it, as far as they are brought up too."""
        for other, said in wanted.service.get("depends_on", {}).items():
            if said["condition"] in (HEALTHY, COMPLETED) and other in self._recipes:
                self._wait_for(self._recipes[other].wanted, said["condition"])

    def _wait_for(self, wanted: Wanted, condition: str) -> None:
        words = {HEALTHY: "healthy", COMPLETED: "completed"}
        conditions.wait(self._servers, wanted.name, condition, range(1, wanted.replicas + 1))
        self._tell(f"{self._project.name}-{wanted.name}: {words[condition]}")

    def _converge(self, wanted: Wanted) -> None:
        """Brings the servers of one service to what is wanted."""
        recipe = self._recipes[wanted.name]
        there = self._without_twins(wanted.name)
        superfluous = [server for server in there.values() if server.number > wanted.replicas]
        for number in range(1, wanted.replicas + 1):
            server = there.get(number)
            if server is not None and server.status == "ERROR" and server.settled:
                self._tell(f"{server.name}: it is in ERROR ({server.fault}); another takes its place")
                self._servers.delete([server])
                server = None
            if server is None:
                self._create(recipe, number)
            else:
                self._refresh(recipe, server)
        mine = [server.id for server in self._of(wanted) if server.number <= wanted.replicas]
        self._servers.wait(mine, _running(wanted))
        self._addresses(wanted)
        self.remove(superfluous)
        # Of servers that an earlier command took away before it was stopped.
        slots.remove(
            self._api, self._project.name, slots.beyond(self._api, self._project.name, wanted.name, wanted.replicas)
        )

    def _of(self, wanted: Wanted) -> list[Server]:
        return self._servers.listed(wanted.name)

    def _without_twins(self, service: str) -> dict[int, Server]:
        """The servers by their numbers. Of two with one number the older stays."""
        found: dict[int, Server] = {}
        twins = []
        for server in self._servers.listed(service):
            if server.number in found:
                twins.append(server)
            else:
                found[server.number] = server
        self._servers.delete(twins)
        return found

    def _create(self, recipe: Recipe, number: int) -> None:
        place = self._places[recipe.wanted.name, number]
        with slots.claimed(self._api, self._project.name, place):
            # What was listed before the claim is old.
            if any(server.number == number for server in self._servers.listed(recipe.wanted.name)):
                return
            try:
                self._servers.create(recipe, place, self._hosts(recipe.wanted))
            except CloudError as error:
                raise CloudError(error.status, f"services.{recipe.wanted.name}: {error}") from error

    def _refresh(self, recipe: Recipe, server: Server) -> None:
        """Makes a server what the file says: rebuilt, made anew, or started."""
        # Where something goes on with it, another `up` is at it, or an earlier one was.
        now = server if server.settled else self._settled(server)
        if now is not None and now.status not in ("ACTIVE", "SHUTOFF"):
            raise ComposeError(f"{now.name}: it is {now.status}; bring it to ACTIVE first, or delete it")
        wanted, there = recipe.digest().split("-"), (now or server).digest.split("-")
        changed = (wanted != there or self._options.force_recreate) and not self._options.no_recreate
        if now is None or (changed and wanted[1:] != there[1:]):
            self._servers.delete([now] if now else [])
            self._create(recipe, server.number)
            new = [each.id for each in self._of(recipe.wanted) if each.number == server.number]
            self._servers.wait(new, _running(recipe.wanted))
            return
        was_stopped = now.status == "SHUTOFF"
        try:
            if changed:
                self._servers.rebuild(now, recipe, self._hosts(recipe.wanted))
                # One after the other, so that a service is never away as a whole.
                now = self._settled(now)
            # A server that is rebuilt when it is stopped stays so, whatever it did before.
            ended = recipe.wanted.oneshot and now is not None and now.exit_code == 0 and not (changed and was_stopped)
            if now is not None and now.status == "SHUTOFF" and not ended:
                self._servers.start(now)
        except CloudError as error:
            # Another `up` has begun the same: what counts is what comes of it.
            other = self._settled(server) if error.status == 409 else None
            if other is None or other.digest != recipe.digest():
                raise

    def _settled(self, server: Server) -> Server | None:
        """The server when nothing goes on with it any more; None when it has gone."""
        self._servers.wait([server.id], ("ACTIVE", "SHUTOFF"), gone_is_well=True)
        return next((each for each in self._servers.listed(server.service) if each.id == server.id), None)

    def _hosts(self, wanted: Wanted) -> Hosts:
        """Names and addresses of the other services that share a network with this one."""
        others = [(other, place) for other, place in self._neighbours if other.name != wanted.name]
        return known_hosts(wanted, self._recipes[wanted.name].networks, others)

    def _addresses(self, wanted: Wanted) -> None:
        """Gives floating IPs to the servers of a service that has ports, and takes others away."""
        there = of_project(self._api, self._project.name, "floatingips")
        for number in range(1, wanted.replicas + 1):
            place = self._places[wanted.name, number]
            port_id = place.ports[0]["id"]
            mine = [each for each in there if each["port_id"] == port_id]
            if wanted.floating and not mine:
                self._floating_ip(wanted, number, port_id)
            elif not wanted.floating:
                for each in mine:
                    self._api.request("network", "DELETE", f"/floatingips/{each['id']}")
        if wanted.floating:
            ports = {self._places[wanted.name, number].ports[0]["id"] for number in range(1, wanted.replicas + 1)}
            self._wait_reached(ports)

    def _wait_reached(self, ports: set[str]) -> None:
        """Waits until the floating IPs of ports lead there: a router learns of them after Neutron has answered."""
        end = time.monotonic() + _REACHED_SECONDS
        while True:
            there = of_project(self._api, self._project.name, "floatingips")
            missing = [each for each in there if each["port_id"] in ports and each.get("status") != "ACTIVE"]
            if not missing:
                return
            if time.monotonic() > end:
                names = ", ".join(each["floating_ip_address"] for each in missing)
                self._tell(f"warning: Neutron does not say yet that {names} can be reached")
                return
            time.sleep(_POLL)

    def _floating_ip(self, wanted: Wanted, number: int, port_id: str) -> None:
        outside = outside_network(self._api)
        if outside is None:
            raise ComposeError(f"services.{wanted.name}.ports: the cloud has no network outside")
        description = MARK + self._project.name
        body = {"floating_network_id": outside, "port_id": port_id, "description": description}
        try:
            made = self._api.request("network", "POST", "/floatingips", {"floatingip": body})["floatingip"]
        except CloudError as error:
            if error.status != 409:
                raise
            # Another `up` has given one.
            return
        name = slots.slot_name(self._project.name, wanted.name, number)
        self._tell(f"{name}: reached at {made['floating_ip_address']}")

    def remove(self, servers: list[Server]) -> None:
        """Takes servers away with their places and floating IPs, the highest number first."""
        for server in sorted(servers, key=lambda each: -each.number):
            self._servers.delete([server])
            slot = slots.slot_name(self._project.name, server.service, server.number)
            slots.remove(self._api, self._project.name, {slot})

    def _orphans(self) -> None:
        known = {*self._project.services, *self._project.disabled}
        orphans = [each for each in self._servers.listed() if each.service not in known]
        if orphans and self._options.remove_orphans:
            self.remove(orphans)
        elif orphans:
            names = ", ".join(each.name for each in orphans)
            self._tell(f"warning: no service of the files has {names}; --remove-orphans removes them")


def _running(wanted: Wanted) -> tuple[str, ...]:
    """The states of a server that has come up. One whose end others wait for may have ended."""
    return ("ACTIVE", "SHUTOFF") if wanted.oneshot else ("ACTIVE",)
