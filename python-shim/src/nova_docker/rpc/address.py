"""Where the server is, and the connection to it."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

LOG = logging.getLogger(__name__)

# A connection attempt is given up after so many seconds, unless the caller wants something else.
CONNECT_TIMEOUT = 5.0


class AddressRefused(Exception):
    """The address cannot be used as it is; trying again will not help. The text says why and what to do."""


class Tls:
    """Files (PEM) for an https address, and what ssl makes of them."""

    def __init__(self, ca: str, certificate: str, key: str) -> None:
        #: Certificates that the server's certificate is checked against.
        self.ca = ca
        #: The client's own certificate and key.
        self.certificate = certificate
        self.key = key
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._files: tuple[object, ...] = ()

    def context(self) -> ssl.SSLContext:
        """Made at the first call, and anew when the files are others: certificates are renewed.

        Raises AddressRefused when the files cannot be used. Files that became unusable, as when the key is not there
        yet, leave what was made before.
        """
        with self._lock:
            try:
                files = tuple(_identity(path) for path in (self.ca, self.certificate, self.key))
                if self._context is None or files != self._files:
                    self._context, self._files = self._make(), files
            except OSError as error:
                text = f"the TLS files {self.ca}, {self.certificate} and {self.key} cannot be used: {error}"
                if self._context is None:
                    raise AddressRefused(text) from error
                LOG.warning("%s; going on with those that were read before", text)
            return self._context

    def _make(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        return context


def _identity(path: str) -> tuple[int, int, int]:
    """Another one when the file was replaced or written."""
    info = os.stat(path)
    return info.st_ino, info.st_mtime_ns, info.st_size


@dataclass(frozen=True)
class Address:
    """A Unix socket (unix:///path) or a server with TLS (https://host:port)."""

    text: str
    connect_timeout: float = CONNECT_TIMEOUT
    tls: Tls | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.text)
        if parts.scheme == "unix":
            if parts.netloc or not parts.path.startswith("/"):
                raise AddressRefused(f"{self.text!r}: the path of a Unix socket is absolute: unix:///run/...")
        elif parts.scheme == "https":
            if not parts.hostname or not _has_port(self.text):
                raise AddressRefused(f"{self.text!r} must have the form https://host:port")
            if self.tls is None:
                raise AddressRefused(
                    f"{self.text!r} needs the certificate of the server's authority, and a certificate and a key of "
                    "this client"
                )
        else:
            raise AddressRefused(f"{self.text!r} begins neither with unix:// nor with https://")

    @property
    def scheme(self) -> str:
        """What HTTP/2's :scheme says."""
        return "https" if self.tls_host else "http"

    @property
    def authority(self) -> str:
        """What HTTP/2's :authority says."""
        return urlsplit(self.text).netloc or "localhost"

    @property
    def tls_host(self) -> str | None:
        """The name in the server's certificate; None for a Unix socket."""
        return urlsplit(self.text).hostname

    def connect(self, timeout: float) -> socket.socket:
        """A new connection.

        Raises AddressRefused when it must not be used, and OSError when there is none.
        """
        timeout = min(timeout, self.connect_timeout)
        if self.tls_host is None:
            return _connect_unix(urlsplit(self.text).path, timeout)
        return self._connect_tls(self.tls_host, timeout)

    def _connect_tls(self, host: str, timeout: float) -> socket.socket:
        if self.tls is None:
            raise AddressRefused(f"{self.text!r} has no TLS files")
        context = self.tls.context()
        plain = socket.create_connection((host, urlsplit(self.text).port or 0), timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise


def _has_port(text: str) -> bool:
    try:
        return urlsplit(text).port is not None
    except ValueError:
        return False


def _connect_unix(path: str, timeout: float) -> socket.socket:
    _check_socket(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_socket(path: str) -> None:
    """Users' tokens are sent through the socket, so nobody else may have put it there, or be able to replace it."""
    info = os.stat(path)
    if not stat.S_ISSOCK(info.st_mode):
        raise AddressRefused(f"{path} is not a socket")
    mode = stat.S_IMODE(info.st_mode)
    if mode & 0o002:
        raise AddressRefused(
            f"the socket {path} has mode {mode:04o}, which lets every user of this host write to it; the agent makes "
            "it 0660 or less, so look who changed it"
        )
    if info.st_uid not in (0, os.geteuid()):
        raise AddressRefused(
            f"the socket {path} (mode {mode:04o}) belongs to user {info.st_uid}, neither to root nor to the user of "
            f"this process ({os.geteuid()}), so it may not be the agent's"
        )
