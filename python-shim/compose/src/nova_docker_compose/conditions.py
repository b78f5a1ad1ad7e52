"""What services wait for of others: that a container is healthy, or has ended well.

Nova knows neither. The agent writes them as tags of the server: `health:starting`, `health:healthy`,
`health:unhealthy`, and `exit:N` with the exit code of a container that has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from nova_docker_compose.cloud import Server
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import HEALTHY
from nova_docker_compose.servers import Servers

_POLL = 1.0
_TAG_SECONDS = 60.0
"""An agent that writes tags has written the first one by then."""
_PATIENCE = 1800.0


def wait(servers: Servers, service: str, condition: str, numbers: Iterable[int]) -> None:
    """Waits until the servers of a service are healthy, or have ended with 0. Raises ComposeError if they will not."""
    wanted = set(numbers)
    begun = time.monotonic()
    while True:
        there = [server for server in servers.listed(service) if server.number in wanted]
        waiting = [server for server in there if not _met(server, condition)]
        if len(there) < len(wanted):
            raise ComposeError(f"services.{service}: a server that others wait for is gone: somebody has deleted it")
        if not waiting:
            return
        since = time.monotonic() - begun
        problems = [problem for server in waiting if (problem := _hopeless(server, condition, since))]
        if problems:
            raise ComposeError("\n".join(problems))
        time.sleep(_POLL)


def _met(server: Server, condition: str) -> bool:
    return server.health == "healthy" if condition == HEALTHY else server.exit_code == 0


def _hopeless(server: Server, condition: str, since: float) -> str | None:
    """Why there is nothing to wait for any more; None while there is."""
    if condition == HEALTHY:
        if server.health == "unhealthy":
            return f"{server.name}: it is unhealthy"
        if server.settled and server.status != "ACTIVE":
            return f"{server.name}: it is {server.status}, and others wait until it is healthy"
        missing = server.health is None
        what = "health:healthy"
    else:
        if server.exit_code:
            return f"{server.name}: it has ended with exit code {server.exit_code}"
        # One that runs has none yet.
        missing = server.settled and server.status != "ACTIVE"
        what = "exit:0"
    if missing and since > _TAG_SECONDS:
        return (
            f"{server.name}: it has no tag {what}, nor another of its kind: the agent of its host writes none;"
            " it must be newer, with [docker] state_tags, and the server must have room for a tag"
        )
    if since > _PATIENCE:
        return f"{server.name}: still no {what} after {since:.0f} seconds"
    return None
