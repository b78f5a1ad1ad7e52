"""The agent's service: its methods, and the calls of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from oslo_context import context as oslo_context

from nova_docker.rpc import Address, Call, CallError, Code
from nova_docker.v1 import console_pb2, inside_pb2, links_pb2
from nova_docker.v1 import driver_pb2 as api

#: The revision of the contract that this client was written for, and the least that it can work with.
REVISION = 6
OLDEST_REVISION = 1

_SERVICE = "/nova_docker.v1.DriverService/"
_REQUEST_ID = re.compile(r"req-[0-9a-f-]{36}")
# Seconds between two looks whether the agent listens.
_PAUSE = 0.25
# Seconds that the last attempt has at least: none at all would be an error of its own.
_LEAST = 0.001
_TOKEN = re.compile(r"[!-~]{1,16384}")


class Message(Protocol):
    """What protobuf's messages have in common, as far as it is used here."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802


Request = TypeVar("Request", bound=Message, contravariant=True)
Response = TypeVar("Response")


@dataclass(frozen=True)
class Method(Generic[Request, Response]):
    """A method of the service."""

    name: str
    parse: Callable[[bytes], Response]
    #: Whether it is an operation, which may take as long as [docker_grpc] operation_timeout.
    operation: bool = True


GET_SERVER_INFO: Method[api.GetServerInfoRequest, api.GetServerInfoResponse] = Method(
    "GetServerInfo", api.GetServerInfoResponse.FromString, operation=False
)
GET_HOST_RESOURCES: Method[api.GetHostResourcesRequest, api.GetHostResourcesResponse] = Method(
    "GetHostResources", api.GetHostResourcesResponse.FromString, operation=False
)
LIST_GUESTS: Method[api.ListGuestsRequest, api.ListGuestsResponse] = Method(
    "ListGuests", api.ListGuestsResponse.FromString, operation=False
)
GET_GUEST: Method[api.GetGuestRequest, api.GetGuestResponse] = Method(
    "GetGuest", api.GetGuestResponse.FromString, operation=False
)
CREATE_GUEST: Method[api.CreateGuestRequest, api.CreateGuestResponse] = Method(
    "CreateGuest", api.CreateGuestResponse.FromString
)
START_GUEST: Method[api.StartGuestRequest, api.StartGuestResponse] = Method(
    "StartGuest", api.StartGuestResponse.FromString
)
STOP_GUEST: Method[api.StopGuestRequest, api.StopGuestResponse] = Method("StopGuest", api.StopGuestResponse.FromString)
REBOOT_GUEST: Method[api.RebootGuestRequest, api.RebootGuestResponse] = Method(
    "RebootGuest", api.RebootGuestResponse.FromString
)
PAUSE_GUEST: Method[api.PauseGuestRequest, api.PauseGuestResponse] = Method(
    "PauseGuest", api.PauseGuestResponse.FromString
)
UNPAUSE_GUEST: Method[api.UnpauseGuestRequest, api.UnpauseGuestResponse] = Method(
    "UnpauseGuest", api.UnpauseGuestResponse.FromString
)
SUSPEND_GUEST: Method[api.SuspendGuestRequest, api.SuspendGuestResponse] = Method(
    "SuspendGuest", api.SuspendGuestResponse.FromString
)
RESUME_GUEST: Method[api.ResumeGuestRequest, api.ResumeGuestResponse] = Method(
    "ResumeGuest", api.ResumeGuestResponse.FromString
)
DELETE_GUEST: Method[api.DeleteGuestRequest, api.DeleteGuestResponse] = Method(
    "DeleteGuest", api.DeleteGuestResponse.FromString
)
SNAPSHOT_GUEST: Method[api.SnapshotGuestRequest, api.SnapshotGuestResponse] = Method(
    "SnapshotGuest", api.SnapshotGuestResponse.FromString
)
REPLACE_GUEST: Method[api.ReplaceGuestRequest, api.ReplaceGuestResponse] = Method(
    "ReplaceGuest", api.ReplaceGuestResponse.FromString
)
SETTLE_GUEST: Method[api.SettleGuestRequest, api.SettleGuestResponse] = Method(
    "SettleGuest", api.SettleGuestResponse.FromString
)
RESTORE_GUEST: Method[api.RestoreGuestRequest, api.RestoreGuestResponse] = Method(
    "RestoreGuest", api.RestoreGuestResponse.FromString
)
GET_CONSOLE_OUTPUT: Method[api.GetConsoleOutputRequest, api.GetConsoleOutputResponse] = Method(
    "GetConsoleOutput", api.GetConsoleOutputResponse.FromString, operation=False
)
GET_GUEST_DIAGNOSTICS: Method[inside_pb2.GetGuestDiagnosticsRequest, inside_pb2.GetGuestDiagnosticsResponse] = Method(
    "GetGuestDiagnostics", inside_pb2.GetGuestDiagnosticsResponse.FromString, operation=False
)
SET_GUEST_PASSWORD: Method[inside_pb2.SetGuestPasswordRequest, inside_pb2.SetGuestPasswordResponse] = Method(
    "SetGuestPassword", inside_pb2.SetGuestPasswordResponse.FromString, operation=False
)
GET_SERIAL_CONSOLE: Method[console_pb2.GetSerialConsoleRequest, console_pb2.GetSerialConsoleResponse] = Method(
    "GetSerialConsole", console_pb2.GetSerialConsoleResponse.FromString, operation=False
)
GET_LINKS: Method[links_pb2.GetLinksRequest, links_pb2.GetLinksResponse] = Method(
    "GetLinks", links_pb2.GetLinksResponse.FromString, operation=False
)
UPDATE_LINKS: Method[links_pb2.UpdateLinksRequest, links_pb2.UpdateLinksResponse] = Method(
    "UpdateLinks", links_pb2.UpdateLinksResponse.FromString
)
PLUG_GUEST: Method[api.PlugGuestRequest, api.PlugGuestResponse] = Method("PlugGuest", api.PlugGuestResponse.FromString)
UNPLUG_GUEST: Method[api.UnplugGuestRequest, api.UnplugGuestResponse] = Method(
    "UnplugGuest", api.UnplugGuestResponse.FromString
)
# Nova's API waits for these two, and gives up after rpc_response_timeout, which is a minute.
ATTACH_INTERFACE: Method[api.AttachInterfaceRequest, api.AttachInterfaceResponse] = Method(
    "AttachInterface", api.AttachInterfaceResponse.FromString, operation=False
)
DETACH_INTERFACE: Method[api.DetachInterfaceRequest, api.DetachInterfaceResponse] = Method(
    "DetachInterface", api.DetachInterfaceResponse.FromString, operation=False
)
WATCH_EVENTS: Method[api.WatchEventsRequest, api.WatchEventsResponse] = Method(
    "WatchEvents", api.WatchEventsResponse.FromString
)


