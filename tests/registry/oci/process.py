"""A registry of a test's own beside the cloud's: the same program, configuration and Glance, but for some options."""

from __future__ import annotations

import configparser
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.steps import Steps

from oci import cloud
from oci.client import Registry
from oci.clock import Clock
from oci.reference import free_port
from oci.target import Target

PROGRAM = "nova-docker-registry"


@dataclasses.dataclass
class Own:
    """It, which can be killed and started again."""

    target: Target
    command: list[str]
    log: Path
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    """What is added to that of the tests."""
    process: subprocess.Popen[bytes] | None = None
    peak: int = 0
    """Bytes that a process which has ended had resident at most."""

    def start(self) -> None:
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                self.command, stdout=stream, stderr=stream, env={**os.environ, **self.environment}
            )
        nobody = Registry(self.target, "")
        nobody.session.headers["Connection"] = "close"
        try:
            self._wait_for_answer(nobody)
        finally:
            # It would hold one of the connections that the registry serves at a time.
            nobody.session.close()

    def _wait_for_answer(self, nobody: Registry) -> None:
        end = time.monotonic() + 240
        while True:
            try:
                nobody.call("GET", "/v2/")
                return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the registry does not answer:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit status."""
        assert self.process is not None
        self.peak = self.most_resident()
        self.process.send_signal(number)
        return self.process.wait(240)

    def most_resident(self) -> int:
        """The most memory that it has ever had, in bytes."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        # A process that has ended has none.
        now = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")]
        return max(self.peak, *now) if now else self.peak

    def most_held(self) -> int:
        """The most memory that it has had beside the pages of its program, in bytes; it must be running.

        A build for tests has many more of those than one for use, and they are the file's, not what requests cost.
        """
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [program] = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssFile:")]
        return self.most_resident() - program


@contextmanager
def running(
    state: Path,
    directory: Path,
    options: Mapping[str, object] | None = None,
    *,
    user: Target | None = None,
    glance: str | None = None,
    clock: Clock | None = None,
    steps: Steps | None = None,
) -> Iterator[Own]:
    """A registry with its state in `directory`, and `options` of the section [registry] changed; None takes one out.

    Without `tls_cert_file` and `tls_key_file` it speaks plain HTTP. It is reached as the user of the target `user`, or
    else as the user `demo`. `glance` is another address of Glance, `clock` what it takes for the time, `steps` says
    at which step it is killed.
    """
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(state / cloud.CONFIGURATION)
    port = free_port()
    address = f"127.0.0.1:{port}"
    changed = {"listen": address, "state_directory": directory / "state", **(options or {})}
    for name, value in changed.items():
        if value is None:
            settings.remove_option("registry", name)
        else:
            settings["registry"][name] = str(value)
    if glance is not None:
        settings["glance"]["endpoint_override"] = glance
    url = f"{'https' if settings.has_option('registry', 'tls_cert_file') else 'http'}://{address}"
    settings["registry"]["public_url"] = url
    config = directory / "registry.conf"
    with config.open("w") as stream:
        settings.write(stream)
    config.chmod(0o600)
    target = dataclasses.replace(user or cloud.target(state), url=url)
    command = [str(state / "bin" / PROGRAM), "--config-file", str(config)]
    preloaded = clock or steps
    own = Own(target, command, directory / "registry.log", preloaded.environment if preloaded else {})
    own.start()
    try:
        yield own
    finally:
        if own.process is not None and own.process.poll() is None:
            own.stop()
