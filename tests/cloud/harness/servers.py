"""Launching servers and looking at them, through the public APIs only. The database says when it is worth asking."""

from __future__ import annotations

import base64
import dataclasses
import time
from collections.abc import Callable
from typing import Any, TypeVar

from openstack.connection import Connection

from harness.lab import Lab, Side
from harness.waiting import eventually

T = TypeVar("T")

MICROVERSION = "2.96"
"""The newest before attachments became asynchronous."""

Json = dict[str, Any]

Rows = list[list[str]]
"""Of `_RECORD`."""

_STATES = "SELECT vm_state, task_state, power_state, deleted FROM {}.instances WHERE uuid = %(id)s"
_RECORD = " UNION ALL ".join(
    [
        _STATES.format("nova"),
        _STATES.format("nova_cell0"),
        "SELECT 'building', 'scheduling', 0, 0 FROM nova_api.build_requests WHERE instance_uuid = %(id)s",
    ]
)
"""SQL: what Nova has of a server, wherever it has it."""


def _is_idle(rows: Rows) -> bool:
    return all(task == "None" for _, task, _, _ in rows)


def _is_gone(rows: Rows) -> bool:
    return all(deleted != "0" for _, _, _, deleted in rows)


class Refused(Exception):
    """The API answered an action with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Servers:
    """The compute API as one user."""

    def __init__(self, connection: Connection, side: Side, lab: Lab) -> None:
        self.connection = connection
        self.side = side
        self._lab = lab

    def request(self, method: str, path: str, body: Json | None = None, microversion: str = MICROVERSION) -> Json:
        """Raises Refused for every answer that is not a success."""
        answer = self.connection.compute.request(
            path, method, json=body, microversion=microversion, raise_exc=False, timeout=150
        )
        if answer.status_code >= 300:
            try:
                message = next(iter(answer.json().values()))["message"]
            except (ValueError, KeyError, TypeError, StopIteration):
                message = answer.text
            raise Refused(answer.status_code, message)
        return answer.json() if answer.content and answer.headers["Content-Type"] == "application/json" else {}

    def create(
        self,
        name: str,
        *,
        networks: str | list[Json] = "none",
        image: str | None = None,
        flavor: str | None = None,
        user_data: str | None = None,
        group: str | None = None,
        microversion: str = MICROVERSION,
        **fields: Any,
    ) -> Json:
        """Ask for a server. `networks` as in the API; `image`, `flavor`: names or ids; `group`: an id."""
        compute = self.connection.compute
        body = {
            "name": name,
            "imageRef": self.connection.image.find_image(image or self.side.image, ignore_missing=False).id,
            "flavorRef": compute.find_flavor(flavor or self.side.flavor, ignore_missing=False).id,
            "networks": networks,
            **fields,
        }
        if user_data is not None:
            body["user_data"] = base64.b64encode(user_data.encode()).decode()
        hints = {"os:scheduler_hints": {"group": group}} if group else {}
        return self.request("POST", "/servers", {"server": body, **hints}, microversion)["server"]

    def get(self, server_id: str) -> Json:
        return self.request("GET", f"/servers/{server_id}")["server"]

    def action(
        self, server_id: str, name: str, arguments: Json | None = None, microversion: str = MICROVERSION
    ) -> Json:
        return self.request("POST", f"/servers/{server_id}/action", {name: arguments}, microversion)

    def exists(self, server_id: str) -> bool:
        try:
            self.get(server_id)
        except Refused as refusal:
            if refusal.status == 404:
                return False
            raise
        return True

    def delete(self, server_id: str) -> None:
        """Ask for the end of a server; one that is gone is fine."""
        try:
            self.request("DELETE", f"/servers/{server_id}")
        except Refused as refusal:
            if refusal.status != 404:
                raise

    def until(
        self,
        server_id: str,
        probe: Callable[[], T | None],
        what: str,
        seconds: float = 300,
        when: Callable[[Rows], bool] = lambda _: True,
    ) -> T:
        """Call `probe`, which asks the API, until its result is true, and return that.

        It is called when Nova's record of the server has changed and is as `when` says, and now and then: the API's
        answer costs Nova and Neutron a tenth of a second of the processor.
        """
        seen: str | None = None
        asked, result = time.monotonic(), None

        def look() -> T | None:
            nonlocal seen, asked, result
            record, now = self._lab.sql(_RECORD, {"id": server_id}), time.monotonic()
            is_new = record != seen and when([row.split("\t") for row in record.splitlines()])
            if is_new or now - asked > 10:
                seen, asked, result = record, now, probe()
            return result

        return eventually(look, what, seconds, interval=0.1)

    def wait_gone(self, server_id: str, seconds: float = 300) -> None:
        self.until(server_id, lambda: not self.exists(server_id), f"server {server_id} deleted", seconds, _is_gone)

    def wait(self, server_id: str, status: str, seconds: float = 300) -> Json:
        """Wait until the server has `status` and no task. An ERROR that was not asked for fails at once."""

        def reached() -> Json | None:
            server = self.get(server_id)
            if server["status"] == "ERROR" and status != "ERROR":
                raise AssertionError(f"server {server_id} is in ERROR: {server.get('fault')}")
            return server if server["status"] == status and server["OS-EXT-STS:task_state"] is None else None

        try:
            return self.until(server_id, reached, f"server {server_id} {status} without a task", seconds, _is_idle)
        except AssertionError as error:
            server = self.get(server_id)
            seen = {key: server.get(key) for key in ("status", "OS-EXT-STS:task_state", "OS-EXT-STS:power_state")}
            raise AssertionError(f"{error} {seen}") from error

    def wait_settled(self, server_id: str) -> Json:
        """Wait until a launch has ended in one way or the other."""

        def settled() -> Json | None:
            server = self.get(server_id)
            ended = server["status"] in ("ACTIVE", "ERROR") and server["OS-EXT-STS:task_state"] is None
            return server if ended else None

        return eventually(settled, f"the launch of {server_id} ended")

    def wait_idle(self, server_id: str, seconds: float = 300) -> Json:
        """Wait until the server has no task."""
        return self.until(
            server_id,
            lambda: next((s for s in [self.get(server_id)] if s["OS-EXT-STS:task_state"] is None), None),
            f"server {server_id} without a task",
            seconds,
            _is_idle,
        )

    def console(self, server_id: str, lines: int | None = None) -> str:
        arguments = {} if lines is None else {"length": lines}
        return self.action(server_id, "os-getConsoleOutput", arguments)["output"]

    def wait_console(self, server_id: str, text: str, seconds: float = 300) -> str:
        """The whole console log, once it holds `text`."""
        return eventually(
            lambda: next((log for log in [self.console(server_id)] if text in log), None),
            f"{text!r} in the console log of {server_id}",
            seconds,
        )

    def interfaces(self, server_id: str) -> list[Json]:
        return self.request("GET", f"/servers/{server_id}/os-interface")["interfaceAttachments"]

    def addresses(self, server_id: str, version: int = 4) -> list[str]:
        """The fixed addresses of a server, in the order of its networks."""
        networks = self.get(server_id)["addresses"].values()
        return [
            address["addr"]
            for network in networks
            for address in network
            if address["version"] == version and address["OS-EXT-IPS:type"] == "fixed"
        ]


@dataclasses.dataclass(frozen=True)
class Event:
    """One event of a server action."""

    action: str
    name: str
    result: str | None
    details: str | None


def events(admin: Servers, server_id: str) -> list[Event]:
    """Every event of every action of a server, newest action first; admins see all columns."""
    return [event for action in _actions(admin, server_id) for event in _events_of(admin, server_id, action)]


def wait_event(admin: Servers, server_id: str, action: str, name: str, seconds: float = 300) -> Event:
    """The event `name` of the newest action called `action`, once it has a result.

    The API records what is asked of a server before it answers, so the newest is that of the last request.
    """

    def finished() -> Event | None:
        newest = next((entry for entry in _actions(admin, server_id) if entry["action"] == action), None)
        found = _events_of(admin, server_id, newest) if newest else []
        return next((event for event in found if event.name == name and event.result), None)

    return eventually(finished, f"the event {name} of server {server_id} finished", seconds)


def wait_failure(admin: Servers, server_id: str, seconds: float = 300) -> Event:
    """The event of the newest action that ended in an error, once there is one."""

    def failed() -> Event | None:
        newest = next(iter(_actions(admin, server_id)), None)
        found = _events_of(admin, server_id, newest) if newest else []
        return next((event for event in found if event.result == "Error"), None)

    return eventually(failed, f"an event of the newest action of server {server_id} failed", seconds)


def _actions(admin: Servers, server_id: str) -> list[Json]:
    """Newest first, without their events."""
    return admin.request("GET", f"/servers/{server_id}/os-instance-actions")["instanceActions"]


def _events_of(admin: Servers, server_id: str, action: Json) -> list[Event]:
    full = admin.request("GET", f"/servers/{server_id}/os-instance-actions/{action['request_id']}")
    return [
        Event(action["action"], event["event"], event["result"], event.get("details"))
        for event in full["instanceAction"]["events"]
    ]
