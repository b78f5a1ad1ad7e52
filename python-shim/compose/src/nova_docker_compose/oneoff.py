"""`run`: one command in a server of its own, made of a service, beside the service's servers."""

from __future__ import annotations

import re
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from nova_docker_compose import attached, cloud, conditions, host_groups
from nova_docker_compose.attached import Show, attach
from nova_docker_compose.channel import Channel, NoChannel, url
from nova_docker_compose.choosing import Choices, choose
from nova_docker_compose.cloud import Api, CloudError, Json, Server
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.following import POLL, news
from nova_docker_compose.network import Networks, more_groups
from nova_docker_compose.project import COMPLETED, HEALTHY, Project, Service
from nova_docker_compose.servers import Recipe, Servers
from nova_docker_compose.slots import Hosts, Places, known_hosts
from nova_docker_compose.supply import supply
from nova_docker_compose.translation import Translation, Wanted, translate
from nova_docker_compose.up import Options, Up

_OF_SERVICES = ("container_name", "ports", "restart", "mac_address", "scale", "post_start", "pre_stop")
"""What only a service's own servers have."""
_EXITED = re.compile(r"exited at once with code (-?[0-9]+)")
"""In the fault of a launch whose command has failed at once."""
_TAG_SECONDS = 60.0
"""An agent that writes tags has told the exit code by then."""
_LETTERS = "bcdfghjkmnpqrstvwxz"


@dataclass
class Command:
    """What a user says beside the files."""

    words: Sequence[str] = ()
    """The command; none: the service's own."""
    entrypoint: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    working_dir: str | None = None
    name: str | None = None
    tty: bool = False
    """The user's terminal is the command's."""
    detach: bool = False
    remove: bool = False
    """The server goes when the command has ended."""
    with_needed: bool = True


