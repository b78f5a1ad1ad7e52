"""A websocket in memory, with the agent's end of a channel behind it."""

from __future__ import annotations

import json
import queue
import re
from collections.abc import Callable
from typing import Any

import websocket

Connect = Callable[..., None]
"""Says to which socket the next connection is."""
NONCE = re.compile(rb"\x9fnova-docker-channel open 1 ([0-9a-f]{32})\x9c")


def frame(kind: int, payload: bytes) -> bytes:
    return bytes((kind, 0, 0, 0)) + len(payload).to_bytes(4) + payload


class FakeSocket:
    """`script` is called with the request and sends what the agent would; `shown` is what a terminal shows before."""

    def __init__(
        self, script: Callable[[FakeSocket, dict[str, Any]], None], shown: bytes = b"", answers: bytes | None = None
    ) -> None:
        self._script = script
        self._shown = shown
        self._answers = answers
        self._incoming: queue.Queue[bytes | None] = queue.Queue()
        self._timeout: float | None = None
        self._state = "new"
        self.address = ""
        self.options: dict[str, Any] = {}
        self.request: dict[str, Any] = {}
        self.frames: list[tuple[int, bytes]] = []
        self.closed = False
        self.on_frame: Callable[[int, bytes], None] = lambda kind, payload: None

    def send(self, data: bytes) -> None:
        """From the agent."""
        self._incoming.put(data)

    def end(self) -> None:
        """The agent, or the proxy, hangs up."""
        self._incoming.put(None)

    def finish(self, code: int) -> None:
        self.send(frame(5, json.dumps({"exit_code": code}).encode()))

    # What websocket.WebSocket has.

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def send_binary(self, data: bytes) -> None:
        if self.closed:
            raise websocket.WebSocketConnectionClosedException("socket is already closed.")
        if self._state == "new":
            match = NONCE.fullmatch(data)
            assert match, data
            self._state = "asked"
            self.send(self._shown)
            if self._answers is None:
                self.send(b"\x9fnova-docker-channel ready 1 " + match[1] + b"\x9c")
            else:
                self.send(self._answers.replace(b"NONCE", match[1]))
                self.end()
        elif self._state == "asked":
            assert data.endswith(b"\n")
            self.request = json.loads(data)
            self._state = "open"
            self._script(self, self.request)
        else:
            assert int.from_bytes(data[4:8]) == len(data) - 8
            self.frames.append((data[0], data[8:]))
            self.on_frame(data[0], data[8:])

    def recv_data(self) -> tuple[int, bytes]:
        try:
            data = self._incoming.get(timeout=self._timeout)
        except queue.Empty:
            raise websocket.WebSocketTimeoutException("timed out") from None
        if data is None:
            return websocket.ABNF.OPCODE_CLOSE, b""
        return websocket.ABNF.OPCODE_BINARY, data

    def close(self, timeout: float = 0) -> None:
        self.closed = True
        self.end()
