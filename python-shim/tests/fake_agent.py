"""An agent without Docker, on grpcio's server: another implementation of gRPC than the driver's client.

Runs as a process of its own (see conftest.py), since grpcio's threads do not go together with eventlet. Guests are kept
in memory. A test looks into it and tells it what to do wrong through a second service, test.Control.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import json_format
from nova_docker.shim import status_pb2
from nova_docker.v1 import console_pb2, driver_pb2, guest_pb2, inside_pb2, links_pb2

MESSAGE_LIMIT = 12_000_000
STREAMS = ("CreateGuest", "ReplaceGuest", "SnapshotGuest", "GetConsoleOutput", "WatchEvents")

DEFAULTS: dict[str, Any] = {
    "GetServerInfo": {
        "agentVersion": "0.1.0",
        "revision": 1,
        "oldestRevision": 1,
        "capabilities": {"supports_attach_interface": True, "supports_image_type_raw": True},
        "hypervisorType": "docker",
    },
    "GetHostResources": {
        "resources": {
            "vcpus": 8,
            "memoryMib": 16384,
            "memoryUsedMib": 2048,
            "diskGib": 100,
            "diskUsedGib": 30,
            "dockerVersion": "20.10.24+dfsg1",
            "architecture": "x86_64",
            "uptime": "183840s",
            "loadAverage": [0.5, 0.25, 0.125],
            "traits": ["CUSTOM_HV_DOCKER"],
        }
    },
    "GetConsoleOutput": [{"chunk": "aGVsbG8K"}],
    "CreateGuest": [{"stage": f"CREATE_STAGE_{stage}"} for stage in ("IMAGE_PULLED", "NETWORK_PLUGGED", "READY")],
    "ReplaceGuest": [{"stage": f"CREATE_STAGE_{stage}"} for stage in ("IMAGE_PULLED", "READY")],
    "SnapshotGuest": [{"stage": f"SNAPSHOT_STAGE_{stage}"} for stage in ("CAPTURED", "UPLOADING", "UPLOADED")],
    "AttachInterface": {"device": "eth1"},
    "GetSerialConsole": {"host": "192.0.2.1", "port": 10000, "internalAccessPath": "/ticket"},
}


# What a guest does after a call.
STATES = {
    "CreateGuest": guest_pb2.POWER_STATE_CREATED,
    "ReplaceGuest": guest_pb2.POWER_STATE_CREATED,
    "RestoreGuest": guest_pb2.POWER_STATE_STOPPED,
    "StartGuest": guest_pb2.POWER_STATE_RUNNING,
    "RebootGuest": guest_pb2.POWER_STATE_RUNNING,
    "UnpauseGuest": guest_pb2.POWER_STATE_RUNNING,
    "StopGuest": guest_pb2.POWER_STATE_STOPPED,
    "PauseGuest": guest_pb2.POWER_STATE_PAUSED,
    "SuspendGuest": guest_pb2.POWER_STATE_PAUSED,
    "ResumeGuest": guest_pb2.POWER_STATE_RUNNING,
}
NEEDS_NO_GUEST = ("CreateGuest", "DeleteGuest", "GetLinks", "UnplugGuest")


def message_class(name: str) -> Any:
    """The class of a message of the service; None: there is none."""
    return next(
        (getattr(file, name) for file in (driver_pb2, console_pb2, inside_pb2, links_pb2) if hasattr(file, name)), None
    )


class FakeAgent(grpc.GenericRpcHandler):
    """Answers every method of the service out of one table."""

    def __init__(self, server: grpc.Server) -> None:
        self.server = server
        self.changed = threading.Condition()
        self.reset()

    def reset(self) -> None:
        """As at the start; calls that are still under way are forgotten."""
        self.guests: dict[str, guest_pb2.GuestState] = {}
        self.calls: list[dict[str, Any]] = []
        self.plans: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        # Methods whose calls do not go on.
        self.held: set[str] = set()
        # Calls that neither side has ended, and the methods of those that the client has.
        self.running: set[Any] = set()
        self.cancelled: list[str] = []

    def service(self, details: Any) -> Any:
        """Finds the handler of a method, as grpcio asks for it."""
        name = details.method.rpartition("/")[2]
        if details.method.startswith("/test.Control/"):
            return grpc.unary_unary_rpc_method_handler(self.control)
        if message_class(f"{name}Request") is None:
            return None
        if name in STREAMS:
            return grpc.unary_stream_rpc_method_handler(lambda request, context: self.stream(name, request, context))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.unary(name, request, context))

    def control(self, request: bytes, context: Any) -> bytes:
        """Takes {"plan": ..., "held": ..., "events": ..., "guests": ..., "findings": ..., "reset": true, "stop": true}.

        Answers with what was seen.
        """
        order = json.loads(request)
        with self.changed:
            if order.get("reset"):
                self.reset()
            if order.get("stop"):
                # Takes no more calls, and lets those that run come to their end.
                self.server.stop(grace=60)
            self.plans.update(order.get("plan", {}))
            self.held = set(order.get("held", self.held))
            self.events += order.get("events", [])
            for guest_id, state in order.get("guests", {}).items():
                self.set_state(guest_id, guest_pb2.PowerState.Value(f"POWER_STATE_{state}"))
            for guest_id, findings in order.get("findings", {}).items():
                self.tell(guest_id, **findings)
            self.changed.notify_all()
            seen = {
                "calls": self.calls,
                "cancelled": self.cancelled,
                "guests": {
                    guest_id: guest_pb2.PowerState.Name(guest.power_state) for guest_id, guest in self.guests.items()
                },
            }
            return json.dumps(seen).encode()

    def set_state(self, guest_id: str, state: int) -> None:
        """Makes a guest, or changes it."""
        self.guests.setdefault(guest_id, guest_pb2.GuestState(guest_id=guest_id)).power_state = state

    def tell(self, guest_id: str, exit_code: int | None = None, health: str = "UNSPECIFIED") -> None:
        """How a guest has ended, and how healthy it is."""
        guest = self.guests[guest_id]
        guest.ClearField("exit_code")
        if exit_code is not None:
            guest.exit_code = exit_code
        guest.health = inside_pb2.GuestHealth.Value(f"GUEST_HEALTH_{health}")

    def unary(self, name: str, data: bytes, context: Any) -> bytes:
        """A call with one answer."""
        request, plan = self.begin(name, data, context)
        self.hold(name, context)
        answer = plan.get("answer", DEFAULTS.get(name, {}))
        message = json_format.ParseDict(answer, message_class(f"{name}Response")())
        with self.changed:
            if name == "GetGuest":
                message.guest.CopyFrom(self.guests[request.guest_id])
            elif name == "ListGuests":
                message.guests.extend(self.guests.values())
            elif name == "DeleteGuest":
                self.guests.pop(request.guest_id, None)
            self.change(name, request)
            self.running.discard(context)
        return message.SerializeToString()

    def stream(self, name: str, data: bytes, context: Any) -> Any:
        """A call with many answers."""
        request, plan = self.begin(name, data, context)
        if name == "WatchEvents":
            yield from self.watch(context)
            return
        for answer in plan.get("answer", DEFAULTS[name]):
            message = json_format.ParseDict(answer, message_class(f"{name}Response")())
            yield message.SerializeToString()
            self.hold(name, context)
        if "fail_late" in plan:
            self.fail(context, plan["fail_late"])
        with self.changed:
            self.change(name, request)
            self.running.discard(context)

    def watch(self, context: Any) -> Any:
        """Events that a test gives from now on; whoever has the first message misses none of them."""
        with self.changed:
            told = len(self.events)
        yield driver_pb2.WatchEventsResponse().SerializeToString()
        while context in self.running:
            with self.changed:
                if len(self.events) <= told and context in self.running:
                    self.changed.wait()
                new, told = self.events[told:], len(self.events)
            for event in new:
                yield json_format.ParseDict(event, driver_pb2.WatchEventsResponse()).SerializeToString()

    def hold(self, name: str, context: Any) -> None:
        """Waits while calls of the method are held. A call whose client has gone does not go on after that."""
        with self.changed:
            self.changed.wait_for(lambda: name not in self.held or context not in self.running)
            if context in self.running:
                return
        context.abort(grpc.StatusCode.CANCELLED, "the client has gone")

    def begin(self, name: str, data: bytes, context: Any) -> tuple[Any, dict[str, Any]]:
        """What every call begins with: it is written down, and fails if it was told to."""
        request = message_class(f"{name}Request").FromString(data)
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        with self.changed:
            self.running.add(context)
            # Before the call can be seen: a test may end it then.
            is_over = not context.add_callback(lambda: self.ended(name, context))
            plan = self.plans.get(name, {})
            if plan.get("times", 1) <= 0:
                plan = {}
            elif "times" in plan:
                plan["times"] -= 1
            self.calls.append(
                {
                    "method": name,
                    "request": json_format.MessageToDict(request, preserving_proto_field_name=True),
                    "metadata": metadata,
                    "time_remaining": context.time_remaining(),
                }
            )
        if is_over:
            self.ended(name, context)
        if plan.get("die"):
            os._exit(1)
        if "fail" in plan:
            self.fail(context, plan["fail"])
        self.require_guest(name, request, context)
        return request, plan

    def ended(self, name: str, context: Any) -> None:
        """Called when a call is over, on our side or on the client's."""
        with self.changed:
            if context in self.running:
                self.running.discard(context)
                self.cancelled.append(name)
                self.changed.notify_all()

    def require_guest(self, name: str, request: Any, context: Any) -> None:
        """Fails as the agent does when there is no such guest."""
        if name in NEEDS_NO_GUEST or not hasattr(request, "guest_id") or request.guest_id in self.guests:
            return
        self.fail(
            context,
            {
                "code": "NOT_FOUND",
                "reason": "GUEST_NOT_FOUND",
                "message": f"guest {request.guest_id} has no container on this host",
            },
        )

    def change(self, name: str, request: Any) -> None:
        """What a call changes."""
        if name in STATES:
            guest_id = request.guest.guest_id if name in ("CreateGuest", "ReplaceGuest") else request.guest_id
            self.set_state(guest_id, STATES[name])

    def fail(self, context: Any, failure: dict[str, Any]) -> None:
        """Ends a call with an error and its details."""
        code = grpc.StatusCode[failure["code"]]
        status = status_pb2.Status(code=code.value[0], message=failure["message"])
        info = status_pb2.ErrorInfo(
            reason=failure.get("reason", ""), domain="nova-docker-agent", metadata=failure.get("metadata", {})
        )
        detail = status.details.add()
        detail.type_url = "type.googleapis.com/google.rpc.ErrorInfo"
        detail.value = info.SerializeToString()
        with self.changed:
            self.running.discard(context)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, failure["message"])


def main(address: str, tls: list[str]) -> None:
    """Serves at the address until the process is ended; tls are files: the authority's, the certificate, the key."""
    options = [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        # The agent's server takes pings at any time, grpcio's every five minutes unless told otherwise.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(64), options=options)
    server.add_generic_rpc_handlers((FakeAgent(server),))
    if tls:
        authority, certificate, key = (open(path, "rb").read() for path in tls)  # noqa: SIM115
        credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
        os.chmod(address.removeprefix("unix:"), 0o660)
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