class _Patience:
    """How long one call may take with all its repetitions, and whether an error is worth another."""

    def __init__(self, timeout: float, restart_timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._restart_timeout = restart_timeout
        self._end: float | None = None
        self._lost = False

    def remaining(self) -> float:
        """Seconds for the next attempt."""
        return max(self._deadline - time.monotonic(), _LEAST)

    def bear(self, error: CallError) -> None:
        """Returns after a moment when the agent may be restarting, and raises the error otherwise.

        The contract allows every call to be repeated: what is done already is no error.
        """
        now = time.monotonic()
        if self._end is None:
            self._end = min(now + self._restart_timeout, self._deadline)
        error.lost_before = self._lost
        if not _is_passing(error) or now + _PAUSE > self._end:
            raise error
        self._lost = self._lost or error.begun
        time.sleep(_PAUSE)


def _is_passing(error: CallError) -> bool:
    # An agent that stops says so, or ends its connections.
    return error.reason == "STOPPING" if error.from_server else error.code == Code.UNAVAILABLE


class Agent:
    """Calls the agent. Holds no connection, so that any number of threads may share it.

    A call whose agent does not listen, or goes away before its answer, is repeated until restart_timeout seconds have
    passed since that began. call_timeout and operation_timeout are for a call with all its repetitions.
    """

    def __init__(
        self, address: Address, call_timeout: float, operation_timeout: float, restart_timeout: float = 0
    ) -> None:
        self.address = address
        self.call_timeout = call_timeout
        self._operation_timeout = operation_timeout
        self._restart_timeout = restart_timeout

    def call(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        patient: bool = True,
        timeout: float | None = None,
        longer: float = 0,
    ) -> Response:
        """The answer to a call that has one message for an answer.

        Unless patient, an agent that is away is an error at once. timeout replaces that of the method; longer is added.
        """
        patience = self._patience(method, patient, timeout, longer)
        while True:
            try:
                with self._start(method, request, {}, patience.remaining()) as call:
                    answers = [method.parse(message) for message in call]
                break
            except CallError as error:
                patience.bear(error)
        if len(answers) != 1:
            raise CallError(Code.INTERNAL, f"{method.name}: {len(answers)} messages instead of one", from_server=True)
        return answers[0]

    @contextmanager
    def stream(
        self, method: Method[Request, Response], request: Request, context: Any = None
    ) -> Iterator[Iterator[Response]]:
        """The messages of a call that has many; leaving the context before their end cancels the call.

        When an operation is repeated, the messages of its new beginning follow those that have been read. A question
        is not repeated once it has begun. context is Nova's; the agent reads and writes images with the rights of its
        token.
        """
        token = getattr(context, "auth_token", None)
        metadata = {"x-auth-token": token} if token and _TOKEN.fullmatch(token) else {}
        with closing(self._messages(method, request, metadata)) as messages:
            yield messages

    def _messages(
        self, method: Method[Request, Response], request: Request, metadata: dict[str, str]
    ) -> Generator[Response, None, None]:
        patience = self._patience(method, True)
        while True:
            try:
                with self._start(method, request, metadata, patience.remaining()) as call:
                    yield from map(method.parse, call)
                return
            except CallError as error:
                if error.begun and not method.operation:
                    raise
                patience.bear(error)

    def watch(self) -> Call:
        """Starts WatchEvents, which has no end; its messages are to be parsed by WATCH_EVENTS."""
        return self._start(WATCH_EVENTS, api.WatchEventsRequest(), {}, None)

    def _patience(
        self, method: Method[Any, Any], patient: bool, timeout: float | None = None, longer: float = 0
    ) -> _Patience:
        usual = self._operation_timeout if method.operation else self.call_timeout
        return _Patience((usual if timeout is None else timeout) + longer, self._restart_timeout if patient else 0)

    def _start(
        self, method: Method[Request, Any], request: Request, metadata: dict[str, str], timeout: float | None
    ) -> Call:
        # Half of the driver's methods are not given a context, but the thread that calls them has one.
        request_id = getattr(oslo_context.get_current(), "request_id", None)
        if request_id and _REQUEST_ID.fullmatch(request_id):
            metadata["x-openstack-request-id"] = request_id
        return Call(
            self.address, _SERVICE + method.name, request.SerializeToString(), metadata=metadata, timeout=timeout
        )


def check_versions(info: api.GetServerInfoResponse) -> None:
    """Raises CallError (VERSION_UNSUPPORTED) when this client cannot work with the agent.

    An agent refuses clients itself; this is for one that is too old to know that it should.
    """
    if info.revision >= OLDEST_REVISION and info.oldest_revision <= REVISION:
        return
    older = f"nova-docker-agent {info.agent_version}" if info.revision < OLDEST_REVISION else "nova-docker-shim"
    raise CallError(
        Code.FAILED_PRECONDITION,
        f"nova-docker-agent {info.agent_version} speaks revisions {info.oldest_revision} to {info.revision} of its "
        f"interface, this driver {OLDEST_REVISION} to {REVISION}: upgrade {older}",
        reason="VERSION_UNSUPPORTED",
    )
