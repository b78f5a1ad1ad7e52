"""Looks at guests some time after something has happened to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from nova import context as nova_context
from nova import exception, objects
from nova.compute import vm_states
from nova.conf import CONF
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import errors, tags
from nova_docker.agent import Agent
from nova_docker.rpc import CallError
from nova_docker.v1 import driver_pb2 as api
from nova_docker.v1 import guest_pb2

LOG = logging.getLogger(__name__)

# Seconds in which an end and the start that follows it count as one.
_SETTLE = 0.2
# A check may come to another finding every second; Nova is not told more often than this.
_HEALTH_PAUSE = 10.0
# How soon an instance is looked at again that has a task.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# How soon a look is repeated that failed.
_RETRY = 60.0


class Looks:
    """One thread that brings the tags of servers to what their guests are, in order.

    And it tells Nova again of the end of a guest. An end that comes while the server has a task (a job is done before
    its launch is) Nova lets pass, and would find out minutes later.
    """

    def __init__(self, agent: Agent, ended: Callable[[str], None]) -> None:
        self._agent = agent
        self._ended = ended
        # Whether the agent's operator wants tags.
        self.writes_tags = False
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._looked: dict[str, float] = {}
        self._ends: set[str] = set()
        self._pauses: dict[str, float] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="nova-docker-looks", daemon=True)

    def start(self) -> None:
        """Starts to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, after the look under way."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def soon(self, guest_id: str, *, ended: bool = False) -> None:
        """Something has happened to a guest; of its end Nova may have to be told again."""
        with self._changed:
            if ended:
                self._ends.add(guest_id)
            else:
                self._ends.discard(guest_id)
            self._plan(guest_id, time.monotonic() + _SETTLE)

    def now_and_then(self, guest_id: str) -> None:
        """The check of a guest has come to another finding."""
        with self._changed:
            soon = time.monotonic() + _SETTLE
            last = self._looked.get(guest_id)
            self._plan(guest_id, soon if last is None else max(soon, last + _HEALTH_PAUSE))

    def _plan(self, guest_id: str, due: float) -> None:
        self._due[guest_id] = min(due, self._due.get(guest_id, due))
        self._changed.notify()

    def _run(self) -> None:
        while True:
            guest_id = self._next()
            if guest_id is None:
                return
            try:
                again = self._look(guest_id)
            except Exception as error:
                # The agent, Nova's conductor or its database is away.
                LOG.warning("Cannot bring the server of guest %s up to date yet: %s", guest_id, error)
                again = _RETRY
            with self._changed:
                if again is None:
                    self._pauses.pop(guest_id, None)
                else:
                    self._plan(guest_id, time.monotonic() + again)

    def _next(self) -> str | None:
        """Waits for the next guest to look at; None at the end."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                guest_id = min(self._due, key=self._due.__getitem__, default=None)
                if guest_id is not None and self._due[guest_id] <= now:
                    del self._due[guest_id]
                    self._looked = {known: at for known, at in self._looked.items() if at + _HEALTH_PAUSE > now}
                    self._looked[guest_id] = now
                    return guest_id
                self._changed.wait(None if guest_id is None else self._due[guest_id] - now)
            return None

    def _look(self, guest_id: str) -> float | None:
        """Does what is to be done; in how many seconds it is to be looked at again, if at all."""
        context = nova_context.get_admin_context()
        try:
            instance = objects.Instance.get_by_uuid(context, guest_id, expected_attrs=["tags"])
        except exception.InstanceNotFound:
            self._forget_end(guest_id)
            return None
        if instance.host not in (CONF.host, None):
            self._forget_end(guest_id)
            return None
        if instance.task_state is not None:
            # Whoever does that may be about to start it.
            pause = self._pauses.get(guest_id, _FIRST_PAUSE)
            self._pauses[guest_id] = min(pause * 2, _LONGEST_PAUSE)
            return pause
        guest = self._guest(guest_id)
        self._tell(context, instance, guest)
        return None

    def _tell(self, context: Any, instance: Any, guest: guest_pb2.GuestState | None) -> None:
        with self._changed:
            ended = instance.uuid in self._ends
        try:
            # First: who sees that the server is down finds out how it ended.
            if self.writes_tags:
                tags.write(context, instance, guest)
        finally:
            if ended:
                self._forget_end(instance.uuid)
                if instance.vm_state == vm_states.ACTIVE and tags.has_ended(guest):
                    self._ended(instance.uuid)

    def _forget_end(self, guest_id: str) -> None:
        with self._changed:
            self._ends.discard(guest_id)

    def _guest(self, guest_id: str) -> guest_pb2.GuestState | None:
        try:
            return self._agent.call(service.GET_GUEST, api.GetGuestRequest(guest_id=guest_id), patient=False).guest
        except CallError as error:
            if not errors.is_missing(error):
                raise
            return None
