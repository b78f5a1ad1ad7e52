"""How many servers the host takes: those of all workers together are more than Nova's default allows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from openstack.connection import Connection

from harness.lab import Side

RATIO = 32.0
"""Servers of one processor for each processor of the host. The agent and nova-compute keep what an operator has set."""


@contextlib.contextmanager
def for_all_workers(admin: Connection, side: Side) -> Iterator[None]:
    """Set the ratio of the host's processors for as long as tests run."""
    path = f"/resource_providers/{_provider(admin, side.host)}/inventories/VCPU"
    before = _set(admin, path, RATIO)
    yield
    _set(admin, path, before)


def _provider(admin: Connection, host: str) -> str:
    found = admin.compute.get("/os-hypervisors/detail", microversion="2.96").json()["hypervisors"]
    return next(entry["id"] for entry in found if entry["service"]["host"] == host)


def _set(admin: Connection, path: str, ratio: float) -> float:
    """Returns what the ratio was. The host may write at the same time: then what it wrote is read again."""
    while True:
        inventory = admin.placement.get(path).json()
        before = float(inventory["allocation_ratio"])
        answer = admin.placement.put(path, json={**inventory, "allocation_ratio": ratio})
        if answer.status_code == 200:
            return before
        assert answer.status_code == 409, answer.text
