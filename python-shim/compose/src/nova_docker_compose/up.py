"""Brings a project's servers to what its files say, from whatever is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nova_docker_compose import conditions, host_groups
from nova_docker_compose.choosing import Choices, choose
from nova_docker_compose.cloud import Api
from nova_docker_compose.converging import Converging, Ground, remove
from nova_docker_compose.network import Networks, more_groups
from nova_docker_compose.project import COMPLETED, HEALTHY, Project, has_check
from nova_docker_compose.reaching import Reaching
from nova_docker_compose.servers import Recipe, Servers
from nova_docker_compose.slots import Place, Places
from nova_docker_compose.supply import supply
from nova_docker_compose.translation import Wanted, translate


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
        self._servers = Servers(api, project.name, tell, lambda: project.services)
        self._reaching = Reaching(api, project.name, tell)

    def run(self) -> None:
        """Does it all. Raises ComposeError; what is there stays, and running it again goes on."""
        translation = translate(self._project, self._options.scale)
        for warning in translation.warnings:
            self._tell(f"warning: {warning}")
        chosen = [translation.wanted[name] for name in self._options.services or translation.wanted]
        ground = self._prepare(chosen, [each for each in translation.wanted.values() if each not in chosen])
        for wanted in chosen:
            self._conditions(wanted, ground)
            recipe = ground.recipes[wanted.name]
            service = Converging(self._api, self._servers, self._reaching, ground, recipe, self._project.name)
            service.converge(self._options.force_recreate, self._options.no_recreate)
        for wanted in chosen:
            if self._options.wait and has_check(wanted.service):
                self._wait_for(wanted, HEALTHY)
        self._orphans()

    def _prepare(self, chosen: list[Wanted], others: list[Wanted]) -> Ground:
        """Chooses images and flavors for all before anything is made, then makes networks, groups and places."""
        self._reaching.check(chosen)
        choices = Choices(self._api)
        supply(self._api, self._project, choices, chosen, self._tell, self._options.build)
        picked = choose(choices, chosen)
        networks = Networks(self._api, self._project, self._tell)
        networks.make(chosen)
        groups = networks.groups(chosen)
        places = Places(self._api, self._project.name, networks.ids, groups)
        more = {wanted.name: more_groups(self._api, wanted) for wanted in chosen}

        def make_later(wanted: Wanted, number: int) -> Place:
            # Other commands go on: what was there before may have gone.
            return Places(self._api, self._project.name, networks.ids, groups).make(wanted, number, more[wanted.name])

        ground = Ground(make_later)
        for wanted in chosen:
            image, flavor = picked[wanted.name]
            ids = [networks.ids[key] for key, _ in wanted.networks] if wanted.replicas else []
            group = host_groups.make(self._api, self._project.name, wanted) if wanted.replicas else None
            ground.recipes[wanted.name] = Recipe(wanted, image, flavor, ids, group)
            ground.recipes[wanted.name].user_data({})
            for number in range(1, wanted.replicas + 1):
                ground.places[wanted.name, number] = places.make(wanted, number, more[wanted.name])
                ground.neighbours.append((wanted, ground.places[wanted.name, number]))
        ground.neighbours += [(wanted, place) for wanted in others for place in places.there(wanted)]
        return ground

    def _conditions(self, wanted: Wanted, ground: Ground) -> None:
        """Waits for what a service wants of those before it, as far as they are brought up too."""
        for other, said in wanted.service.get("depends_on", {}).items():
            if said["condition"] in (HEALTHY, COMPLETED) and other in ground.recipes:
                self._wait_for(ground.recipes[other].wanted, said["condition"])

    def _wait_for(self, wanted: Wanted, condition: str) -> None:
        words = {HEALTHY: "healthy", COMPLETED: "completed"}
        conditions.wait(self._servers, wanted.name, condition, range(1, wanted.replicas + 1))
        self._tell(f"{self._project.name}-{wanted.name}: {words[condition]}")

    def _orphans(self) -> None:
        known = {*self._project.services, *self._project.disabled}
        orphans = [each for each in self._servers.listed() if each.service not in known]
        if orphans and self._options.remove_orphans:
            remove(self._api, self._servers, self._project.name, orphans)
        elif orphans:
            names = ", ".join(each.name for each in orphans)
            self._tell(f"warning: no service of the files has {names}; --remove-orphans removes them")
