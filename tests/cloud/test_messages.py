"""Messages on the host's own queues that no nova-api would send, and the refusals that only calls show."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Launcher
from harness import logs
from harness.amqp import Amqp, RpcFailure, instance
from harness.lab import Lab, Side
from harness.servers import Json, Servers

# Whoever takes Nova's messages; a stock nova-compute leaves that to oslo.messaging, which is not ours to test.
pytestmark = pytest.mark.amqp


@pytest.fixture(scope="module")
def server_id(module_launch: Launcher) -> str:
    return str(module_launch("addressed")["id"])


@pytest.fixture(autouse=True)
def stays_up(lab: Lab, side: Side) -> Iterator[None]:
    """No message may end the service or stop it from answering."""
    before = lab.pid(side.program)
    yield
    client = Amqp(lab)
    try:
        assert ping(client, side) == {"service": "compute", "arg": "still there?"}
    finally:
        client.close()
    assert lab.pid(side.program) == before


def ping(amqp: Amqp, side: Side, topic: str = "compute") -> Any:
    return amqp.call(topic, side.host, "ping", {"arg": "still there?"}, version="1.0", namespace="baseapi")


def refusal(amqp: Amqp, side: Side, method: str, arguments: Json, **fields: Any) -> RpcFailure:
    """What a call that must fail is answered with."""
    try:
        answer = amqp.call("compute", side.host, method, arguments, **fields)
    except RpcFailure as failure:
        return failure
    pytest.fail(f"{method} with {arguments} and {fields} was answered with {answer!r}")


def test_a_ping_is_answered_on_both_topics(amqp: Amqp, side: Side) -> None:
    for topic in ("compute", "compute-alt"):
        assert ping(amqp, side, topic) == {"service": "compute", "arg": "still there?"}, topic


UNKNOWN: list[tuple[str, Json]] = [
    ("no_such_method", {}),
    ("__init__", {}),
    ("ping", {"namespace": "no_such_namespace", "version": "1.0"}),
    ("stop_instance", {"version": "99.0"}),
    ("stop_instance", {"version": "6.999"}),
]


def test_an_unknown_method_is_answered_with_a_failure(amqp: Amqp, side: Side) -> None:
    for method, fields in UNKNOWN:
        failure = refusal(amqp, side, method, {}, **fields)
        assert failure.cls in ("NoSuchMethod", "UnsupportedVersion"), (method, fields, failure)


MALFORMED = {
    "empty": b"",
    "binary": bytes(range(256)),
    "no JSON": b"{",
    "a number": b"7",
    "null": b"null",
    "a list": b"[1, 2]",
    "no envelope": b'{"method": "ping"}',
    "message is no text": b'{"oslo.version": "2.0", "oslo.message": 7}',
    "message is no JSON": b'{"oslo.version": "2.0", "oslo.message": "{"}',
    "message is a list": b'{"oslo.version": "2.0", "oslo.message": "[]"}',
    "another envelope version": b'{"oslo.version": "9.0", "oslo.message": "{}"}',
    "no method": b'{"oslo.version": "2.0", "oslo.message": "{\\"args\\": {}}"}',
    "method is a number": b'{"oslo.version": "2.0", "oslo.message": "{\\"method\\": 3, \\"args\\": {}}"}',
    "arguments are a list": b'{"oslo.version": "2.0", "oslo.message": "{\\"method\\": \\"x\\", \\"args\\": []}"}',
    "deeply nested": b'{"oslo.version": "2.0", "oslo.message": "' + b"[" * 5000 + b'"}',
    "half a code point": b'{"oslo.version": "2.0", "oslo.message": "\\"\\ud800\\""}',
    "invalid UTF-8": b'{"oslo.version": "2.0", "oslo.message": "\xff"}',
}


@pytest.mark.agent
def test_a_malformed_message_does_no_harm(amqp: Amqp, side: Side, lab: Lab) -> None:
    """Only the agent: stock oslo.messaging closes its connection over some of these."""
    before = lab.pid(side.program)
    for name, message in MALFORMED.items():
        for topic in ("compute", "compute-alt"):
            amqp.publish(f"{topic}.{side.host}", message)
            assert ping(amqp, side, topic) == {"service": "compute", "arg": "still there?"}, name
        assert lab.pid(side.program) == before, name


NONSENSE: list[Json] = [
    {},
    {"instance": None},
    {"instance": "text"},
    {"instance": {}},
    {"instance": {"nova_object.name": "Flavor", "nova_object.version": "1.2", "nova_object.data": {}}},
    {"instance": instance("not a uuid")},
    {"instance": instance("../../etc/passwd")},
]


@pytest.mark.agent
def test_a_call_with_nonsense_is_answered_with_a_failure(amqp: Amqp, side: Side) -> None:
    for arguments in NONSENSE:
        refusal(amqp, side, "get_console_output", {"tail_length": None, **arguments})


@pytest.mark.agent
def test_a_cast_for_an_instance_that_nobody_has_does_no_harm(amqp: Amqp, side: Side) -> None:
    """The duty may have been waiting in the queue since before the server was deleted."""
    for method in ("stop_instance", "terminate_instance", "reboot_instance", "snapshot_instance"):
        amqp.send(f"compute.{side.host}", cast_for_nobody(side, method))


def cast_for_nobody(side: Side, method: str) -> Json:
    return {
        "method": method,
        "args": {
            "instance": instance(str(uuid.uuid4()), host=side.host),
            "clean_shutdown": True,
            "bdms": {
                "nova_object.name": "BlockDeviceMappingList",
                "nova_object.namespace": "nova",
                "nova_object.version": "1.18",
                "nova_object.data": {"objects": []},
            },
            "block_device_info": None,
            "reboot_type": "SOFT",
            "image_id": str(uuid.uuid4()),
        },
        "version": "6.0",
        "_unique_id": uuid.uuid4().hex,
        "_context_request_id": f"req-{uuid.uuid4()}",
        "_context_is_admin": True,
    }


LATE = {
    "stop_instance": {"clean_shutdown": True},
    "pause_instance": {},
    "soft_delete_instance": {},
}
"""Requests that a running server must not be touched by when its record has no such task."""


@pytest.mark.agent
@pytest.mark.parametrize("method", LATE)
def test_a_request_from_yesterday_is_not_obeyed(
    amqp: Amqp, side: Side, server_id: str, servers: Servers, lab: Lab, method: str
) -> None:
    """Casts wait in the queue while the host is away; the record, not the message, says what is to be done."""
    began = lab.docker("inspect", "--format", "{{.State.StartedAt}}", f"nova-{server_id}")
    # Nova casts it. A call is answered when it is done with, here by a refusal or by nothing.
    with contextlib.suppress(RpcFailure):
        amqp.call("compute", side.host, method, {"instance": instance(server_id, host=side.host), **LATE[method]})
    assert servers.get(server_id)["status"] == "ACTIVE"
    state = lab.docker("inspect", "--format", "{{.State.Status}} {{.State.StartedAt}}", f"nova-{server_id}")
    assert state == f"running {began}"


@pytest.mark.agent
@pytest.mark.full
def test_a_start_from_yesterday_is_not_obeyed(
    amqp: Amqp, side: Side, launch: Launcher, servers: Servers, lab: Lab
) -> None:
    server_id = launch("asleep")["id"]
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    began = lab.docker("inspect", "--format", "{{.State.StartedAt}}", f"nova-{server_id}")
    with contextlib.suppress(RpcFailure):
        amqp.call("compute", side.host, "start_instance", {"instance": instance(server_id, host=side.host)})
    assert servers.get(server_id)["status"] == "SHUTOFF"
    assert lab.docker("inspect", "--format", "{{.State.StartedAt}}", f"nova-{server_id}") == began


REFUSED_CALLS = {
    "reserve_block_device_name": {
        "device": None,
        "volume_id": str(uuid.uuid4()),
        "disk_bus": None,
        "device_type": None,
        "tag": None,
        "multiattach": False,
    },
    "get_vnc_console": {"console_type": "novnc"},
    "get_spice_console": {"console_type": "spice-html5"},
    "get_mks_console": {"console_type": "webmks"},
    # The image has no passwords.
    "set_admin_password": {"new_pass": "a secret that must not be logged"},
    "quiesce_instance": {},
    "check_can_live_migrate_destination": {
        "block_migration": None,
        "disk_over_commit": None,
        "migration": None,
        "limits": {},
    },
    "check_can_live_migrate_source": {"dest_check_data": None},
    "prep_snapshot_based_resize_at_dest": {"flavor": None, "nodename": None, "migration": None, "limits": {}},
}
"""Calls of the compute API that the agent refuses, with their arguments."""


@pytest.mark.agent
def test_a_refused_call_raises_what_the_api_knows(amqp: Amqp, side: Side, server_id: str, lab: Lab) -> None:
    """An exception of another module would become an internal server error."""
    for method, arguments in REFUSED_CALLS.items():
        failure = refusal(amqp, side, method, {"instance": instance(server_id), **arguments})
        assert failure.module in ("nova.exception", "builtins"), (method, failure)
    assert "a secret that must not be logged" not in logs.whole(lab.log(side.program))


@pytest.mark.agent
def test_a_refused_call_for_the_host_raises_what_the_api_knows(amqp: Amqp, side: Side) -> None:
    for method in ("host_power_action", "host_maintenance_mode"):
        failure = refusal(amqp, side, method, {"action": "reboot", "host": side.host, "mode": True})
        assert failure.module in ("nova.exception", "builtins"), (method, failure)


@pytest.mark.agent
def test_a_message_that_comes_twice_is_done_once(amqp: Amqp, side: Side) -> None:
    """RabbitMQ redelivers what was not acknowledged before a connection broke."""
    message_id = uuid.uuid4().hex
    message = {
        "method": "ping",
        "namespace": "baseapi",
        "version": "1.0",
        "args": {"arg": "once"},
        "_unique_id": uuid.uuid4().hex,
        "_msg_id": message_id,
        "_reply_q": amqp.reply_queue,
        "_timeout": None,
        "_context_request_id": f"req-{uuid.uuid4()}",
    }
    amqp.send(f"compute.{side.host}", message)
    amqp.send(f"compute.{side.host}", message)
    amqp.answer(message_id)
    ping(amqp, side)
    assert [answer["_msg_id"] for answer in amqp.collected if answer["_msg_id"] == message_id] == [message_id]


@pytest.mark.agent
def test_a_token_never_reaches_the_log(amqp: Amqp, side: Side, lab: Lab) -> None:
    token = f"gAAAA-{uuid.uuid4().hex}"
    with pytest.raises(RpcFailure):
        amqp.call("compute", side.host, "get_console_output", {"instance": {}}, _context_auth_token=token)
    amqp.publish(f"compute.{side.host}", json.dumps({"oslo.version": "2.0", "oslo.message": token}).encode())
    ping(amqp, side)
    assert token not in logs.whole(lab.log(side.program))
