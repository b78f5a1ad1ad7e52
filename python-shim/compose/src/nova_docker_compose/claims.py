"""Whose turn it is to launch a server, or to change all servers of a service.

A claim is a port whose MAC address says of what it is, as with places: Neutron has one of it on a network. It has no IP
address. A port's revision (`If-Match`) is no claim: Neutron lets two win that come at the same time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from nova_docker_compose.cloud import MARK, Api, Json
from nova_docker_compose.slots import CLAIM, Place, delete_port, exclusive, mac_address, slot_name

_SECONDS = 60
"""An older claim is of a command that has died with it."""
_RENEWED_SECONDS = 15.0
_POLL = 1.0
_OF_ALL = 0
"""No server has this number."""


@contextmanager
def claimed(api: Api, project: str, place: Place) -> Iterator[None]:
    """Only one has this at a time. Who has it looks again for the server, and launches it if it is not there.

    It is for what takes seconds.
    """
    with _held(api, project, place, place.number, lambda: None):
        yield


@contextmanager
def leased(api: Api, project: str, place: Place, tell: Callable[[str], None]) -> Iterator[None]:
    """Only one has the servers of a service, of which this is a place, for itself, however long it takes.

    The claim is renewed as long as this process lives.
    """

    def wait() -> None:
        tell(f"{project}-{place.service}: another command changes its servers; waiting for it")

    with _held(api, project, place, _OF_ALL, wait) as claim:
        over = threading.Event()
        keeper = threading.Thread(target=_renew, args=(api, claim["id"], over), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()


@contextmanager
def _held(api: Api, project: str, place: Place, number: int, waiting: Callable[[], None]) -> Iterator[Json]:
    network = place.ports[0]["network_id"]
    name = f"{slot_name(project, place.service, number)} {CLAIM}"
    body: Json = {"name": name, "description": MARK + project, "network_id": network, "fixed_ips": []}
    body["mac_address"] = mac_address(api.project_id(), name, network)
    told = False
    while True:
        port, mine = exclusive(api, body)
        if mine:
            break
        if _age(api, port) > _SECONDS:
            delete_port(api, port["id"])
            continue
        if not told:
            waiting()
            told = True
        # Neutron has nothing to wait on.
        time.sleep(_POLL)
    try:
        yield port
    finally:
        delete_port(api, port["id"])


def _renew(api: Api, port_id: str, over: threading.Event) -> None:
    """Changes a claim now and then, which makes it young."""
    up = True
    while not over.wait(_RENEWED_SECONDS):
        up = not up
        # Whatever becomes of it, the next one may succeed.
        with suppress(Exception):
            api.request("network", "PUT", f"/ports/{port_id}", {"port": {"admin_state_up": up}})


def _age(api: Api, port: Json) -> float:
    renewed = datetime.fromisoformat(str(port.get("updated_at") or port["created_at"]).replace("Z", "+00:00"))
    return (api.now - renewed).total_seconds()
