"""What failed builds have left while the agent was not there to remove it."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from oslo_concurrency import lockutils
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker.agent import Agent
from nova_docker.background import Background
from nova_docker.rpc import AddressRefused, CallError
from nova_docker.v1 import driver_pb2 as api

LOG = logging.getLogger(__name__)

_THREADS = 4
_MOST_WAITING = 10_000


class Remains:
    """Guests of which something may be left. Each is removed in the background as soon as the agent can.

    The lock of an instance decides between its removal and its next build: who comes second finds the other's work
    done.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._guests: set[str] = set()
        self._queued: set[str] = set()
        self._guard = threading.Lock()
        self._background = Background("removal of failed builds", _THREADS, _MOST_WAITING)

    def add(self, uuid: str) -> None:
        """Something may be left of the guest."""
        with self._guard:
            self._guests.add(uuid)

    def forget(self, uuid: str) -> None:
        """The guest is about to be made, or is gone: from now on it is not removed. Waits for a removal under way."""
        with self._lock(uuid), self._guard:
            self._guests.discard(uuid)

    def remove(self) -> None:
        """Begins to remove everything. The caller does not wait: a removal may hang with Docker."""
        with self._guard:
            queue = self._guests - self._queued
            self._queued |= queue
        for uuid in queue:
            if not self._background.submit(partial(self._remove, uuid)):
                with self._guard:
                    self._queued.discard(uuid)

    def _remove(self, uuid: str) -> None:
        try:
            with self._lock(uuid):
                if uuid in self._guests:
                    self._remove_locked(uuid)
        finally:
            with self._guard:
                self._queued.discard(uuid)

    def _remove_locked(self, uuid: str) -> None:
        request = api.DeleteGuestRequest(guest_id=uuid)
        try:
            # No longer than a question: a build of the same server may wait for it.
            self._agent.call(service.DELETE_GUEST, request, patient=False, timeout=self._agent.call_timeout)
        except (CallError, AddressRefused) as error:
            LOG.warning("Cannot remove what is left of the failed build of %s yet: %s", uuid, error)
        else:
            with self._guard:
                self._guests.discard(uuid)

    @staticmethod
    def _lock(uuid: str) -> Any:
        return lockutils.lock(f"nova-docker-remains-{uuid}")
