"""Listens to the agent for as long as nova-compute runs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from nova.virt import event as virt_event
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker.agent import Agent
from nova_docker.looks import Looks
from nova_docker.rpc import AddressRefused, Call, CallError
from nova_docker.v1 import driver_pb2 as api
from nova_docker.v1 import guest_pb2, host_pb2

LOG = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0

# Nova has no word for a guest that is gone.
_TRANSITIONS: dict[int, int] = {
    guest_pb2.GUEST_EVENT_KIND_STARTED: virt_event.EVENT_LIFECYCLE_STARTED,
    guest_pb2.GUEST_EVENT_KIND_STOPPED: virt_event.EVENT_LIFECYCLE_STOPPED,
    guest_pb2.GUEST_EVENT_KIND_PAUSED: virt_event.EVENT_LIFECYCLE_PAUSED,
    guest_pb2.GUEST_EVENT_KIND_RESUMED: virt_event.EVENT_LIFECYCLE_RESUMED,
}
# The transition that a guest has missed telling, by what it does now.
_MISSED: dict[int, int] = {
    guest_pb2.POWER_STATE_RUNNING: virt_event.EVENT_LIFECYCLE_STARTED,
    guest_pb2.POWER_STATE_STOPPED: virt_event.EVENT_LIFECYCLE_STOPPED,
    guest_pb2.POWER_STATE_CRASHED: virt_event.EVENT_LIFECYCLE_STOPPED,
    guest_pb2.POWER_STATE_PAUSED: virt_event.EVENT_LIFECYCLE_PAUSED,
}


class Watcher:
    """A thread (of the kind that Nova runs on) that follows WatchEvents and connects again whenever that ends.

    greet is called on each connection before anything else; it raises CallError or AddressRefused when this agent
    cannot be used. transition takes what happened to a guest; usable takes what is wrong with the host, or None. An
    agent that is away is wrong after grace seconds. looks looks at guests when something has happened to them.
    """

    def __init__(
        self,
        agent: Agent,
        greet: Callable[[], None],
        transition: Callable[[str, int], None],
        usable: Callable[[str | None], None],
        grace: float,
        looks: Looks,
    ) -> None:
        self._agent = agent
        self._greet = greet
        self._transition = transition
        self._usable = usable
        self._stopping = threading.Event()
        self._call: Call | None = None
        self._grace = grace
        self._looks = looks
        self._failing_since: float | None = None
        self._pause = _FIRST_PAUSE
        self._states: dict[str, int] | None = None
        self._thread = threading.Thread(target=self._run, name="nova-docker-events", daemon=True)

    def start(self) -> None:
        """Starts to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, within a moment."""
        self._stopping.set()
        call = self._call
        if call is not None:
            call.cancel()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except (CallError, AddressRefused) as error:
                if self._stopping.is_set():
                    return
                LOG.warning("No events from nova-docker-agent: %s", error)
                now = time.monotonic()
                self._failing_since = self._failing_since or now
                if now - self._failing_since >= self._grace:
                    # It is not just being restarted.
                    self._usable(f"nova-docker-agent cannot be used: {error}")
            except Exception:
                LOG.exception("Listening to nova-docker-agent failed")
            # Not all hosts at the same moment.
            self._stopping.wait(self._pause * random.uniform(0.8, 1.2))  # noqa: S311
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _follow(self) -> None:
        """Listens until the connection ends, which is an error unless the agent ended it well."""
        self._greet()
        with self._agent.watch() as call:
            self._call = call
            if self._stopping.is_set():
                return
            for message in call:
                self._take(service.WATCH_EVENTS.parse(message))

    def _take(self, answer: api.WatchEventsResponse) -> None:
        kind = answer.WhichOneof("event")
        if kind == "guest":
            self._take_guest(answer.guest)
        elif kind == "host":
            lost = answer.host.kind == host_pb2.HOST_EVENT_KIND_DOCKER_LOST
            self._usable((answer.host.message or "Docker does not answer") if lost else None)
            if not lost:
                self._catch_up()
        else:
            # The first message: from here on nothing is missed.
            self._pause, self._failing_since = _FIRST_PAUSE, None
            self._catch_up()

    def _take_guest(self, event: guest_pb2.GuestEvent) -> None:
        if event.kind in (guest_pb2.GUEST_EVENT_KIND_HEALTH_CHANGED, guest_pb2.GUEST_EVENT_KIND_SCRIPT_ENDED):
            self._looks.now_and_then(event.guest_id)
            return
        if self._states is not None:
            # What it does now is asked at the next connection; until then it must not count as told.
            self._states.pop(event.guest_id, None)
        transition = _TRANSITIONS.get(event.kind)
        if transition is not None:
            self._transition(event.guest_id, transition)
        self._looks.soon(event.guest_id, ended=event.kind == guest_pb2.GUEST_EVENT_KIND_STOPPED)

    def _catch_up(self) -> None:
        """Tells what has changed since the last time that the guests were listed."""
        try:
            guests = self._agent.call(service.LIST_GUESTS, api.ListGuestsRequest()).guests
        except CallError as error:
            if error.reason != "DOCKER_UNAVAILABLE":
                raise
            self._usable(error.message)
            return
        self._usable(None)
        before, self._states = self._states, {guest.guest_id: guest.power_state for guest in guests}
        for guest_id, state in self._states.items():
            # At the start of nova-compute Nova compares all servers itself.
            is_missed = before is not None and state != before.get(guest_id) and state in _MISSED
            if is_missed:
                self._transition(guest_id, _MISSED[state])
            self._looks.soon(guest_id, ended=is_missed and _MISSED[state] == virt_event.EVENT_LIFECYCLE_STOPPED)
