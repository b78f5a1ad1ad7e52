"""The clients that people use, as Debian has them, each with its own storage and its own credentials."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from oci.target import Target

_SECONDS = 600


class Failed(AssertionError):
    """A command that was to work ended with another status than 0; the message has all that it printed."""


class Command:
    """A program with what has to be said to it every time."""

    def __init__(self, words: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        program = str(words[0])
        assert shutil.which(program), f"{program} is missing: apt-get install --no-install-recommends {program}"
        self._words = [str(word) for word in words]
        self._environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/root", **(environment or {})}

    def attempt(self, *arguments: str | Path, stdin: str = "") -> tuple[bool, str, str]:
        """Whether it worked, and what it printed as its result and beside that."""
        command = [*self._words, *(str(argument) for argument in arguments)]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=self._environment,
        )
        return done.returncode == 0, done.stdout, done.stderr

    def __call__(self, *arguments: str | Path, stdin: str = "") -> str:
        """Its result. Raises Failed."""
        worked, out, err = self.attempt(*arguments, stdin=stdin)
        if not worked:
            raise Failed(f"{self._words[0]} {' '.join(map(str, arguments))}:\n{out}{err}")
        return out.strip()

    def fails(self, *arguments: str | Path, stdin: str = "") -> str:
        """What it says when it does not work, as it is expected not to."""
        worked, out, err = self.attempt(*arguments, stdin=stdin)
        assert not worked, f"{self._words[0]} {' '.join(map(str, arguments))} worked:\n{out}{err}"
        return f"{out}{err}"


def certificates(target: Target, directory: Path) -> Path:
    """A directory as podman and its like want it, with the registry's authority."""
    found = directory / "certs"
    found.mkdir(exist_ok=True)
    if target.ca:
        shutil.copy(target.ca, found / "ca.crt")
    return found


def tls_options(target: Target, directory: Path, prefix: str = "") -> list[str]:
    """How podman and its like reach the registry: `--[PREFIX-]cert-dir`, or without TLS."""
    dash = f"--{prefix}-" if prefix else "--"
    if target.tls:
        return [f"{dash}cert-dir={certificates(target, directory)}"]
    return [f"{dash}tls-verify=false"]


@contextmanager
def storage(prefix: str) -> Iterator[Path]:
    """A directory for images. Engines mount it upon itself, and some leave it so."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        try:
            yield Path(name)
        finally:
            mounts = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
            for mount in reversed([mount for mount in mounts if mount.startswith(f"{name}/")]):
                subprocess.run(["umount", mount], check=True)


# ---------------------------------------------------------------- Docker


@contextmanager
def dockerd() -> Iterator[Path]:
    """A Docker Engine of its own, without networks; its socket."""
    # Its containerd has sockets far below, whose paths may have 107 characters.
    with storage("docker-") as directory, _dockerd(directory) as socket:
        yield socket


@contextmanager
def _dockerd(directory: Path) -> Iterator[Path]:
    socket = directory / "docker.sock"
    settings = {
        "hosts": [f"unix://{socket}"],
        "data-root": str(directory / "data"),
        "exec-root": str(directory / "exec"),
        "pidfile": str(directory / "docker.pid"),
        "group": "root",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "shutdown-timeout": 1,
    }
    config = directory / "daemon.json"
    config.write_text(json.dumps(settings))
    log = directory / "dockerd.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["dockerd", "--config-file", str(config)], stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            _until_docker_answers(process, socket, log)
            yield socket
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(240)


def _until_docker_answers(process: subprocess.Popen[bytes], socket: Path, log: Path, seconds: float = 240) -> None:
    version = Command(["docker", "-H", f"unix://{socket}"])
    end = time.monotonic() + seconds
    while not version.attempt("version")[0]:
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"dockerd does not answer:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


def docker(socket: Path, credentials: Path) -> Command:
    """docker(1) at a Docker Engine; logins are kept in the directory `credentials`."""
    return Command(["docker", "--config", credentials, "-H", f"unix://{socket}"])


def forget_images(docker: Command) -> None:
    """Leave the Docker Engine without images and containers."""
    docker("system", "prune", "--all", "--force")


# ---------------------------------------------------------------- podman, buildah, skopeo


def podman(directory: Path) -> Command:
    """podman(1) with images and containers below the directory."""
    words = ["podman", *_storage(directory), "--cgroup-manager=cgroupfs", "--events-backend=file"]
    return Command([*words, f"--tmpdir={directory}/libpod"], _authfile(directory))


def buildah(directory: Path) -> Command:
    """buildah(1) with images and containers below the directory."""
    return Command(["buildah", *_storage(directory)], {**_authfile(directory), "BUILDAH_ISOLATION": "chroot"})


def skopeo(directory: Path) -> Command:
    """skopeo(1) with credentials below the directory."""
    return Command(["skopeo"], _authfile(directory))


def _storage(directory: Path) -> list[str]:
    return [f"--root={directory}/root", f"--runroot={directory}/run", "--storage-driver=vfs"]


def _authfile(directory: Path) -> dict[str, str]:
    return {"REGISTRY_AUTH_FILE": str(directory / "auth.json"), "TMPDIR": str(directory)}
