"""Brings the servers of one service to what its file says, from whatever is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

from nova_docker_compose import claims, cloud, conditions, hooks, slots
from nova_docker_compose.cloud import Api, CloudError, Json, Server
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import HEALTHY, has_check
from nova_docker_compose.reaching import Reaching
from nova_docker_compose.servers import Recipe, Servers
from nova_docker_compose.slots import Hosts, Place, known_hosts
from nova_docker_compose.translation import Wanted


@dataclass
class Ground:
    """What the servers of a project stand on, made before them."""

    make_place: Callable[[Wanted, int], Place]
    recipes: dict[str, Recipe] = field(default_factory=dict)
    places: dict[tuple[str, int], Place] = field(default_factory=dict)
    neighbours: list[tuple[Wanted, Place]] = field(default_factory=list)
    """All that servers know by name: places of the services that are brought up, and of those that are there."""


class Converging:
    """One service of one `up`."""

    def __init__(
        self, api: Api, servers: Servers, reaching: Reaching, ground: Ground, recipe: Recipe, project: str
    ) -> None:
        self._api = api
        self._servers = servers
        self._reaching = reaching
        self._ground = ground
        self._recipe = recipe
        self._wanted = recipe.wanted
        self._project = project
        self._tell: Callable[[str], None] = servers.tell

    def converge(self, force: bool, keep: bool) -> None:
        """Makes, changes and starts servers, and takes away those that are too many.

        `force` rebuilds also what has not changed; `keep` leaves as it is what has. Where servers stand in for others,
        one command at a time does so: two would use the same ones, and neither would know where addresses lead.
        """
        if self._wanted.update.start_first and self._wanted.replicas:
            first = self._ground.places[self._wanted.name, 1]
            with claims.all_claimed(self._api, self._project, first, self._tell):
                self._converge(force, keep)
        else:
            self._converge(force, keep)

    def _converge(self, force: bool, keep: bool) -> None:
        there = self._without_twins()
        changed = []
        for number in range(1, self._wanted.replicas + 1):
            server = self._repaired(there.get(number))
            if server is None:
                self._create(number)
            elif not keep and (force or server.digest != self._recipe.digest()):
                changed.append(server)
            else:
                self._start(server)
        self._come_up([number for number in self._numbers() if number not in {each.number for each in changed}])
        self._update(changed)
        self._reaching.bring(self._wanted, self._ports(self._numbers()), self._ports_beyond)
        superfluous = [server for server in self._there() if server.number > self._wanted.replicas]
        remove(self._api, self._servers, self._project, superfluous)
        # Of servers that an earlier command took away before it was stopped.
        slots.remove(self._api, self._project, self._beyond())

    # ------------------------------------------------------------ what is there

    def _numbers(self) -> range:
        return range(1, self._wanted.replicas + 1)

    def _there(self) -> list[Server]:
        return self._servers.listed(self._wanted.name)

    def _beyond(self) -> set[str]:
        return slots.beyond(self._api, self._project, self._wanted.name, self._wanted.replicas)

    def _ports_beyond(self) -> list[Json]:
        beyond = self._beyond()
        ports = cloud.of_project(self._api, self._project, "ports") if beyond else []
        found = [port for port in ports if port["name"] in beyond]
        # By number: so addresses come back to where they were.
        return sorted(found, key=lambda port: (len(port["name"]), port["name"]))

    def _without_twins(self) -> dict[int, Server]:
        """The servers by their numbers. Of two with one number the older stays."""
        found: dict[int, Server] = {}
        twins = []
        for server in self._there():
            if server.number in found:
                twins.append(server)
            else:
                found[server.number] = server
        self._servers.delete(twins)
        return found

    def _repaired(self, server: Server | None) -> Server | None:
        """The server if it can be gone on with; one that has failed goes."""
        if server is not None and not server.settled:
            # Another `up` is at it, or an earlier one was.
            server = self._settled(server)
        if server is not None and server.status == "ERROR":
            self._tell(f"{server.name}: it is in ERROR ({server.fault}); another takes its place")
            self._servers.delete([server])
            return None
        if server is not None and server.status not in ("ACTIVE", "SHUTOFF"):
            raise ComposeError(f"{server.name}: it is {server.status}; bring it to ACTIVE first, or delete it")
        return server

    def _settled(self, server: Server) -> Server | None:
        """The server when nothing goes on with it any more; None when it has gone."""
        self._servers.wait([server.id], ("ACTIVE", "SHUTOFF"), gone_is_well=True)
        return next((each for each in self._there() if each.id == server.id), None)

    # ------------------------------------------------------------ making

    def _create(self, number: int) -> None:
        place = self._ground.places[self._wanted.name, number]
        with claims.claimed(self._api, self._project, place):
            # What was listed before the claim is old.
            if any(server.number == number for server in self._there()):
                return
            try:
                self._servers.create(self._recipe, place, self._hosts())
            except CloudError as error:
                raise CloudError(error.status, f"services.{self._wanted.name}: {error}") from error

    def _hosts(self) -> Hosts:
        """Names and addresses of the other services that share a network with this one."""
        others = [(other, place) for other, place in self._ground.neighbours if other.name != self._wanted.name]
        return known_hosts(self._wanted, self._recipe.networks, others)

    def _ports(self, numbers: range) -> dict[str, Json]:
        """The first port of each server, by the server's place."""
        return {slots.slot_name(self._project, self._wanted.name, number): self._port(number) for number in numbers}

    def _port(self, number: int) -> Json:
        return self._ground.places[self._wanted.name, number].ports[0]

    def _come_up(self, numbers: list[int]) -> None:
        """Waits until these servers run, and runs their commands after the start."""
        mine = [server.id for server in self._there() if server.number in numbers]
        self._servers.wait(mine, _running(self._wanted))
        for server in self._there():
            if server.id in mine and hooks.is_pending(server):
                with claims.claimed(self._api, self._project, self._ground.places[self._wanted.name, server.number]):
                    # Another `up` may have run them meanwhile.
                    self._servers.after_start(cloud.server(self._api, server.id))

    # ------------------------------------------------------------ changing

    def _update(self, changed: list[Server]) -> None:
        """Changes servers, as many at once as the service says, with others in their places if it says so."""
        said = self._wanted.update
        size = min(said.parallelism or len(changed), len(changed))
        stand_ins = [self._wanted.replicas + 1 + at for at in range(size)] if said.start_first else []
        if changed and stand_ins:
            self._reaching.clear(self._wanted, self._ports(self._numbers()), self._ports_beyond)
            self._stand_in(stand_ins)
        for at in range(0, len(changed), size or 1):
            if at and said.delay:
                time.sleep(said.delay)
            batch = changed[at : at + size]
            places = list(zip((each.number for each in batch), stand_ins, strict=False))
            led = {number: self._lead(number, other) for number, other in places}
            self._refresh(batch)
            if said.said and has_check(self._wanted.service):
                conditions.wait(self._servers, self._wanted.name, HEALTHY, [each.number for each in batch])
            for number, other in places:
                self._lead(other, number, led[number])

    def _stand_in(self, numbers: list[int]) -> None:
        """Makes servers that stand in for those that are changed; they go as all that are too many."""
        for server in self._there():
            if server.number in numbers and (server.status == "ERROR" or server.digest != self._recipe.digest()):
                self._servers.delete([server])
        for number in numbers:
            self._ground.places[self._wanted.name, number] = self._ground.make_place(self._wanted, number)
            self._create(number)
        self._come_up(numbers)
        if has_check(self._wanted.service):
            conditions.wait(self._servers, self._wanted.name, HEALTHY, numbers)

    def _lead(self, number: int, other: int, chosen: Set[str] | None = None) -> set[str]:
        """What leads to one server, or these floating IPs of it, lead to another from now on; those that do then."""
        if not self._wanted.floating:
            return set()
        return self._reaching.move(self._port(number), self._port(other), chosen)

    def _refresh(self, servers: list[Server]) -> None:
        """Makes servers what the file says, all at the same time: rebuilt in their places, or made anew."""
        there = {server.id: server for server in self._there()}
        stopped = {server.number for server in servers if self._change(server, there.get(server.id))}
        for server in servers:
            now = self._settled(server)
            if now is not None:
                self._start(now, always=server.number in stopped)
        self._come_up([server.number for server in servers])

    def _change(self, server: Server, now: Server | None) -> bool:
        """Asks for what makes a server, which is `now` by now, what the file says. Whether it has to be started then.

        A server that is rebuilt when it is stopped stays so, whatever it did before.
        """
        wanted = self._recipe.digest()
        if now is not None and not now.settled:
            now = self._settled(now)
        if now is not None and now.digest == wanted != server.digest:
            # Another `up` has done it meanwhile.
            return False
        if now is not None and now.digest.split("-")[1:] == wanted.split("-")[1:]:
            with self._unless_begun(now):
                self._servers.rebuild(now, self._recipe, self._hosts())
            return now.status == "SHUTOFF"
        self._servers.delete([now] if now else [])
        self._create(server.number)
        return False

    def _start(self, server: Server, always: bool = False) -> None:
        """Starts a server that is stopped; not one that has done what it was for, unless it has to."""
        ended = self._wanted.oneshot and server.exit_code == 0 and not always
        if server.status == "SHUTOFF" and not ended:
            with self._unless_begun(server):
                self._servers.start(server)

    @contextmanager
    def _unless_begun(self, server: Server) -> Iterator[None]:
        """Where another `up` has begun the same, what counts is what comes of it."""
        try:
            yield
        except CloudError as error:
            other = self._settled(server) if error.status == 409 else None
            if other is None or other.digest != self._recipe.digest():
                raise


def remove(api: Api, servers: Servers, project: str, going: list[Server]) -> None:
    """Takes servers away with their places and floating IPs, the highest number first."""
    for server in sorted(going, key=lambda each: -each.number):
        servers.delete([server])
        slots.remove(api, project, {slots.slot_name(project, server.service, server.number)})


def _running(wanted: Wanted) -> tuple[str, ...]:
    """The states of a server that has come up. One whose end others wait for may have ended."""
    return ("ACTIVE", "SHUTOFF") if wanted.oneshot else ("ACTIVE",)
