"""Whose turn it is to launch a server, or to change all servers of a service.

A claim is a port whose MAC address says of what it is, as with places: Neutron has one of it on a network. It has no IP
address. A port's revision (`If-Match`) is no claim: Neutron lets two win that come at the same time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from nova_docker_compose.cloud import MARK, Api, Json
from nova_docker_compose.slots import CLAIM, Place, delete_port, exclusive, mac_address, slot_name

_SECONDS = 60.0
"""A claim that stays as it is for longer is of a command that has died with it. No two clocks are compared."""
_RENEWED_SECONDS = 15.0
_POLL = 1.0
_OF_ALL = 0
"""No server has this number."""


@contextmanager
def claimed(api: Api, project: str, place: Place) -> Iterator[None]:
    """Only one has this at a time. Who has it looks again for the server, and launches it if it is not there."""
    with _held(api, project, place, place.number, lambda: None):
        yield


@contextmanager
def all_claimed(api: Api, project: str, place: Place, tell: Callable[[str], None]) -> Iterator[None]:
    """Only one has the servers of a service, of which this is a place, for itself."""

    def wait() -> None:
        tell(f"{project}-{place.service}: another command changes its servers; waiting for it")

    with _held(api, project, place, _OF_ALL, wait):
        yield


@contextmanager
def _held(api: Api, project: str, place: Place, number: int, waiting: Callable[[], None]) -> Iterator[None]:
    """However long it takes: a claim is renewed as long as this process lives."""
    network = place.ports[0]["network_id"]
    name = f"{slot_name(project, place.service, number)} {CLAIM}"
    body: Json = {"name": name, "description": MARK + project, "network_id": network, "fixed_ips": []}
    body["mac_address"] = mac_address(api.project_id(), name, network)
    port_id = _made(api, body, waiting)
    over = threading.Event()
    keeper = threading.Thread(target=_renew, args=(api, port_id, over), daemon=True)
    try:
        keeper.start()
        yield
    finally:
        over.set()
        delete_port(api, port_id)


def _made(api: Api, body: Json, waiting: Callable[[], None]) -> str:
    """The id of a claim of ours, when nobody else has it any more."""
    known, since = None, 0.0
    while True:
        port, mine = exclusive(api, body)
        if mine:
            return str(port["id"])
        now = time.monotonic()
        if known is None:
            waiting()
        if known != (state := (port["id"], port.get("updated_at"))):
            known, since = state, now
        elif now - since > _SECONDS:
            delete_port(api, port["id"])
            continue
        # Neutron has nothing to wait on.
        time.sleep(_POLL)


def _renew(api: Api, port_id: str, over: threading.Event) -> None:
    """Changes a claim now and then, by which others see that somebody has it."""
    up = True
    while not over.wait(_RENEWED_SECONDS):
        up = not up
        # Whatever becomes of it, the next one may succeed.
        with suppress(Exception):
            api.request("network", "PUT", f"/ports/{port_id}", {"port": {"admin_state_up": up}})
