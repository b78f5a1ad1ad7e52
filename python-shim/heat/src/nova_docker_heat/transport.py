"""HTTP to a Docker of somebody else's. Who wrote the template may have written the answer too, so all is bounded."""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter

SILENCE_SECONDS = 120
"""How long Docker may say nothing: a request's answer begins, and goes on, in that time."""

CONNECT_SECONDS = 10
"""For a connection; who waits for Docker tries again."""

ANSWER_SECONDS = 300
ANSWER_BYTES = 4 << 20
"""Of one whole answer."""

CA, CERTIFICATE, KEY = TLS_KEYS = ("ca_cert", "client_cert", "client_key")
"""Of the property docker_tls; each is PEM."""


class TooMuch(requests.exceptions.RequestException):
    """An answer that is longer, or takes longer, than any that Docker gives."""


class _Limited:
    """The body of an answer, as urllib3 has it, up to the bounds."""

    def __init__(self, raw: Any, size: int, seconds: float) -> None:
        self._raw = raw
        self._size = size
        self._end = time.monotonic() + seconds

    def stream(self, amount: int, decode_content: bool | None = None) -> Iterator[bytes]:
        left = self._size
        # What is there at once: a whole piece could take for ever.
        while chunk := self._raw.read1(amount, decode_content=decode_content):
            left -= len(chunk)
            if left < 0:
                raise TooMuch(f"the answer has more than {self._size} bytes")
            if time.monotonic() > self._end:
                raise TooMuch("the answer comes too slowly")
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


class Bounded(HTTPAdapter):
    """Sends requests to one endpoint, each answer within bounds."""

    def __init__(self, context: ssl.SSLContext | None, name: str) -> None:
        """`name` is what the certificate must be for; the URL has the address that was looked up."""
        self._tls = {"ssl_context": context, "server_hostname": name} if context else {}
        self.size: int = ANSWER_BYTES
        self.seconds: float = ANSWER_SECONDS
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more, **self._tls)

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
        response = super().send(request, stream=stream, timeout=both, **more)
        response.raw = _Limited(response.raw, self.size, self.seconds)
        return response

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
