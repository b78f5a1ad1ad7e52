"""Serial consoles, as a browser reaches them: through nova-serialproxy."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Self

import websocket

from harness.servers import Servers


def url(servers: Servers, server_id: str) -> str:
    """Ask Nova for a console; the address holds the token."""
    wanted = {"remote_console": {"protocol": "serial", "type": "serial"}}
    return str(servers.request("POST", f"/servers/{server_id}/remote-consoles", wanted)["remote_console"]["url"])


class Console:
    """A connection to a console."""

    def __init__(self, address: str, seconds: float = 120) -> None:
        self._seconds = seconds
        self._socket = websocket.create_connection(address, subprotocols=["binary"], timeout=seconds)
        self.seen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with contextlib.suppress(websocket.WebSocketException, OSError):
            self._socket.close()

    def type(self, text: str) -> None:
        self._socket.send_binary(text.encode())

    def wait(self, text: str) -> str:
        """Read until `text` was written; everything that was."""
        end = time.monotonic() + self._seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < end, f"{text!r} is not in {self.seen!r}"
            assert self._read(), f"the console ended before {text!r}: {self.seen!r}"
        return self.seen.decode(errors="replace")

    def wait_end(self) -> str:
        """Read until the proxy closes; everything that was written."""
        while self._read():
            pass
        return self.seen.decode(errors="replace")

    def _read(self) -> bool:
        try:
            kind, data = self._socket.recv_data()
        except websocket.WebSocketConnectionClosedException:
            return False
        except ConnectionError:
            return False
        if kind == websocket.ABNF.OPCODE_CLOSE:
            return False
        self.seen += data
        return True