class OneOff:
    """One `run`."""

    def __init__(self, api: Api, project: Project, name: str, command: Command, tell: Callable[[str], None]) -> None:
        """`name` is the service's. Warnings are told once."""
        self._api = api
        self._project = project
        self._name = name
        self._command = command
        self._tell = _once(tell)
        self._servers = Servers(api, project.name, self._tell)
        self.slot = f"{project.name}-{name}-run-{''.join(secrets.choice(_LETTERS) for _ in range(8))}"

    def run(self) -> int:
        """Runs it; its exit code. Detached it only begins. Raises ComposeError."""
        service = service_of(self._project.services[self._name], self._command)
        project = replace(self._project, services={**self._project.services, self._name: service})
        translation = translate(project, {self._name: 1})
        for warning in translation.warnings:
            self._tell(f"warning: {warning}")
        wanted = replace(translation.wanted[self._name], oneshot=True)
        choices = Choices(self._api)
        supply(self._api, self._project, choices, [wanted], self._tell)
        image, flavor = choose(choices, [wanted])[self._name]
        if self._command.with_needed:
            self._bring_up_needed(translation)
        recipe, groups, places = self._prepare(wanted, image, flavor)
        # It knows the servers of its own service too.
        neighbours = [(other, place) for other in translation.wanted.values() for place in places.there(other)]
        return self._carry_out(recipe, groups, known_hosts(wanted, recipe.networks, neighbours))

    def _carry_out(self, recipe: Recipe, groups: list[str], hosts: Hosts) -> int:
        """Launches the server, follows its command, and leaves of both what the user wants; the exit code."""
        name = self._command.name or self.slot
        began = False
        try:
            with _uninterrupted():
                server_id = self._servers.create_oneoff(recipe, self.slot, name, groups, hosts)
            server = self._launched(server_id)
            began = True
            if not self._command.detach:
                return self._follow(server, stdin=bool(recipe.wanted.service.get("stdin_open")))
            if server.status == "ERROR":
                raise ComposeError(f"{server.name}: {server.fault}")
            return 0
        except KeyboardInterrupt:
            if began and not self._command.remove:
                # The command is told, as Docker tells it, and what it has left can be looked at.
                self._stop()
            raise
        finally:
            if not began or self._command.remove:
                self._remove()

    def _bring_up_needed(self, translation: Translation) -> None:
        """The services that this one needs, as they are where they are there; then waits until they are as it says."""
        needed = [name for name in self._project.with_needed([self._name]) if name != self._name]
        if needed:
            Up(self._api, self._project, Options(services=needed, no_recreate=True), self._tell).run()
        for other, said in self._project.services[self._name].get("depends_on", {}).items():
            if said["condition"] in (HEALTHY, COMPLETED) and other in needed:
                numbers = range(1, translation.wanted[other].replicas + 1)
                conditions.wait(self._servers, other, said["condition"], numbers)

    def _prepare(self, wanted: Wanted, image: Json, flavor: Json) -> tuple[Recipe, list[str], Places]:
        """What it is made of, its security groups, and the places of all servers that it may know."""
        networks = Networks(self._api, self._project, self._tell)
        networks.make([wanted])
        groups = networks.groups([wanted])
        # It may share a volume with the service, but need not be kept from its host.
        policy = wanted.extra.get("host_group", "anti")
        group = None if "anti" in policy else host_groups.make(self._api, self._project.name, wanted)
        ids = [networks.ids[key] for key, _ in wanted.networks]
        places = Places(self._api, self._project.name, networks.ids, groups)
        recipe = Recipe(wanted, image, flavor, ids, group)
        return recipe, [*groups.values(), *more_groups(self._api, wanted)], places

    def _launched(self, server_id: str) -> Server:
        """The server when its command runs, or has ended. Raises ComposeError when the launch has failed otherwise."""
        while True:
            server = cloud.server(self._api, server_id)
            if server.settled and (server.status != "ERROR" or _exit_code(server) is not None):
                return server
            if server.settled:
                raise ComposeError(f"{server.name}: it is {server.status}: {server.fault}")
            time.sleep(1.0)

    def _follow(self, server: Server, stdin: bool) -> int:
        """Shows what the command writes, until its end; its exit code."""
        code = self._attached(server, stdin) if server.status == "ACTIVE" else None
        return self._ended(self._looked_at(server.id)) if code is None else code

    def _attached(self, server: Server, stdin: bool) -> int | None:
        """Joins the user's terminal with the command; None where there is no channel to it, or no more."""
        tty = self._command.tty
        size = attached.window() if tty else None
        request = {"op": "attach", "stdin": stdin, "size": size, "logs": True}
        show = Show()
        try:
            with Channel(url(self._api, server.id), self._api.verify(), request) as channel:
                return attach(channel, stdin, tty, show)
        except ComposeError as error:
            runs = cloud.server(self._api, server.id).status == "ACTIVE"
            if show.count or (runs and not isinstance(error, NoChannel)):
                raise ComposeError(f"{server.name}: {error}") from error
            if runs:
                self._tell(f"warning: {error}; its console log is looked at every {POLL:.0f} seconds instead")
            return None

    def _looked_at(self, server_id: str) -> Server:
        """Prints the console log as it grows, until the command has ended."""
        seen = ""
        while True:
            # In this order: what it wrote before its end is not missed.
            server = cloud.server(self._api, server_id)
            try:
                now = self._servers.log(server, None)
            except CloudError:
                # Nova has none of a launch that failed at once, and the fault has the last words.
                if server.status != "ERROR":
                    raise
                print(server.fault, file=sys.stderr)
                return server
            print(news(seen, now), end="", flush=True)
            seen = now
            if server.settled and server.status != "ACTIVE":
                if seen and not seen.endswith("\n"):
                    print(flush=True)
                return server
            time.sleep(POLL)

    def _ended(self, server: Server) -> int:
        """The exit code of a command that has ended."""
        end = time.monotonic() + _TAG_SECONDS
        while True:
            code = _exit_code(server)
            if code is not None:
                return code
            if time.monotonic() > end:
                raise ComposeError(
                    f"{server.name}: it has no tag exit:CODE: the agent of its host writes none; it must be newer, with"
                    " [docker] state_tags"
                )
            time.sleep(1.0)
            server = cloud.server(self._api, server.id)

    def _mine(self) -> list[Server]:
        """The server of this run, also where the answer to its launch was lost."""
        return [each for each in self._servers.listed(self._name, oneoffs=True) if each.oneoff == self.slot]

    def _stop(self) -> None:
        for server in self._mine():
            if server.status == "ACTIVE":
                self._servers.stop(server)
                self._servers.wait([server.id], ("SHUTOFF",), gone_is_well=True)

    def _remove(self) -> None:
        self._servers.delete(self._mine())


def service_of(service: Service, command: Command) -> Service:
    """The service with what the user says of this one run."""
    made = {key: value for key, value in service.items() if key not in _OF_SERVICES}
    # Its addresses are another server's.
    made["networks"] = {
        key: {name: value for name, value in (said or {}).items() if name == "priority"}
        for key, said in (service.get("networks") or {}).items()
    }
    if not made["networks"]:
        del made["networks"]
    if command.entrypoint is not None:
        made["entrypoint"] = shlex.split(command.entrypoint)
        made["command"] = []
    if command.words:
        made["command"] = list(command.words)
    if command.environment:
        made["environment"] = {**service.get("environment", {}), **command.environment}
    for key in ("user", "working_dir"):
        if getattr(command, key) is not None:
            made[key] = getattr(command, key)
    if not command.detach:
        # Without a terminal nobody could tell it that the input has ended.
        made["tty"] = command.tty
        made["stdin_open"] = command.tty or bool(service.get("stdin_open"))
    return made


def _exit_code(server: Server) -> int | None:
    """With what the command of a server has ended; None while it runs, or where nobody says so."""
    failed = _EXITED.search(server.fault) if server.status == "ERROR" else None
    if failed is not None:
        return int(failed[1])
    return server.exit_code if server.status != "ACTIVE" else None


def _once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Tells each warning once: what is needed is translated too."""
    told: set[str] = set()

    def maybe(line: str) -> None:
        if not line.startswith("warning: ") or line not in told:
            told.add(line)
            tell(line)

    return maybe


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of it: a request that is cut off may have been heard."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
