"""HTTP to a Docker of somebody else's. Who wrote the template may have written the answer too, so all is bounded."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import connection, connectionpool

SILENCE_SECONDS = 120
"""How long Docker may say nothing: a request's answer begins, and goes on, in that time."""

CONNECT_SECONDS = 10
"""For a connection; who waits for Docker tries again."""

ANSWER_SECONDS = 300
"""From a request's beginning to its answer's end, whatever comes between: interim answers, empty pieces, trailers."""

ANSWER_BYTES = 4 << 20
"""Of one whole answer."""

CA, CERTIFICATE, KEY = TLS_KEYS = ("ca_cert", "client_cert", "client_key")
"""Of the property docker_tls; each is PEM."""


class TooMuch(requests.exceptions.RequestException):
    """An answer that is longer, or takes longer, than any that Docker gives."""


class _Timely(io.RawIOBase):
    """What is read from a connection, until the time is up: below HTTP, which itself skips without end."""

    def __init__(self, raw: io.RawIOBase, channel: socket.socket, end: float) -> None:
        self._raw = raw
        self._channel = channel
        self._silence = channel.gettimeout() or SILENCE_SECONDS
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        self._channel.settimeout(min(self._silence, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


def _pools(end: Callable[[], float]) -> dict[str, type]:
    """urllib3's pools of connections, whose answers end at `end()`."""

    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
            super().__init__(sock, *arguments, **more)
            self.fp = io.BufferedReader(_Timely(self.fp.detach(), sock, end()))

    class Plain(connection.HTTPConnection):
        response_class = Answer

    class Secure(connection.HTTPSConnection):
        response_class = Answer

    class PlainPool(connectionpool.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(connectionpool.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class _Limited:
    """The body of an answer, as urllib3 has it, up to the bounds."""

    def __init__(self, raw: Any, size: int, late: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._raw = raw
        self._size = size
        self._late = late

    def stream(self, amount: int, decode_content: bool | None = None) -> Iterator[bytes]:
        left = self._size
        while chunk := self._piece(amount, decode_content):
            left -= len(chunk)
            if left < 0:
                raise TooMuch(f"the answer has more than {self._size} bytes")
            yield chunk

    def _piece(self, amount: int, decode_content: bool | None) -> bytes:
        with self._late():
            # What is there at once: a whole piece could take for ever.
            return bytes(self._raw.read1(amount, decode_content=decode_content))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


class Bounded(HTTPAdapter):
    """Sends requests to one endpoint, each answer within bounds."""

    def __init__(self, context: ssl.SSLContext | None, name: str) -> None:
        """`name` is what the certificate must be for; the URL has the address that was looked up."""
        self._tls = {"ssl_context": context, "server_hostname": name} if context else {}
        self.size: int = ANSWER_BYTES
        self.seconds: float = ANSWER_SECONDS
        self._end = 0.0
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more, **self._tls)
        self.poolmanager.pool_classes_by_scheme = _pools(lambda: self._end)

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        # The context alone says whom to trust: requests would add the public authorities.
        return super().build_connection_pool_key_attributes(request, verify, cert)[0], {}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """As above."""

    def send(self, request: Any, stream: bool = False, timeout: Any = None, **more: Any) -> Any:
        # The library gives some requests none.
        both = (CONNECT_SECONDS, timeout or SILENCE_SECONDS)
        self._end = time.monotonic() + self.seconds
        with self._late():
            response = super().send(request, stream=stream, timeout=both, **more)
        response.raw = _Limited(response.raw, self.size, self._late)
        return response

    @contextlib.contextmanager
    def _late(self) -> Iterator[None]:
        """What fails when the time is up has failed of that."""
        try:
            yield
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            if time.monotonic() < self._end:
                raise
            raise TooMuch(f"the answer comes too slowly: it took more than {self.seconds:g} seconds") from error

    @contextlib.contextmanager
    def bounds(self, size: int, seconds: float) -> Iterator[None]:
        """Other bounds for a while."""
        before = self.size, self.seconds
        self.size, self.seconds = size, seconds
        try:
            yield
        finally:
            self.size, self.seconds = before


def context_of(certificates: Mapping[str, str]) -> ssl.SSLContext:
    """TLS with the certificates of docker_tls. Raises ValueError, which names the one that is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=certificates[CA])
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"{CA} holds no certificate in PEM") from error
    if certificates.get(CERTIFICATE):
        pair = f"{certificates[CERTIFICATE]}\n{certificates[KEY]}\n"
        try:
            _load_pair(context, pair.encode())
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(f"{CERTIFICATE} and {KEY} are no certificate and its key in PEM") from error
    return context


def _load_pair(context: ssl.SSLContext, pair: bytes) -> None:
    """OpenSSL wants a file; this one is in memory, so that the key is on no disk."""
    number = os.memfd_create("docker_tls", os.MFD_CLOEXEC)
    try:
        os.write(number, pair)
        # A key with a passphrase would have it asked for at a terminal.
        context.load_cert_chain(f"/proc/self/fd/{number}", password=lambda: b"")
    finally:
        os.close(number)
