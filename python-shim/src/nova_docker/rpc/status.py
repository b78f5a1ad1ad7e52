"""How a call ended: the status that gRPC carries in trailers."""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from google.protobuf.message import DecodeError

from nova_docker.shim.status_pb2 import ErrorInfo, Status

_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


class Code(enum.IntEnum):
    """The canonical codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# What a status of HTTP means when a server, or a proxy before it, did not get as far as gRPC's own.
_HTTP = {
    "400": Code.INTERNAL,
    "401": Code.UNAUTHENTICATED,
    "403": Code.PERMISSION_DENIED,
    "404": Code.UNIMPLEMENTED,
    "429": Code.UNAVAILABLE,
    "502": Code.UNAVAILABLE,
    "503": Code.UNAVAILABLE,
    "504": Code.UNAVAILABLE,
}


class CallError(Exception):
    """A call failed. The text is the server's sentence, or says what happened to the connection.

    reason is that of the server's google.rpc.ErrorInfo ("GUEST_NOT_FOUND"), or empty; metadata is that of the same.
    begun tells whether the server may have begun the call, from_server whether it answered, and lost_before whether an
    earlier attempt at the same call has ended without an answer.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        begun: bool = True,
        from_server: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.begun = begun
        self.from_server = from_server
        self.lost_before = False

    @property
    def settled(self) -> bool:
        """Whether it is known what the server has done: it answered, or never began, whichever attempt it was."""
        return (self.from_server or not self.begun) and not self.lost_before


def from_http(status: str) -> CallError:
    """The error of an answer that is not gRPC's."""
    return CallError(_HTTP.get(status, Code.UNKNOWN), f"the server answered with HTTP status {status}")


def from_trailers(trailers: Mapping[str, str]) -> CallError | None:
    """The error that trailers tell; None when the call went well."""
    text = trailers.get("grpc-status")
    if text is None:
        return CallError(Code.INTERNAL, "the server ended the call without telling how it went", from_server=True)
    if text == "0":
        return None
    try:
        code = Code(int(text))
    except ValueError:
        code = Code.UNKNOWN
    message = unquote_to_bytes(trailers.get("grpc-message", "")).decode("utf-8", "replace")
    info = _error_info(trailers.get("grpc-status-details-bin", ""))
    return CallError(code, message or code.name, reason=info.reason, metadata=info.metadata, from_server=True)


def _error_info(encoded: str) -> ErrorInfo:
    # Details only add to the status: what cannot be read must not hide that.
    try:
        # gRPC's binary metadata comes without padding, and b64decode takes too much of it without complaint.
        status = Status.FromString(base64.b64decode(encoded + "=="))
        for detail in status.details:
            if detail.type_url == _ERROR_INFO:
                return ErrorInfo.FromString(detail.value)
    except (DecodeError, binascii.Error):
        pass
    return ErrorInfo()
