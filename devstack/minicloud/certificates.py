"""The cloud's own certificate authority, and the registry's certificate for 127.0.0.1."""

from __future__ import annotations

import shutil
from pathlib import Path

from minicloud import process
from minicloud.layout import ADDRESS, Layout

_DAYS = 3650
_RENEW_SECONDS = 30 * 24 * 3600
_OPENSSL = "/usr/bin/openssl"


def make(layout: Layout) -> None:
    """Make authority and certificate, unless those that exist are valid for another month.

    The authority's key is thrown away: it signs once, and is made anew together with the certificate.
    """
    if layout.registry_certificate.exists() and _good(layout.registry_certificate):
        return
    fresh = layout.root / ".tls.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o755)
    authority = [*_request("nova-docker-mini authority", fresh / "ca.key", fresh / "ca.pem"), "-addext"]
    process.run([*authority, "keyUsage=critical,keyCertSign,cRLSign"])
    server = _request(ADDRESS, fresh / layout.registry_key.name, fresh / layout.registry_certificate.name)
    extensions = (
        f"subjectAltName=IP:{ADDRESS},DNS:localhost",
        "basicConstraints=critical,CA:FALSE",
        "extendedKeyUsage=serverAuth",
    )
    options = [word for extension in extensions for word in ("-addext", extension)]
    process.run([*server, *options, "-CA", fresh / "ca.pem", "-CAkey", fresh / "ca.key"])
    (fresh / "ca.key").unlink()
    shutil.rmtree(layout.tls, ignore_errors=True)
    fresh.rename(layout.tls)


def _good(certificate: Path) -> bool:
    return process.succeeds([_OPENSSL, "x509", "-in", certificate, "-noout", "-checkend", str(_RENEW_SECONDS)])


def _request(name: str, key: Path, certificate: Path) -> list[str | Path]:
    """The command that makes a key and a certificate; openssl gives the key to its owner only."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    where = ["-keyout", key, "-out", certificate, "-days", str(_DAYS), "-subj", f"/CN={name}"]
    return [_OPENSSL, "req", "-x509", *curve, *where]
