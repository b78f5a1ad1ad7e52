"""`post_start` and `pre_stop`: commands that are run in a server when it has come up, and before it stops.

They go through the channel. A server says in its metadata that its service has them, and whether those after its start
are still to be run: so whoever finds it goes on where another stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nova_docker_compose.channel import Channel, url
from nova_docker_compose.cloud import Api, Server
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.following import Lines
from nova_docker_compose.project import POST_START, PRE_STOP, Service

_PENDING, _DONE = "pending", "done"

Said = Callable[[], Mapping[str, Service]]
"""What the files say of services. Raises ComposeError where there are no files to read."""


def metadata(service: Service) -> dict[str, str]:
    """What a new server of a service has in its metadata."""
    states = {POST_START: _PENDING, PRE_STOP: "yes"}
    return {f"compose:{kind}": state for kind, state in states.items() if service.get(kind)}


PENDING = {f"compose:{POST_START}": _PENDING}
DONE = {f"compose:{POST_START}": _DONE}


def has(server: Server, kind: str) -> bool:
    """Whether a server has such commands."""
    return f"compose:{kind}" in server.metadata


def is_pending(server: Server) -> bool:
    """Whether a server runs whose commands after its start have not been run."""
    return server.status == "ACTIVE" and server.metadata.get(f"compose:{POST_START}") == _PENDING


class Hooks:
    """The commands of a project's services."""

    def __init__(self, api: Api, said: Said, tell: Callable[[str], None]) -> None:
        self._api = api
        self._said = said
        self._tell = tell

    def after_start(self, server: Server) -> None:
        """Runs those of a server that has come up. Raises ComposeError when one fails."""
        self._run(server, POST_START)

    def before_stop(self, server: Server) -> None:
        """Runs those of a server that is about to be stopped. It is stopped also when one fails, and that is told."""
        try:
            self._run(server, PRE_STOP)
        except ComposeError as error:
            self._tell(f"warning: {error}; {server.name} is stopped all the same")

    def _run(self, server: Server, kind: str) -> None:
        try:
            services = self._said()
        except ComposeError as error:
            raise ComposeError(f"{server.name}: {kind} is not run: {error}") from error
        if server.service not in services:
            self._tell(f"warning: {server.name}: {kind} is not run: the files have no service {server.service}")
        for number, hook in enumerate(services.get(server.service, {}).get(kind, [])):
            place = f"{server.name}: {kind}[{number}]"
            try:
                code = self._execute(server, hook, f"{server.name}: {kind}: ")
            except ComposeError as error:
                raise ComposeError(f"{place}: {error}") from error
            if code != 0:
                raise ComposeError(f"{place} has ended with exit code {code}")

    def _execute(self, server: Server, hook: dict[str, Any], prefix: str) -> int:
        request = {
            "op": "exec",
            "argv": hook["command"],
            "user": hook.get("user"),
            "env": {name: value or "" for name, value in hook.get("environment", {}).items()},
            "working_dir": hook.get("working_dir"),
            "tty": False,
            "size": None,
            "stdin": False,
        }
        lines = Lines(lambda line: self._tell(prefix + "".join(char if char.isprintable() else " " for char in line)))
        with Channel(url(self._api, server.id), self._api.verify(), request) as channel:
            code = channel.run(lines.add)
            lines.end()
            return code
