"""Servers: what each is made of, and how it comes and goes."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nova_docker_compose import agent, cloud, hooks, privileges
from nova_docker_compose.cloud import MARK, Api, CloudError, Json, Server
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.hooks import Hooks, Said
from nova_docker_compose.project import POST_START, PRE_STOP
from nova_docker_compose.slots import Hosts, Place, slot_name
from nova_docker_compose.translation import Wanted

_POLL = 1.0
_PATIENCE = 1800.0
"""Seconds for one step of all servers of a service; Nova gives up much earlier."""
_CONFLICT = 409
_RACE = "UnexpectedTaskStateError"


@dataclass(frozen=True)
class Recipe:
    """What the servers of a service are made of."""

    wanted: Wanted
    image: Json
    flavor: Json
    networks: list[str]
    """Ids."""
    group: str | None = None
    """The server group's id."""

    def user_data(self, hosts: Hosts) -> str | None:
        """What the agent reads; `hosts` are the project's other servers."""
        wanted = self.wanted
        chosen = privileges.choices(wanted.privileges, self.flavor.get("extra_specs") or {})
        configuration = agent.configuration(
            wanted.service, wanted.volumes, wanted.given, hosts, wanted.oneshot, chosen, self.flavor.get("extra_specs")
        )
        try:
            return agent.user_data(configuration)
        except ComposeError as error:
            raise ComposeError(f"services.{self.wanted.name}: {error}") from error

    def digest(self) -> str:
        """Tells whether a server is as the file says: one part for what a rebuild changes, one for the rest.

        Where the other servers are is in neither, so that they can come and go.
        """
        service, extra = self.wanted.service, self.wanted.extra
        rebuilt = [self.image["id"], self.user_data({}), extra.get("metadata"), extra.get("key_name")]
        rebuilt += [[kind, service[kind]] for kind in (POST_START, PRE_STOP) if service.get(kind)]
        kept = [self.flavor["id"], self.networks, [said for _, said in self.wanted.networks], self.group]
        kept += [service.get("hostname"), service.get("container_name")]
        return f"{_digest(rebuilt)}-{_digest(kept)}"


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Servers:
    """The servers of one project."""

    def __init__(self, api: Api, project: str, tell: Callable[[str], None], said: Said = dict) -> None:
        """`said` tells what the files say of services, when that is needed."""
        self._api = api
        self._project = project
        self.tell = tell
        self._hooks = Hooks(api, said, tell)

    def listed(self, service: str | None = None, oneoffs: bool = False) -> list[Server]:
        """Those of a service, or all; with those of `run` or without."""
        return cloud.servers(self._api, self._project, service, oneoffs)

    def create(self, recipe: Recipe, place: Place, hosts: Hosts) -> None:
        """Asks for a server in a place that is claimed."""
        slot = slot_name(self._project, place.service, place.number)
        name = recipe.wanted.service.get("container_name", slot)
        server = self._body(recipe, name, slot, hosts)
        server["networks"] = [{"port": port["id"]} for port in place.ports]
        server["metadata"]["compose:number"] = str(place.number)
        self._launch(recipe, server)

    def create_oneoff(self, recipe: Recipe, slot: str, name: str, groups: list[str], hosts: Hosts) -> str:
        """Asks for a server of `run`, in these security groups; its id. Its ports are Nova's, and go with it."""
        server = self._body(recipe, name, slot, hosts)
        server["networks"] = [{"uuid": network} for network in recipe.networks]
        server["security_groups"] = [{"name": group} for group in groups]
        server["metadata"]["compose:oneoff"] = slot
        return str(self._launch(recipe, server)["server"]["id"])

    def _body(self, recipe: Recipe, name: str, slot: str, hosts: Hosts) -> Json:
        service, extra = recipe.wanted.service, recipe.wanted.extra
        server: Json = {
            "name": name,
            "hostname": _host_name(service.get("hostname", slot)),
            "imageRef": recipe.image["id"],
            "flavorRef": recipe.flavor["id"],
            "metadata": self._metadata(recipe),
            "tags": [MARK + self._project],
        }
        user_data = recipe.user_data(hosts)
        if user_data is not None:
            server["user_data"] = user_data
        if "key_name" in extra:
            server["key_name"] = extra["key_name"]
        return server

    def _launch(self, recipe: Recipe, server: Json) -> Json:
        body: Json = {"server": server}
        if recipe.group is not None:
            body["os:scheduler_hints"] = {"group": recipe.group}
        made = self._api.request("compute", "POST", "/servers", body)
        self.tell(f"{server['name']}: creating")
        return made

    def rebuild(self, server: Server, recipe: Recipe, hosts: Hosts) -> None:
        """Makes a server anew in its place; ports, addresses and volumes stay."""
        body: Json = {
            "imageRef": recipe.image["id"],
            "metadata": {**self._metadata(recipe), "compose:number": str(server.number)},
            "user_data": recipe.user_data(hosts),
        }
        if "key_name" in recipe.wanted.extra:
            body["key_name"] = recipe.wanted.extra["key_name"]
        self._before_stop(server)
        self._forget(server)
        self._action(server, {"rebuild": body})
        self.tell(f"{server.name}: rebuilding")

    def _forget(self, server: Server) -> None:
        """Removes what the agent tells of a container that goes: nobody is to take it for the next one's."""
        for tag in cloud.server(self._api, server.id).told:
            path = f"/servers/{server.id}/tags/{tag}"
            # Where it cannot be changed now, Nova says the same of the rebuild.
            self._tolerant(lambda path=path: self._api.request("compute", "DELETE", path), 404, 409)  # type: ignore[misc]

    def _metadata(self, recipe: Recipe) -> dict[str, str]:
        wanted = recipe.wanted
        extra = {key: value or "" for key, value in wanted.extra.get("metadata", {}).items()}
        return {
            **extra,
            **hooks.metadata(wanted.service),
            "compose:project": self._project,
            "compose:service": wanted.name,
            "compose:hash": recipe.digest(),
            "compose:image": wanted.image[:255],
        }

    def start(self, server: Server) -> None:
        """Starts a server that is stopped."""
        self._start_anew(server)
        self._action(server, {"os-start": None})
        self.tell(f"{server.name}: starting")

    def stop(self, server: Server) -> None:
        """Stops a server that runs."""
        self._before_stop(server)
        self._action(server, {"os-stop": None})
        self.tell(f"{server.name}: stopping")

    def restart(self, server: Server) -> None:
        """Restarts a server, whatever it does."""
        self._before_stop(server)
        self._start_anew(server)
        self._action(server, {"reboot": {"type": "HARD" if server.status != "ACTIVE" else "SOFT"}})
        self.tell(f"{server.name}: restarting")

    def _before_stop(self, server: Server) -> None:
        if server.status == "ACTIVE" and hooks.has(server, PRE_STOP):
            self._hooks.before_stop(server)

    def _start_anew(self, server: Server) -> None:
        if hooks.has(server, POST_START):
            self.set_metadata(server, hooks.PENDING)

    def come_up(self, ids: Iterable[str]) -> None:
        """Waits until servers run, then runs their commands after the start. Raises ComposeError."""
        chosen = list(ids)
        self.wait(chosen, ("ACTIVE",))
        for server in self.listed():
            if server.id in chosen:
                self.after_start(server)

    def after_start(self, server: Server) -> None:
        """Runs the commands after the start of a server that runs, if that is still to be done."""
        if hooks.is_pending(server):
            self._hooks.after_start(server)
            self.set_metadata(server, hooks.DONE)

    def log(self, server: Server, lines: int | None) -> str:
        """What a server has printed."""
        arguments = {} if lines is None else {"length": lines}
        return str(self._action(server, {"os-getConsoleOutput": arguments}).get("output", ""))

    def set_metadata(self, server: Server, metadata: dict[str, str]) -> None:
        """Adds to a server's metadata."""
        self._api.request("compute", "POST", f"/servers/{server.id}/metadata", {"metadata": metadata})

    def delete(self, servers: Iterable[Server]) -> None:
        """Deletes servers and waits until they are gone. Those that run are stopped first, with their stop signal."""
        going = list(servers)
        running = [server for server in going if server.status == "ACTIVE" and server.task is None]
        for server in running:
            self._tolerant(lambda server=server: self.stop(server), 404, 409)  # type: ignore[misc]
        self.wait([server.id for server in running], ("SHUTOFF", "ERROR"), gone_is_well=True)
        for server in going:
            self.tell(f"{server.name}: removing")
            self._tolerant(lambda server=server: self._api.request("compute", "DELETE", f"/servers/{server.id}"), 404)  # type: ignore[misc]
        self._wait_gone({server.id for server in going})

    def wait(self, ids: Iterable[str], statuses: tuple[str, ...], gone_is_well: bool = False) -> None:
        """Waits until servers have come to one of the states. Raises ComposeError for those that failed."""
        waiting, end = set(ids), time.monotonic() + _PATIENCE
        failures = []
        while waiting:
            there = {server.id: server for server in self.listed(oneoffs=True)}
            for server_id in list(waiting):
                server = there.get(server_id)
                if server is None:
                    waiting.remove(server_id)
                    failures += [] if gone_is_well else [f"server {server_id} is gone: somebody has deleted it"]
                elif server.settled and server.status in statuses:
                    waiting.remove(server_id)
                    self.tell(f"{server.name}: {_WORDS.get(server.status, server.status)}")
                elif server.settled:
                    # Nova notes what it is asked for before it answers, so this is what came of it.
                    waiting.remove(server_id)
                    failures.append(
                        f"{server.name}: it is {server.status}" + (f": {server.fault}" if server.fault else "")
                    )
            if waiting:
                if time.monotonic() > end:
                    failures += [f"{there[each].name}: still {there[each].status}" for each in waiting if each in there]
                    break
                time.sleep(_POLL)
        if failures:
            raise ComposeError("\n".join(failures))

    def _wait_gone(self, ids: set[str]) -> None:
        end = time.monotonic() + _PATIENCE
        while ids & {server.id for server in self.listed(oneoffs=True)}:
            if time.monotonic() > end:
                raise ComposeError(f"servers are still being deleted: {', '.join(sorted(ids))}")
            time.sleep(_POLL)

    def _action(self, server: Server, body: Json) -> Json:
        try:
            return self._api.request("compute", "POST", f"/servers/{server.id}/action", body)
        except CloudError as error:
            # So Nova says that another request has come between the check of a server's state and its change.
            status = _CONFLICT if _RACE in str(error) else error.status
            raise CloudError(status, f"{server.name}: {error}") from error

    def _tolerant(self, do: Callable[[], Any], *allowed: int) -> None:
        try:
            do()
        except CloudError as error:
            if error.status not in allowed:
                raise


_WORDS = {"ACTIVE": "running", "SHUTOFF": "stopped"}


def _host_name(name: str) -> str:
    return re.sub("[^a-zA-Z0-9.-]", "-", name).strip("-.")[:63] or "server"
