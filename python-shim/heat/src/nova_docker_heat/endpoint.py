"""Where Docker listens, as a template says it, and whether anybody may make Heat connect to it.

Heat connects from the control plane to an address that a user has written. A socket of Heat's own host would make the
user its root, and what listens on its loopback trusts whoever is there.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import socket

from nova_docker_heat.options import Network

PLAIN_PORT, TLS_PORT = 2375, 2376
"""What Docker's client takes where no port is said."""

_LONGEST = 300
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class BadEndpoint(Exception):
    """An endpoint that is none, or that nobody may name; the message says why."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    host: str
    """An address or a name, without brackets."""
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'tcp'}://{host}:{self.port}"


def parse(text: str, tls: bool) -> Endpoint:
    """Read `ADDRESS`, `ADDRESS:PORT`, `tcp://...`, `http://...` or `https://...`. Raises BadEndpoint."""
    scheme, there, rest = text.strip().partition("://")
    if not there:
        scheme, rest = "tcp", scheme
    if len(text) > _LONGEST or scheme not in ("tcp", "http", "https"):
        raise BadEndpoint(
            f"{text[:_LONGEST]!r} is no address of a Docker that Heat can reach: say ADDRESS, ADDRESS:PORT or"
            " tcp://ADDRESS:PORT. A socket would be one of Heat's own host"
        )
    if (scheme == "http" and tls) or (scheme == "https" and not tls):
        raise BadEndpoint(f"{text!r}: {scheme} goes {'without' if tls else 'with'} docker_tls")
    host, port = _split(rest.removesuffix("/"))
    if not (_is_address(host) or _NAME.fullmatch(host)):
        raise BadEndpoint(f"{text!r}: {host!r} is neither an address nor a host name")
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise BadEndpoint(f"{text!r}: {port!r} is no port")
    return Endpoint(host, int(port) if port else TLS_PORT if tls else PLAIN_PORT, tls)


def _split(rest: str) -> tuple[str, str | None]:
    """Host and port of `A`, `A:1`, `[::1]`, `[::1]:1`, and of an IPv6 address that stands alone."""
    if rest.startswith("[") and "]" in rest:
        host, _, after = rest[1:].partition("]")
        return host, after.removeprefix(":") if after else None
    if rest.count(":") > 1:
        return rest, None
    host, colon, port = rest.partition(":")
    return host, port if colon else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def resolve(endpoint: Endpoint, networks: list[Network]) -> str:
    """The address to connect to. It is looked up once, so that what is checked is what is used. Raises BadEndpoint."""
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BadEndpoint(f"{endpoint}: {endpoint.host} has no address: {error}") from error
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    for address in addresses:
        if _is_allowed(address, networks):
            return str(address)
    raise BadEndpoint(f"{endpoint}: the operator lets no template name a Docker at {', '.join(map(str, addresses))}")


def _is_allowed(address: Address, networks: list[Network]) -> bool:
    address = getattr(address, "ipv4_mapped", None) or address
    if networks:
        return any(address in network for network in networks)
    forbidden = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return not forbidden
