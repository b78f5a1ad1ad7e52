"""The cloud that devstack/mini keeps in its state directory, as the tests see it."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import openstack
import pymysql
from openstack.connection import Connection

AGENT_PROGRAM = "nova-docker-agent"
COMPUTE_PROGRAM = "nova-compute"
FAKE_PROGRAM = "nova-compute-fake"

_databases: dict[str, pymysql.Connection[pymysql.cursors.Cursor]] = {}
"""Connections by socket: a test asks often."""
_database_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two compute services that the suite can run against, and what launches servers there."""

    program: str
    """The compute service: what takes Nova's messages."""
    programs: tuple[str, ...]
    """That, and the agent where another program is the compute service: all whose logs and memory are of interest."""
    host: str
    flavor: str
    image: str
    real: bool
    """Whether its servers are real containers."""


@dataclasses.dataclass(frozen=True)
class Lab:
    """Paths, names and connections of one cloud."""

    state: Path

    @functools.cached_property
    def options(self) -> dict[str, object]:
        return json.loads((self.state / "options.json").read_text())

    @property
    def host(self) -> str:
        """The host name of the agent, and of the neutron agents beside it."""
        return str(self.options["host"])

    @property
    def door(self) -> str:
        """How Nova reaches the agent: `amqp`, or `grpc` through a stock nova-compute."""
        return str(self.options["door"])

    @property
    def network(self) -> str:
        """What wires ports: ovs or ovn."""
        return str(self.options.get("network", "ovs"))

    @property
    def network_program(self) -> str:
        """The program that wires ports on the agent's host."""
        return {"ovs": "neutron-ovs", "ovn": "ovn-controller"}[self.network]

    def side(self, name: str) -> Side:
        if name == "agent":
            programs = (AGENT_PROGRAM,) if self.door == "amqp" else (COMPUTE_PROGRAM, AGENT_PROGRAM)
            return Side(programs[0], programs, self.host, "c1.tiny", "tiny", real=True)
        return Side(FAKE_PROGRAM, (FAKE_PROGRAM,), f"{self.host}-fake", "fake.tiny", "fake", real=False)

    def connect(self, user: str) -> Connection:
        """A connection as `demo` or `admin`; each user has one for the whole run."""
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(self.state / "etc" / "clouds.yaml")
        return openstack.connect(cloud=user)

    @property
    def tiny_archive(self) -> Path:
        """The `docker save` archive that the image `tiny` was uploaded from."""
        return self.state / "cache" / "tiny.tar"

    @property
    def docker_socket(self) -> Path:
        return self.state / "run" / "docker.sock"

    def log(self, program: str) -> Path:
        return self.state / "log" / f"{program}.log"

    def run(self, command: Sequence[str], *, seconds: float | None = None, check: bool = True, stdin: str = "") -> str:
        """Run a command of the operator on the host; returns its standard output.

        Unless `check`, one that fails is no error, and one that takes too long, a minute if not said otherwise, has
        printed nothing.
        """
        seconds = seconds or (300 if check else 60)
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            if check:
                raise
            return ""
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def docker(self, *arguments: str, check: bool = True) -> str:
        """docker(1) on the cloud's own dockerd."""
        return self.run(["docker", "-H", f"unix://{self.docker_socket}", *arguments], check=check).strip()

    def vsctl(self, *arguments: str) -> str:
        """ovs-vsctl(8) on the cloud's own Open vSwitch."""
        return self.run(["ovs-vsctl", f"--db=unix:{self.state}/run/ovs/db.sock", *arguments])

    def sql(self, statement: str, arguments: Mapping[str, str] | None = None) -> str:
        """Run a statement as the database's administrator; columns are separated by tabs."""
        socket = str(self.state / "run/mysql/mysql.sock")
        with _database_lock:
            if socket not in _databases:
                _databases[socket] = pymysql.connect(unix_socket=socket, user="root", autocommit=True)
            database = _databases[socket]
            database.ping(reconnect=True)
            with database.cursor() as cursor:
                cursor.execute(statement, arguments)
                return "\n".join("\t".join(map(str, row)) for row in cursor.fetchall())

    def supervisorctl(self, *arguments: str) -> str:
        """supervisorctl's exit status tells of stopped programs too, so it is not looked at."""
        control = [str(self.state / "venv" / "bin" / "supervisorctl"), "-c", str(self.state / "etc/supervisord.conf")]
        answer = self.run([*control, *arguments], seconds=300, check=False)
        assert answer, f"supervisorctl {' '.join(arguments)} says nothing"
        return answer

    def find_pid(self, program: str) -> int | None:
        """The process of a program of the cloud; None when it does not run."""
        text = self.supervisorctl("pid", program).strip()
        return int(text) if text.isdigit() and text != "0" else None

    def pid(self, program: str) -> int:
        """The process of a program of the cloud, which must run: to signal process 0 is to signal the tests."""
        found = self.find_pid(program)
        assert found, f"{program} does not run"
        return found
