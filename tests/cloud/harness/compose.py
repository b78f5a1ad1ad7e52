"""`openstack container compose`, as a user types it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from harness.lab import Lab
from harness.tenant import Tenant

_INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command that Ctrl-C ends, also where the tests run in the background of a shell: that ignores it."""


class Compose:
    """The command in a directory with a compose file, with nothing but a login."""

    def __init__(self, lab: Lab, tenant: Tenant, admin: Connection, directory: Path, project: str) -> None:
        self._program = lab.state / "venv" / "bin" / "openstack"
        self._directory = directory
        self.project = project
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith(("OS_", "COMPOSE_"))}
        self._environment |= {
            "OS_AUTH_URL": admin.auth["auth_url"],
            "OS_USERNAME": tenant.name,
            "OS_PASSWORD": tenant.password,
            "OS_PROJECT_ID": tenant.project_id,
            "OS_USER_DOMAIN_ID": "default",
            "OS_IDENTITY_API_VERSION": "3",
            "OS_REGION_NAME": admin.config.region_name,
            "COMPOSE_PROJECT_NAME": project,
        }

    def set(self, **variables: str) -> None:
        """Sets variables that the files ask for."""
        self._environment |= variables

    def run(self, *command: str, seconds: float) -> str:
        """Another command as the same user, who finds `openstack` where the cloud has it."""
        path = f"{self._program.parent}:{self._environment['PATH']}"
        done = subprocess.run(
            command,
            env={**self._environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """The command, running."""
        command = [sys.executable, "-c", _INTERRUPTIBLE, str(self._program), "container", "compose", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self._directory, env=self._environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def end(self, running: subprocess.Popen[str], code: int = 0, text: str | None = None) -> str:
        """What it has printed, when it has ended as it should."""
        output, errors = running.communicate(text, timeout=600)
        assert running.returncode == code, f"{running.args} ended with {running.returncode}:\n{output}{errors}"
        return output

    def __call__(self, *words: str) -> str:
        return self.end(self.begin(*words))

    def ps(self) -> dict[str, dict[str, Any]]:
        """The servers by their names, without the project's."""
        listed = json.loads(self("ps", "--all", "--format", "json"))
        return {server["Name"].removeprefix(f"{self.project}-"): server for server in listed}

    def write(self, text: str) -> None:
        (self._directory / "compose.yaml").write_text(text)


def page(address: str) -> str:
    """What a web server says; nothing as long as it does not."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}", timeout=30) as answer:
        return str(answer.read().decode())
    return ""
