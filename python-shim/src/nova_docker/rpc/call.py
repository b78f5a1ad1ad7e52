"""One call on one HTTP/2 connection.

h2 keeps the protocol's state and knows no sockets; this module moves the bytes, and the wait for them is the only place
where a call blocks.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import cast

import h2.config
import h2.errors
import h2.events
import h2.exceptions
from hpack import NeverIndexedHeaderTuple

from nova_docker.rpc import status
from nova_docker.rpc.address import Address
from nova_docker.rpc.http2 import Http2
from nova_docker.rpc.status import CallError, Code
from nova_docker.version import VERSION

# Seconds of silence after which the server is asked whether it is still there, and after which it is given up then.
SILENCE = 60.0
# A message that is longer is an error of the server, not something to keep in memory.
MESSAGE_LIMIT = 64 * 1024 * 1024
_PREFIX = struct.Struct(">BI")
_READ = 65536

# hpack tells every header in its debugging messages, tokens too, and nova-compute is often run with debug = true.
logging.getLogger("hpack").setLevel(logging.WARNING)


class Call:
    """A call under way: iterate over it to get the messages of the answer.

    timeout is in seconds, for the call as a whole; None means that it may take for ever. Leaving the call as a context
    manager ends it, wherever it is; the server sees that as a cancellation.
    """

    def __init__(
        self,
        address: Address,
        method: str,
        request: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self._address = address
        self._method = method
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._cancelled = False
        self._ended = False
        self._pinged = False
        # Why the server does not get what is sent any more.
        self._unheard = ""
        self._status = ""
        self._trailers: dict[str, str] = {}
        self._received = bytearray()
        self._unacknowledged = 0
        self._stream = 1
        self._http2 = Http2(h2.config.H2Configuration(header_encoding="utf-8"))
        self._socket = self._connect()
        try:
            self._send_request(request, metadata or {}, timeout)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """The messages; raises CallError unless the call went well."""
        while True:
            message = self._next_message()
            if message is not None:
                yield message
            elif self._ended:
                break
            else:
                self._receive()
        error = status.from_trailers(self._trailers) if self._status == "200" else status.from_http(self._status)
        if error is not None:
            raise error
        if self._received:
            raise CallError(Code.INTERNAL, f"{self._method}: the answer ends in the middle of a message")

    def cancel(self) -> None:
        """Ends the call from another thread: who waits for it gets a CallError."""
        self._cancelled = True
        with contextlib.suppress(OSError):  # It may be closed already.
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends the call. A server that is not ready yet sees its connection end, and does not go on."""
        self._socket.close()

    def _connect(self) -> socket.socket:
        try:
            return self._address.connect(self._remaining())
        except OSError as error:
            text = f"cannot connect to {self._address.text}: {error}"
            raise CallError(Code.UNAVAILABLE, text, begun=False) from error

    def _send_request(self, request: bytes, metadata: Mapping[str, str], timeout: float | None) -> None:
        headers = [
            (":method", "POST"),
            (":scheme", self._address.scheme),
            (":path", self._method),
            (":authority", self._address.authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", f"nova-docker-shim/{VERSION}"),
        ]
        if timeout is not None:
            headers.append(("grpc-timeout", f"{min(max(int(timeout * 1000), 1), 99_999_999)}m"))
        # What tells proxies to keep a header out of their compression tables, because it may be a secret.
        hidden = [NeverIndexedHeaderTuple(name, value) for name, value in metadata.items()]
        self._http2.initiate_connection()
        self._http2.send_headers(self._stream, [*headers, *hidden])
        self._flush()
        body = _PREFIX.pack(0, len(request)) + request
        while body and not self._unheard:
            size = min(
                len(body),
                self._http2.local_flow_control_window(self._stream),
                self._http2.max_outbound_frame_size,
            )
            if size <= 0:
                self._receive()
                if self._ended:
                    return  # The server has answered without wanting to see it all.
                continue
            self._http2.send_data(self._stream, body[:size], end_stream=size == len(body))
            body = body[size:]
            self._flush()

    def _next_message(self) -> bytes | None:
        if len(self._received) < _PREFIX.size:
            return None
        compressed, length = _PREFIX.unpack_from(self._received)
        if compressed or length > MESSAGE_LIMIT:
            raise CallError(Code.INTERNAL, f"{self._method}: the answer is compressed or too long ({length} bytes)")
        end = _PREFIX.size + length
        if len(self._received) < end:
            return None
        message = bytes(self._received[_PREFIX.size : end])
        del self._received[:end]
        return message

    def _receive(self) -> None:
        """Waits for bytes of the server and takes in what they mean."""
        try:
            events = self._http2.receive_data(self._read())
        except (h2.exceptions.ProtocolError, UnicodeDecodeError) as error:
            raise CallError(Code.INTERNAL, f"{self._address.text} does not speak HTTP/2: {error}") from error
        for event in events:
            self._handle(event)
        self._flush()

    def _read(self) -> bytes:
        while True:
            wait = self._remaining()
            try:
                self._socket.settimeout(min(wait, SILENCE))
                data = self._socket.recv(_READ)
            except (OSError, ValueError) as error:
                # ValueError is what a TLS socket says that another thread has shut down under eventlet.
                if not _is_timeout(error):
                    raise self._lost(str(error)) from error
                if wait <= SILENCE:
                    raise self._late() from error
                self._after_silence()
                continue
            self._pinged = False
            if not data:
                raise self._lost(self._unheard or "the connection was closed")
            return data

    def _after_silence(self) -> None:
        if self._pinged:
            raise self._lost(f"no sign of life for {2 * SILENCE:.0f} seconds")
        self._pinged = True
        self._http2.ping(b"nvdocker")
        self._flush()

    def _flush(self) -> None:
        data = self._http2.data_to_send()
        if not data or self._unheard:
            return
        wait = self._remaining()
        try:
            self._socket.settimeout(min(wait, SILENCE))
            self._socket.sendall(data)
        except (OSError, ValueError) as error:
            if _is_timeout(error):
                raise (self._late() if wait <= SILENCE else self._lost("it does not read what is sent")) from error
            # It may have answered before it went, and that is still to be read. If not, the end is what is read.
            self._unheard = str(error)

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            headers = _headers(event.headers)
            self._status = headers.get(":status", "")
            # An answer that is nothing but an error has its status here.
            self._trailers = headers
        elif isinstance(event, h2.events.TrailersReceived):
            self._trailers = _headers(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self._received += event.data
            self._http2.acknowledge_received_data(event.flow_controlled_length, self._stream)
        elif isinstance(event, h2.events.StreamEnded):
            self._ended = True
        elif isinstance(event, h2.events.StreamReset):
            self._handle_reset(event)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._handle_goaway(event)

    def _handle_goaway(self, event: h2.events.ConnectionTerminated) -> None:
        if event.error_code != h2.errors.ErrorCodes.NO_ERROR:
            raise self._lost(f"the server ended the connection (HTTP/2 error {event.error_code})")
        if (event.last_stream_id or 0) < self._stream:
            # A server that is stopping finishes the calls it has taken; this one came too late.
            raise self._refused("the server is stopping and did not take the call")

    def _handle_reset(self, event: h2.events.StreamReset) -> None:
        # After its answer a server says NO_ERROR when it does not want to read the rest of the request.
        if "grpc-status" in self._trailers:
            self._ended = True
        elif event.error_code == h2.errors.ErrorCodes.CANCEL:
            raise CallError(Code.CANCELLED, f"{self._method}: the server cancelled the call", from_server=True)
        elif event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM:
            raise self._refused("the server refused the call")
        else:
            text = f"{self._method}: the server broke off (HTTP/2 error {event.error_code})"
            raise CallError(Code.INTERNAL, text, from_server=True)

    def _remaining(self) -> float:
        """Seconds until the deadline, never 0 (which would mean not to wait)."""
        if self._deadline is None:
            return math.inf
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise self._late()
        return remaining

    def _late(self) -> CallError:
        return CallError(Code.DEADLINE_EXCEEDED, f"{self._method}: no answer in time from {self._address.text}")

    def _refused(self, why: str) -> CallError:
        """HTTP/2 promises that the server has done nothing for this call."""
        return CallError(Code.UNAVAILABLE, f"{self._method}: {why}", begun=False)

    def _lost(self, why: str) -> CallError:
        if self._cancelled:
            return CallError(Code.CANCELLED, f"{self._method}: cancelled")
        return CallError(Code.UNAVAILABLE, f"{self._method}: lost the connection to {self._address.text}: {why}")


def _is_timeout(error: Exception) -> bool:
    # TLS sockets of eventlet up to 0.33 raise an SSLError that is known by its text only.
    return isinstance(error, TimeoutError) or error.args == ("timed out",)


def _headers(headers: Sequence[tuple[str | bytes, str | bytes]] | None) -> dict[str, str]:
    return {cast(str, name): cast(str, value) for name, value in headers or ()}
