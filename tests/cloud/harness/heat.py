"""Stacks of Heat's, through its API as the tenant's user."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable
from typing import Any

from heatclient.client import Client
from heatclient.common import template_utils
from heatclient.exc import HTTPNotFound
from openstack.connection import Connection

from harness.examples import EXAMPLES
from harness.waiting import eventually

TEMPLATES = EXAMPLES / "heat"

SECONDS = 900
"""How long a stack may take: Heat looks only now and then."""


class StackFailed(AssertionError):
    """A stack that has failed; the message is Heat's reason, with what its resources say."""


class Stack:
    """One stack of an example."""

    def __init__(self, client: Any, stack_id: str) -> None:
        self._client = client
        self.id = stack_id
        self._waited_for: collections.Counter[str] = collections.Counter()

    def wait(self, action: str, result: str = "COMPLETE") -> str:
        """Wait for the end of the last action, and return Heat's reason. Raises StackFailed for another result."""

        def ended() -> Any:
            # Its state may be that of the same action before.
            ends = self._ends(action)
            return ends[-1] if len(ends) > self._waited_for[action] else None

        end = eventually(ended, f"the end of {action} of stack {self.id}", SECONDS, interval=1)
        self._waited_for[action] += 1
        if end.resource_status != f"{action}_{result}":
            raise StackFailed(f"{end.resource_status}: {end.resource_status_reason}; {self._troubles()}")
        return str(end.resource_status_reason)

    def _ends(self, action: str) -> list[Any]:
        """The events that end this action of the stack, the oldest first."""
        wanted = (f"{action}_COMPLETE", f"{action}_FAILED")
        events = self._client.events.list(self.id, sort_dir="asc")
        return [each for each in events if each.physical_resource_id == self.id and each.resource_status in wanted]

    def _troubles(self) -> list[str]:
        found = self._client.resources.list(self.id, nested_depth=2)
        shown = (f"{each.resource_name}: {each.resource_status}: {each.resource_status_reason}" for each in found)
        return [line for line in shown if "_COMPLETE:" not in line]

    def update(self, **parameters: Any) -> None:
        """Other parameters, and all else as it is."""
        self._client.stacks.update(self.id, existing=True, parameters=parameters)
        self.wait("UPDATE")

    def act(self, action: str, result: str = "COMPLETE") -> str:
        """suspend, resume or check."""
        getattr(self._client.actions, action)(self.id)
        return self.wait(action.upper(), result)

    def signal(self, resource: str) -> None:
        self._client.resources.signal(self.id, resource)

    def output(self, name: str) -> Any:
        return self._client.stacks.output_show(self.id, name)["output"]["output_value"]

    def resource(self, name: str) -> str:
        """What a resource is called outside of Heat."""
        return str(self._client.resources.get(self.id, name).physical_resource_id)

    def delete(self) -> None:
        """Ask for its end; one that is gone is fine."""
        with contextlib.suppress(HTTPNotFound):
            self._client.stacks.delete(self.id)

    def is_gone(self) -> bool:
        stack = self._client.stacks.get(self.id)
        if stack.stack_status == "DELETE_FAILED":
            raise StackFailed(f"{stack.stack_status_reason}; {self._troubles()}")
        return str(stack.stack_status) == "DELETE_COMPLETE"


class Heat:
    """Makes stacks of the examples, and takes them away again."""

    def __init__(self, connection: Connection, unique: Callable[[str], str]) -> None:
        region = connection.config.region_name
        self._client = Client("1", session=connection.session, region_name=region)
        self._unique = unique
        self._made: list[Stack] = []

    def request(self, example: str, **parameters: Any) -> Stack:
        """Ask for a stack of an example, and return it at once."""
        files, template = template_utils.get_template_contents(str(TEMPLATES / f"{example}.yaml"))
        made = self._client.stacks.create(
            stack_name=self._unique(example),
            template=template,
            files=files,
            parameters=parameters,
            timeout_mins=SECONDS // 60,
        )
        self._made.append(Stack(self._client, made["stack"]["id"]))
        return self._made[-1]

    def __call__(self, example: str, **parameters: Any) -> Stack:
        """A stack that is complete."""
        stack = self.request(example, **parameters)
        stack.wait("CREATE")
        return stack

    def take_away(self) -> None:
        for stack in self._made:
            stack.delete()
        for stack in self._made:
            eventually(stack.is_gone, f"the end of stack {stack.id}", SECONDS, interval=1)
