"""The cloud's APIs, and what a project has there. Nothing of a project's state is anywhere else."""

from __future__ import annotations

import contextlib
import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nova_docker_compose.errors import ComposeError

COMPUTE = "2.90"
"""Nova 24: host names at the launch. Rebuilds with user data came with 2.57, tags at the launch with 2.52."""
MARK = "compose:"
_HEALTH = re.compile("health:(starting|healthy|unhealthy)")
_EXIT = re.compile("exit:(-?[0-9]+)")
"""Tags that the agent writes; others that begin alike are their users'."""

Json = dict[str, Any]


class CloudError(ComposeError):
    """A request that the cloud refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Requests with JSON in and out."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._ahead = timedelta()
        """Of the cloud's clock before this machine's; not every server tells its time."""

    @property
    def now(self) -> datetime:
        """The cloud's time."""
        return datetime.now(UTC) + self._ahead

    def request(self, service: str, method: str, path: str, body: Any = None, **more: Any) -> Json:
        """The answer's content. Raises CloudError."""
        adapter = getattr(self._connection, service)
        if service == "compute":
            more["microversion"] = COMPUTE
        if body is not None:
            more["json"] = body
        response = adapter.request(path, method, raise_exc=False, **more)
        date = response.headers.get("Date")
        if date:
            self._ahead = email.utils.parsedate_to_datetime(date) - datetime.now(UTC)
        if response.status_code >= 400:
            raise CloudError(response.status_code, f"{method} {path}: {_reason(response)}")
        return response.json() if response.content else {}

    def listed(self, service: str, path: str, key: str, **params: Any) -> list[Json]:
        """A whole list, page by page."""
        found: list[Json] = []
        while True:
            answer = self.request(service, "GET", path, params=params)
            found += answer[key]
            # Glance has a word for it, Nova a list of links. Neutron gives all at once unless it is asked for pages.
            if not answer[key] or not (answer.get("next") or answer.get(f"{key}_links")):
                return found
            params["marker"] = answer[key][-1]["id"]

    def login(self) -> tuple[str, str] | None:
        """User name and password as the registry takes them; None where the user has only a token."""
        said = self._connection.config.get_auth_args()
        if said.get("application_credential_id"):
            return said["application_credential_id"], said["application_credential_secret"]
        if not said.get("username") or not said.get("password"):
            return None
        domain = said.get("user_domain_name") or said.get("user_domain_id") or "default"
        return (said["username"] if domain.lower() == "default" else f"{domain}/{said['username']}"), said["password"]

    def verify(self) -> bool | str:
        """How certificates are verified, as the user has told the command line: a file, or whether at all."""
        verify = self._connection.session.verify
        return True if verify is None else verify

    def project_id(self) -> str:
        """The user's project."""
        return str(self._connection.current_project_id)


def _reason(response: Any) -> str:
    try:
        content = response.json()
    except ValueError:
        return f"{response.status_code} {str(response.text)[:200]}"
    inner = next((each for each in content.values() if isinstance(each, dict)), content)
    return str(inner.get("message") or inner.get("detail") or content)


@dataclass
class Server:
    """A server of the project."""

    id: str
    name: str
    service: str
    number: int
    digest: str
    status: str
    task: str | None
    fault: str
    addresses: list[str]
    floating: list[str]
    image: str
    created: str
    metadata: dict[str, str]
    tags: list[str]

    @property
    def oneoff(self) -> str | None:
        """Which `run` has made it; None for a server of a service."""
        return self.metadata.get("compose:oneoff")

    @property
    def health(self) -> str | None:
        """What its health check says: starting, healthy or unhealthy; None where the agent says nothing."""
        return self._told(_HEALTH)

    @property
    def exit_code(self) -> int | None:
        """With what its container has ended; None where it has not, or the agent says nothing."""
        told = self._told(_EXIT)
        return None if told is None else int(told)

    @property
    def told(self) -> list[str]:
        """The tags that the agent has written."""
        return [tag for tag in self.tags if _HEALTH.fullmatch(tag) or _EXIT.fullmatch(tag)]

    def _told(self, kind: re.Pattern[str]) -> str | None:
        return next((match[1] for tag in self.tags if (match := kind.fullmatch(tag))), None)

    @property
    def settled(self) -> bool:
        """Whether nothing goes on with it."""
        return self.task is None and self.status not in ("BUILD", "REBUILD", "RESIZE", "REBOOT", "HARD_REBOOT")


def servers(api: Api, project: str, service: str | None = None, oneoffs: bool = False) -> list[Server]:
    """The servers of a project by service and number; twins by age. `oneoffs`: those of `run` too."""
    found = []
    for each in api.listed("compute", "/servers/detail", "servers", tags=MARK + project):
        made = _server(each, each["metadata"])
        is_one = made.number > 0 or (oneoffs and made.oneoff is not None)
        is_mine = made.metadata.get("compose:project") == project and service in (None, made.service)
        if is_one and is_mine and made.status != "DELETED":
            found.append(made)
    return sorted(found, key=lambda each: (each.service, each.number, each.created, each.id))


def server(api: Api, server_id: str) -> Server:
    """One of them. Raises CloudError."""
    each = api.request("compute", "GET", f"/servers/{server_id}")["server"]
    return _server(each, each["metadata"])


def find_server(api: Api, word: str) -> Json:
    """Any server, by its id or its name. Raises ComposeError unless there is one."""
    if re.fullmatch(r"[0-9a-fA-F-]{36}", word):
        with contextlib.suppress(CloudError):
            return dict(api.request("compute", "GET", f"/servers/{word}")["server"])
    found = api.listed("compute", "/servers/detail", "servers", name=f"^{re.escape(word)}$")
    if len(found) != 1:
        raise ComposeError(f"there is no server {word}" if not found else f"there are {len(found)} servers {word}")
    return found[0]


def _server(each: Json, metadata: dict[str, str]) -> Server:
    addresses = [address for network in each.get("addresses", {}).values() for address in network]
    number = metadata.get("compose:number", "")
    return Server(
        id=each["id"],
        name=each["name"],
        service=metadata.get("compose:service", ""),
        number=int(number) if number.isdecimal() else 0,
        digest=metadata.get("compose:hash", ""),
        status=each["status"],
        task=each.get("OS-EXT-STS:task_state"),
        fault=each.get("fault", {}).get("message", ""),
        addresses=[each["addr"] for each in addresses if each.get("OS-EXT-IPS:type") != "floating"],
        floating=[each["addr"] for each in addresses if each.get("OS-EXT-IPS:type") == "floating"],
        image=metadata.get("compose:image", ""),
        created=each.get("created", ""),
        metadata=metadata,
        tags=each.get("tags", []),
    )


def of_project(api: Api, project: str, kind: str) -> list[Json]:
    """What a project has in Neutron: networks, subnets, ports, routers, security-groups or floatingips."""
    key = kind.replace("-", "_")
    found = api.listed("network", f"/{kind}", key, description=MARK + project, project_id=api.project_id())
    return sorted(found, key=lambda each: (each.get("created_at", ""), each["id"]))
