"""A Glance of a test's own: the cloud's database, files and program, which the test may kill and configure."""

from __future__ import annotations

import configparser
import dataclasses
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from oci.reference import free_port

_SECONDS = 240
"""Longer than any machine takes to start it."""


@dataclasses.dataclass
class OwnGlance:
    """It, as a process of uWSGI."""

    url: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(self.command, stdout=stream, stderr=stream, env=self.environment)
        end = time.monotonic() + _SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"Glance does not answer:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(_SECONDS)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/versions", timeout=_SECONDS):
                return True
        except urllib.error.HTTPError:
            return True  # 300: several versions
        except OSError:
            return False


@contextmanager
def running(state: Path, directory: Path, options: Mapping[str, str] | None = None) -> Iterator[OwnGlance]:
    """A Glance with `options` of the section [DEFAULT] changed, until the end of the context."""
    directory.mkdir()
    service = _read(state / "etc" / "glance-api.conf")
    service["DEFAULT"].update(options or {})
    _write(service, directory / "glance-api.conf")
    server = _read(state / "etc" / "uwsgi-glance.ini")
    address = f"127.0.0.1:{free_port()}"
    server["uwsgi"]["http-socket"] = address
    _write(server, directory / "uwsgi.ini")
    environment = {**os.environ, "OS_GLANCE_CONFIG_DIR": str(directory), "PYTHONWARNINGS": "ignore"}
    command = [str(state / "venv" / "bin" / "uwsgi"), "--ini", str(directory / "uwsgi.ini")]
    glance = OwnGlance(f"http://{address}", command, environment, directory / "glance.log")
    glance.start()
    try:
        yield glance
    finally:
        if glance.process is not None and glance.process.poll() is None:
            glance.stop()


def _read(path: Path) -> configparser.ConfigParser:
    # Only "=" divides, or a value of uWSGI's would lose its colon.
    settings = configparser.ConfigParser(interpolation=None, default_section="", delimiters=("=",))
    settings.optionxform = str  # type: ignore[assignment,method-assign]
    with path.open() as stream:
        settings.read_file(stream)
    return settings


def _write(settings: configparser.ConfigParser, path: Path) -> None:
    with path.open("w") as stream:
        settings.write(stream)
    path.chmod(0o600)
