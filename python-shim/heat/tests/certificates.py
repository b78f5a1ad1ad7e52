"""Certificates of an authority of the tests' own."""

from __future__ import annotations

import subprocess
from pathlib import Path

_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """An authority with a certificate for 127.0.0.1, and one for a client."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._openssl("req", "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem", *_NEW)
        self._sign("server", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self._sign("client", "extendedKeyUsage=clientAuth")

    def text(self, name: str) -> str:
        return (self._directory / name).read_text()

    def path(self, name: str) -> str:
        return str(self._directory / name)

    def _sign(self, name: str, extension: str) -> None:
        (self._directory / "extension").write_text(extension)
        self._openssl("req", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr", *_NEW)
        by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extension")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *by)

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self._directory, check=True, capture_output=True)
