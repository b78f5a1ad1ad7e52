"""A Docker that listens on a port of loopback, with and without TLS, and Heat's own stacks in a database in memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from certificates import Authority
from heat.common import messaging, policy
from heat.engine import resource, scheduler
from heat.engine.clients.os.keystone import KeystoneClientPlugin
from heat.engine.clients.os.keystone.fake_keystoneclient import FakeKeystoneClient
from heat.tests import utils
from nova_docker_heat import options
from nova_docker_heat.container import Container
from oslo_config import cfg

TYPE = "DockerInc::Docker::Container"
IMAGE = "small:1"

STAYS = ["sh", "-c", "trap 'exit 0' TERM; echo ready; sleep 1000 & wait"]
"""The image's command."""

_DOCKERD = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
exec dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" --config-file "$1/daemon.json" \
    --bridge none --iptables=false --ip-forward=false --ip-masq=false --host "unix://$1/docker.sock" \
    --host "tcp://127.0.0.1:$2" --tlsverify --tlscacert "$3/ca.pem" --tlscert "$3/server.pem" --tlskey "$3/server.key"
"""


class Docker:
    """A dockerd of its own, in a mount namespace, so that it meets no other one's containerd. It listens with TLS."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.tls_port = free_port()
        self._directory = directory
        self._socket = f"unix://{directory}/docker.sock"
        (directory / "daemon.json").write_text("{}")
        command = ["unshare", "--mount", "bash", "-c", _DOCKERD, "dockerd", str(directory), str(self.tls_port)]
        log = (directory / "log").open("wb")
        self._process = subprocess.Popen([*command, authority.path("")], stdout=log, stderr=log, start_new_session=True)
        while subprocess.run(["docker", "-H", self._socket, "version"], capture_output=True, check=False).returncode:
            assert self._process.poll() is None, (directory / "log").read_text()
            time.sleep(0.2)

    def __call__(self, *words: str) -> str:
        done = subprocess.run(["docker", "-H", self._socket, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextlib.contextmanager
    def listening(self, port: int) -> Iterator[None]:
        """The same Docker on a port without TLS, for a while."""
        way = (f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", f"UNIX-CONNECT:{self._directory}/docker.sock")
        with subprocess.Popen(["socat", *way]) as forwarder:
            while not _answers(port):
                assert forwarder.poll() is None
                time.sleep(0.1)
            yield
            forwarder.terminate()

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Docker]:
    running = Docker(tmp_path_factory.mktemp("docker"), authority)
    # Of the cloud that devstack/mini has made: busybox.
    state = Path(os.environ.get("STATE_DIR", "/var/lib/nova-docker-mini"))
    running("load", "--input", str(state / "cache" / "tiny.tar"))
    container = running("create", "tiny")
    change = ("--change", 'ENTRYPOINT ["/usr/bin/env"]', "--change", f"CMD {json.dumps(STAYS)}")
    running("commit", *change, container, IMAGE)
    running("rm", container)
    yield running
    running.end()


@pytest.fixture(scope="session")
def port(docker: Docker) -> Iterator[int]:
    """Where that Docker listens without TLS."""
    number = free_port()
    with docker.listening(number):
        yield number


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def conf() -> Iterator[Any]:
    """Heat's configuration, in which these tests may name loopback."""
    cfg.CONF.set_override("endpoint_networks", ["127.0.0.0/8"], options.GROUP)
    yield cfg.CONF
    cfg.CONF.reset()
    cfg.CONF.clear_override("endpoint_networks", options.GROUP)
    cfg.CONF.clear_override("answer_seconds", options.GROUP)


@pytest.fixture
def heat(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Heat's engine without Keystone, policies and pauses."""
    monkeypatch.setattr(scheduler, "ENABLE_SLEEP", False)
    monkeypatch.setattr(KeystoneClientPlugin, "_create", lambda *_: FakeKeystoneClient())
    monkeypatch.setattr(policy.ResourceEnforcer, "enforce", mock.Mock())
    resource._register_class(TYPE, Container)
    messaging.setup("fake://", optional=True)
    utils.setup_dummy_db()
    yield
    utils.reset_dummy_db()
    messaging.cleanup()
