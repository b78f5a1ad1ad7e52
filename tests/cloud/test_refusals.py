"""What the agent does not do: refused with words that a user understands, and the server stays usable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness.lab import Lab, Side
from harness.logs import Tail
from harness.servers import Json, Refused, Servers, wait_event, wait_failure
from harness.waiting import eventually
from openstack.connection import Connection

# A stock nova-compute has its own way with what its driver cannot do.
pytestmark = [pytest.mark.agent, pytest.mark.amqp]


@pytest.fixture(scope="module")
def shared(module_launch: Launcher) -> str:
    return str(module_launch("refusing")["id"])


@pytest.fixture
def server_id(shared: str, servers: Servers) -> Iterator[str]:
    """A server that must be as usable after the refusal as before."""
    yield shared
    server = servers.wait_idle(shared)
    assert server["status"] == "ACTIVE", f"{server['status']}: {server.get('fault')}"
    assert server["OS-EXT-STS:power_state"] == 1
    assert servers.console(shared, 2)


def _assert_a_sentence(text: str | None) -> None:
    assert text, "no reason is given"
    assert len(text) > 15 and " " in text, f"not a sentence: {text!r}"
    assert "Traceback" not in text
    assert "Unexpected API Error" not in text


def _reason_of_refusal(
    admin_servers: Servers, server_id: str, action: str, arguments: Json | None, **how: str
) -> str | None:
    """Why an action was refused: by the API's answer, or by the event of what it had begun."""
    try:
        admin_servers.action(server_id, action, arguments, **how)
    except Refused as refusal:
        assert 400 <= refusal.status < 500, refusal
        return refusal.message
    return wait_failure(admin_servers, server_id).details


def _whereabouts(server_id: str, admin_servers: Servers, admin: Connection) -> tuple[str, str, Json]:
    """Host, flavor, and what Placement holds for the server."""
    server = admin_servers.get(server_id)
    held = admin.placement.get(f"/allocations/{server_id}").json()["allocations"]
    resources = {provider: entry["resources"] for provider, entry in held.items()}
    return server["OS-EXT-SRV-ATTR:host"], server["flavor"]["original_name"], resources


def _unfinished_migrations(server_id: str, admin_servers: Servers) -> list[str]:
    found = admin_servers.request("GET", f"/os-migrations?instance_uuid={server_id}")["migrations"]
    return [migration["status"] for migration in found if migration["status"] not in ("error", "failed")]


ACCEPTED_AND_REFUSED_LATER = [
    ("trigger_crash_dump", None, "compute_trigger_crash_dump"),
]
"""Actions that the API answers with 202 before the host sees them: the event carries the reason."""


@pytest.mark.parametrize(("action", "arguments", "event_name"), ACCEPTED_AND_REFUSED_LATER)
def test_an_action_is_refused_in_its_event(
    server_id: str,
    servers: Servers,
    admin_servers: Servers,
    action: str,
    arguments: Json | None,
    event_name: str,
) -> None:
    admin_servers.action(server_id, action, arguments)
    event = wait_event(admin_servers, server_id, action, event_name)
    assert event.result == "Error"
    _assert_a_sentence(event.details)


def test_the_user_who_asked_sees_that_it_failed(server_id: str, servers: Servers, admin_servers: Servers) -> None:
    """By Nova's default policy the reason is for operators only."""
    servers.action(server_id, "trigger_crash_dump")
    wait_event(admin_servers, server_id, "trigger_crash_dump", "compute_trigger_crash_dump")
    [newest, *_] = servers.request("GET", f"/servers/{server_id}/os-instance-actions")["instanceActions"]
    shown = servers.request("GET", f"/servers/{server_id}/os-instance-actions/{newest['request_id']}")
    assert shown["instanceAction"]["message"] == "Error"
    assert [event["result"] for event in shown["instanceAction"]["events"]] == ["Error"]


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("migrate", None),
        ("os-migrateLive", {"host": None, "block_migration": "auto"}),
        ("evacuate", {}),
    ],
)
def test_a_move_is_refused_and_the_server_stays_where_it_is(
    server_id: str, admin_servers: Servers, admin: Connection, action: str, arguments: Json | None
) -> None:
    before = _whereabouts(server_id, admin_servers, admin)
    _assert_a_sentence(_reason_of_refusal(admin_servers, server_id, action, arguments))
    admin_servers.wait_idle(server_id)
    assert _whereabouts(server_id, admin_servers, admin) == before
    assert _unfinished_migrations(server_id, admin_servers) == []


@pytest.mark.parametrize(("protocol", "kind"), [("vnc", "novnc"), ("spice", "spice-html5"), ("mks", "webmks")])
def test_a_graphical_console_is_refused(server_id: str, servers: Servers, protocol: str, kind: str) -> None:
    with pytest.raises(Refused) as refusal:
        servers.request(
            "POST", f"/servers/{server_id}/remote-consoles", {"remote_console": {"protocol": protocol, "type": kind}}
        )
    assert refusal.value.status == 400
    _assert_a_sentence(refusal.value.message)


@pytest.mark.amqp
@pytest.mark.full
def test_fixed_addresses_cannot_be_changed(
    launch: Launcher, admin_servers: Servers, private_network: list[Json], lab: Lab, side: Side
) -> None:
    """Actions of old API versions, which some clients still use. Nova records no action of theirs: the log tells."""
    server_id = launch("addressed", networks=private_network)["id"]
    addresses = admin_servers.addresses(server_id)
    log = Tail(lab.log(side.program))
    for action, arguments, method in (
        ("addFixedIp", {"networkId": private_network[0]["uuid"]}, "add_fixed_ip_to_instance"),
        ("removeFixedIp", {"address": addresses[0]}, "remove_fixed_ip_from_instance"),
    ):
        admin_servers.action(server_id, action, arguments, microversion="2.43")
        refused = re.compile(rf'method="{method}" .*refused: not supported for containers')
        eventually(lambda refused=refused: refused.search(log.text()), f"{action} refused")  # type: ignore[misc]
        server = admin_servers.wait_idle(server_id)
        assert server["status"] == "ACTIVE"
        assert admin_servers.addresses(server_id) == addresses


@pytest.mark.cinder
def test_a_volume_cannot_be_attached(
    server_id: str, servers: Servers, user: Connection, unique: Callable[[str], str]
) -> None:
    """Without Cinder, test_messages.py asks the agent directly."""
    volume = user.block_storage.create_volume(size=1, name=unique("volume"))
    user.block_storage.wait_for_status(volume, "available")
    try:
        with pytest.raises(Refused) as refusal:
            servers.request(
                "POST", f"/servers/{server_id}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume.id}}
            )
        assert refusal.value.status == 400
        _assert_a_sentence(refusal.value.message)
        assert user.block_storage.get_volume(volume.id).status == "available"
    finally:
        user.block_storage.delete_volume(volume)
        user.block_storage.wait_for_delete(volume)


def test_host_actions_are_refused(admin_servers: Servers, side: object) -> None:
    for action in ("reboot", "shutdown", "startup"):
        with pytest.raises(Refused) as refusal:
            admin_servers.request("GET", f"/os-hosts/{side.host}/{action}", microversion="2.42")  # type: ignore[attr-defined]
        assert refusal.value.status == 501
