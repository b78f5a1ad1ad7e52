"""The channel to a server's host, through its serial console: docs/channel.md of nova-docker-agent is the protocol."""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import websocket

from nova_docker_compose.cloud import Api, CloudError
from nova_docker_compose.errors import ComposeError

VERSION = 1
WINDOW = 256 * 1024
"""Bytes that either side may send before the other has taken them."""
OUTPUT, ERRORS, _RESULT, _TAKEN = 1, 2, 5, 6
_INPUT, _RESIZE = 0, 4

_HEADER = 8
_LONGEST = 64 * 1024
_PATIENCE = 30.0
"""Seconds for the host to answer."""
_SHOWN = 64 * 1024
"""Bytes of what a terminal shows before the answer; its last line says why there is none."""


class NoChannel(ComposeError):
    """There is none to this server."""


def url(api: Api, server_id: str) -> str:
    """Asks Nova for a serial console; the address has the token. Raises NoChannel with what is missing."""
    body = {"remote_console": {"protocol": "serial", "type": "serial"}}
    try:
        answer = api.request("compute", "POST", f"/servers/{server_id}/remote-consoles", body)
    except CloudError as error:
        raise NoChannel(f"this needs the server's serial console, and Nova does not give it: {error}") from error
    return str(answer["remote_console"]["url"])


class Channel:
    """One request and its answer. Another thread may send input and sizes meanwhile."""

    def __init__(self, address: str, verify: bool | str, request: dict[str, Any]) -> None:
        """Opens it and asks. `verify` is what requests takes. Raises NoChannel."""
        self._received = bytearray()
        self._untaken = 0
        self._room = WINDOW
        self._changed = threading.Condition()
        self._is_over = False
        try:
            self._socket = websocket.create_connection(
                address,
                timeout=_PATIENCE,
                subprotocols=["binary"],
                # Nova takes an origin for a browser's.
                suppress_origin=True,
                sslopt=_ssl_options(verify),
            )
        except (OSError, websocket.WebSocketException) as error:
            proxy = address.partition("?")[0]
            raise NoChannel(f"the proxy of serial consoles, {proxy}, cannot be reached: {error}") from error
        try:
            self._open(json.dumps(request).encode() + b"\n")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it; a command that it runs is ended with it. Another thread that waits in it gets an end."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self._socket.close(timeout=1)

    def run(self, take: Callable[[int, bytes], None]) -> int:
        """Hands over what is written, with OUTPUT or ERRORS, until the end. Returns the exit code.

        Raises ComposeError with the host's words, or when the connection ends before.
        """
        while True:
            kind, payload = self._frame()
            if kind == _RESULT:
                return _exit_code(payload)
            if kind == _TAKEN and len(payload) == 4:
                with self._changed:
                    self._room += int.from_bytes(payload)
                    self._changed.notify_all()
            elif kind in (OUTPUT, ERRORS):
                take(kind, payload)
                self._untaken += len(payload)
                if self._untaken >= WINDOW // 4:
                    self._send(_TAKEN, self._untaken.to_bytes(4))
                    self._untaken = 0

    def send_input(self, data: bytes) -> None:
        """Sends standard input, as there is room for it. Raises ComposeError when the channel has ended."""
        while data:
            with self._changed:
                self._changed.wait_for(lambda: self._room > 0 or self._is_over)
                if self._is_over:
                    raise ComposeError("the connection has ended")
                piece = data[: min(self._room, _LONGEST)]
                self._room -= len(piece)
            self._send(_INPUT, piece)
            data = data[len(piece) :]

    def end_input(self) -> None:
        """Standard input has ended."""
        self._send(_INPUT, b"")

    def resize(self, rows: int, columns: int) -> None:
        """Tells the size of the window."""
        if rows > 0 and columns > 0:
            self._send(_RESIZE, rows.to_bytes(2) + columns.to_bytes(2))

    def _open(self, request: bytes) -> None:
        nonce = secrets.token_hex(16)
        self._write(f"nova-docker-channel open {VERSION} {nonce}".join(("\x9f", "\x9c")).encode("latin-1"))
        version = self._answer(nonce)
        if version != VERSION:
            raise NoChannel(f"the server's host speaks version {version} of the channel, not {VERSION}")
        self._socket.settimeout(None)
        self._write(request)

    def _answer(self, nonce: str) -> int:
        """Skips what a terminal shows; the host's version."""
        end = time.monotonic() + _PATIENCE
        ready = "\x9fnova-docker-channel ready ".encode("latin-1")
        last = f" {nonce}\x9c".encode("latin-1")
        while True:
            at = self._received.find(last)
            begin = self._received.rfind(ready, 0, at) if at >= 0 else -1
            version = bytes(self._received[begin + len(ready) : at]) if begin >= 0 else b""
            if version.isdigit():
                del self._received[: at + len(last)]
                return int(version)
            del self._received[:-_SHOWN]
            try:
                self._socket.settimeout(max(0.01, end - time.monotonic()))
                more = self._read()
            except websocket.WebSocketTimeoutException as error:
                raise NoChannel(
                    "the server's host does not answer: its nova-docker-agent is too old, or it is another hypervisor"
                ) from error
            if not more:
                raise NoChannel(_last_line(bytes(self._received)) or "the proxy of serial consoles has hung up")

    def _frame(self) -> tuple[int, bytes]:
        while True:
            length = int.from_bytes(self._received[4:_HEADER])
            if (len(self._received) >= _HEADER and self._received[1:4] != b"\0\0\0") or length > 16 * _LONGEST:
                raise ComposeError("the server's host sends what is not understood")
            if len(self._received) >= _HEADER + length:
                kind, payload = self._received[0], bytes(self._received[_HEADER : _HEADER + length])
                del self._received[: _HEADER + length]
                return kind, payload
            if not self._read():
                raise ComposeError("the connection to the server has ended")

    def _read(self) -> bool:
        """Reads more; False at the end."""
        try:
            kind, data = self._socket.recv_data()
        except websocket.WebSocketTimeoutException:
            raise
        except (websocket.WebSocketException, OSError):
            # Ended, by either side or by another thread.
            return False
        if kind == websocket.ABNF.OPCODE_CLOSE:
            return False
        self._received += data
        return True

    def _send(self, kind: int, payload: bytes) -> None:
        self._write(bytes((kind, 0, 0, 0)) + len(payload).to_bytes(4) + payload)

    def _write(self, data: bytes) -> None:
        try:
            self._socket.send_binary(data)
        except (OSError, websocket.WebSocketException) as error:
            raise ComposeError(f"the connection to the server has ended: {error}") from error


def _exit_code(result: bytes) -> int:
    said = json.loads(result)
    if "error" in said:
        raise ComposeError(str(said["error"]))
    return int(said["exit_code"])


def _ssl_options(verify: bool | str) -> dict[str, Any]:
    if verify is False:
        return {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    return {"ca_certs": verify} if isinstance(verify, str) else {}


def _last_line(shown: bytes) -> str:
    text = "".join(char for char in shown.decode(errors="replace") if char.isprintable() or char == "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
