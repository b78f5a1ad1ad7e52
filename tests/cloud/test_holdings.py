"""What servers hold in Placement, where something has gone wrong with it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from conftest import Launcher
from harness.lab import Lab
from harness.programs import agent_with
from harness.restarts import set_task
from harness.servers import Servers
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [
    pytest.mark.full,
    pytest.mark.agent,
    pytest.mark.alone,
    pytest.mark.amqp,  # The allocations are nova-compute's business then.
    pytest.mark.usefixtures("usable_afterwards"),
]

Allocations = dict[str, Any]


def _read(admin: Connection, consumer: str) -> Allocations:
    return admin.placement.get(f"/allocations/{consumer}", microversion="1.28").json()


def _held(admin: Connection, consumer: str) -> dict[str, int]:
    found = _read(admin, consumer)["allocations"].values()
    return {name: amount for held in found for name, amount in held["resources"].items()}


def _hold(admin: Connection, consumer: str, **resources: int) -> None:
    """Let a consumer hold other amounts of what it holds something of."""
    held = _read(admin, consumer)
    for allocation in held["allocations"].values():
        allocation["resources"] |= resources
        del allocation["generation"]
    answer = admin.placement.put(f"/allocations/{consumer}", json=held, microversion="1.28")
    assert answer.status_code == 204, answer.text


def _take_all(admin: Connection, provider: str, resource: str) -> list[str]:
    """Let consumers that nobody knows hold all that is left of a provider's resource."""
    path = f"/resource_providers/{provider}"
    inventory = admin.placement.get(f"{path}/inventories/{resource}").json()
    used = admin.placement.get(f"{path}/usages").json()["usages"][resource]
    left = int((inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"]) - used
    consumers: list[str] = []
    while left > 0:
        amount = min(left, inventory["max_unit"])
        body = {
            "allocations": {provider: {"resources": {resource: amount}}},
            "consumer_generation": None,
            "project_id": "nobody",
            "user_id": "nobody",
        }
        consumers.append(str(uuid.uuid4()))
        answer = admin.placement.put(f"/allocations/{consumers[-1]}", json=body, microversion="1.28")
        assert answer.status_code == 204, answer.text
        left -= amount
    return consumers


def test_what_a_server_on_no_host_holds_is_taken_from_it(
    lab: Lab, launch: Launcher, servers: Servers, admin: Connection, admin_servers: Servers
) -> None:
    server_id = launch("homeless")["id"]
    held = _read(admin, server_id)
    servers.action(server_id, "shelve")
    servers.wait(server_id, "SHELVED_OFFLOADED")
    for allocation in held["allocations"].values():
        del allocation["generation"]
    # As where placement did not answer when the server's way back to this host was given up.
    answer = admin.placement.put(
        f"/allocations/{server_id}", json=held | {"consumer_generation": None}, microversion="1.28"
    )
    assert answer.status_code == 204, answer.text
    with agent_with(lab, admin_servers, section="DEFAULT", update_resources_interval="2"):
        eventually(lambda: _held(admin, server_id) == {}, "nothing held for a server on no host", interval=1)
    servers.action(server_id, "unshelve")
    servers.wait(server_id, "ACTIVE")


def test_an_ended_move_gives_up_what_it_holds_also_where_its_server_has_no_room(
    lab: Lab, launch: Launcher, servers: Servers, admin: Connection, admin_servers: Servers
) -> None:
    server_id = launch("roomless")["id"]
    servers.action(server_id, "resize", {"flavorRef": admin.compute.find_flavor("c1.small", ignore_missing=False).id})
    servers.wait(server_id, "VERIFY_RESIZE")
    [migration] = admin_servers.request("GET", f"/os-migrations?instance_uuid={server_id}")["migrations"]
    before = _read(admin, migration["uuid"])
    servers.action(server_id, "confirmResize")
    servers.wait(server_id, "ACTIVE")
    of_flavor = _held(admin, server_id)
    [provider] = before["allocations"]
    of_move = {"VCPU": 1}
    before["allocations"] = {provider: {"resources": of_move}}
    _hold(admin, server_id, MEMORY_MB=64)
    taken = _take_all(admin, provider, "MEMORY_MB")
    try:
        answer = admin.placement.put(
            f"/allocations/{migration['uuid']}", json=before | {"consumer_generation": None}, microversion="1.28"
        )
        assert answer.status_code == 204, answer.text
        with agent_with(lab, admin_servers, section="DEFAULT", update_resources_interval="2"):
            eventually(lambda: _held(admin, migration["uuid"]) == {}, "nothing held for the move", interval=1)
            assert _held(admin, server_id) == of_flavor | {"MEMORY_MB": 64}
            while taken:
                admin.placement.delete(f"/allocations/{taken.pop()}")
            eventually(lambda: _held(admin, server_id) == of_flavor, "what the flavor asks for", interval=1)
    finally:
        for consumer in taken:
            admin.placement.delete(f"/allocations/{consumer}")


def test_what_a_server_holds_wrongly_is_set_right_unless_it_is_being_worked_on(
    lab: Lab, launch: Launcher, servers: Servers, admin: Connection, admin_servers: Servers
) -> None:
    right, bare, busy, resized = (launch(stem)["id"] for stem in ("right", "bare", "busy", "resized"))
    of_flavor = _held(admin, right)
    small = admin.compute.find_flavor("c1.small", ignore_missing=False).id
    servers.action(resized, "resize", {"flavorRef": small})
    servers.wait(resized, "VERIFY_RESIZE")
    wrong = {"MEMORY_MB": 96, "DISK_GB": 2, "VCPU": 1}
    with agent_with(lab, admin_servers, section="DEFAULT", update_resources_interval="2"):
        # Not before: a start ends a task that nobody works on.
        set_task(lab, busy, "resize_prep")
        for server_id in (busy, resized, right):
            _hold(admin, server_id, **wrong)
        admin.placement.delete(f"/allocations/{bare}")
        eventually(lambda: _held(admin, right) == of_flavor, "what the flavor asks for", interval=1)
        eventually(lambda: _held(admin, bare) == of_flavor, "what was lost", interval=1)
        # The next one begins when that one has looked at all.
        _hold(admin, right, **wrong)
        eventually(lambda: _held(admin, right) == of_flavor, "what the flavor asks for, again", interval=1)
        assert [_held(admin, server_id) for server_id in (busy, resized)] == [wrong, wrong]
        set_task(lab, busy, None)
        eventually(lambda: _held(admin, busy) == of_flavor, "what it was left alone for", interval=1)
        servers.action(resized, "confirmResize")
        servers.wait(resized, "ACTIVE")
        grown = {"MEMORY_MB": 256, "DISK_GB": 2, "VCPU": 1}
        eventually(lambda: _held(admin, resized) == grown, "what its new flavor asks for", interval=1)
    [migration] = admin_servers.request("GET", f"/os-migrations?instance_uuid={resized}")["migrations"]
    assert _held(admin, migration["uuid"]) == {}
