"""A way to Glance on which a test can hold an upload: what is then done happens in the middle of it for certain."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

_HELD_AFTER = 1024 * 1024
"""Bytes of an upload that still go through."""

_SECONDS = 240
"""Longer than a test takes: nothing is held for ever."""


class Relay(socketserver.ThreadingTCPServer):
    """Passes on each connection; the first upload of an image is held once a part of it has gone through."""

    daemon_threads = True

    def __init__(self, glance: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.glance = glance
        self.holds = threading.Event()
        self._released = threading.Event()

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def wait_until_it_holds(self) -> None:
        """Wait until an upload is held. Raises AssertionError when none has come."""
        assert self.holds.wait(_SECONDS), "no upload to Glance has begun"

    def hold(self) -> None:
        """An upload has come as far as it may; returns when it may go on."""
        if not self.holds.is_set():
            self.holds.set()
            self._released.wait(_SECONDS)

    def release(self) -> None:
        """Let it go on, and all that come later."""
        self._released.set()


class _Connection(socketserver.BaseRequestHandler):
    server: Relay
    request: socket.socket

    def handle(self) -> None:
        # Either end may hang up at any moment; then the other one is hung up on.
        with contextlib.suppress(OSError), socket.create_connection(self.server.glance, timeout=_SECONDS) as glance:
            back = threading.Thread(target=_pass_back, args=(glance, self.request), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                self._pass_on(glance)
            _hang_up(glance)
            back.join()

    def _pass_on(self, glance: socket.socket) -> None:
        passed, is_upload = 0, False
        while data := self.request.recv(65_536):
            if passed == 0:
                line = data.partition(b"\r\n")[0]
                is_upload = line.startswith(b"PUT ") and line.endswith(b"/file HTTP/1.1")
            if is_upload and passed <= _HELD_AFTER < passed + len(data):
                self.server.hold()
            glance.sendall(data)
            passed += len(data)


def _pass_back(glance: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := glance.recv(65_536):
            client.sendall(data)
    _hang_up(client)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running(glance: tuple[str, int]) -> Iterator[Relay]:
    """A relay to the address of Glance, until the end of the context."""
    with Relay(glance) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        try:
            yield relay
        finally:
            relay.release()
            relay.shutdown()
