"""Debian's `docker-registry` (CNCF distribution 2.8), a registry that the tests are right about or wrong."""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt

from oci.target import Lack, Target

PROGRAM = "/usr/bin/docker-registry"

_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to connections by itself."""

_LACKS = frozenset(
    {
        Lack.REFERRERS,
        Lack.CHUNK_ORDER,
        Lack.SINGLE_POST,
        Lack.TAG_ORDER,
        Lack.TAG_DELETE,
        Lack.VALIDATION,
    }
)


class NotInstalled(Exception):
    """The message says what to install."""


@contextmanager
def running(directory: Path, *, password: bool = True) -> Iterator[Target]:
    """A registry with its store in `directory`, on a free port, until the end of the context."""
    if not Path(PROGRAM).exists():
        raise NotInstalled(f"{PROGRAM} is missing: apt-get install --no-install-recommends docker-registry")
    user, secret, port = "tester", secrets.token_hex(8), free_port()
    htpasswd = directory / "htpasswd"
    htpasswd.write_text(f"{user}:{bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode()}\n")
    configuration: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "store")},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": secrets.token_hex(16)},
        # Layers that clients fetch from elsewhere are refused unless their addresses are allowed.
        "validation": {"manifests": {"urls": {"allow": ["^https?://"]}}},
    }
    if password:
        configuration["auth"] = {"htpasswd": {"realm": "test", "path": str(htpasswd)}}
    config_file = directory / "registry.yml"  # JSON is YAML.
    config_file.write_text(json.dumps(configuration))
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(config_file)], stdout=log, stderr=log)
        try:
            _wait(process, f"http://127.0.0.1:{port}/v2/", directory / "registry.log")
            yield Target("reference", f"http://127.0.0.1:{port}", "reference", user, secret, lacks=_LACKS)
        finally:
            process.terminate()
            process.wait(240)
            shutil.rmtree(directory / "store", ignore_errors=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now, and that is given to no connection that is made meanwhile."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port of {_PORTS} is free")


def _wait(process: subprocess.Popen[bytes], address: str, log: Path, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=60):
                return
        except urllib.error.HTTPError:
            return  # 401 is an answer too
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"{PROGRAM} does not answer at {address}:\n{log.read_text()}")
        time.sleep(0.05)
