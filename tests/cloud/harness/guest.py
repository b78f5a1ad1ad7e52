"""The inside of a server that runs the image `tiny`, over the network as its user would."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.lab import Lab
from harness.waiting import eventually

_SSH = (
    "ssh",
    "-o", "BatchMode=yes",
    "-o", "ConnectTimeout=40",
    "-o", "StrictHostKeyChecking=no",
    "-o", "UserKnownHostsFile=/dev/null",
    "-o", "LogLevel=ERROR",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Guest:
    """ssh and http to one address of a server.

    `namespace` is the network namespace of a router, or of OVN's metadata service, from which fixed addresses can be
    reached; None means from the host itself, as for floating addresses.
    """

    lab: Lab
    address: str
    key: Path
    """The private half of the user's key pair."""
    namespace: str | None = None

    def _from(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []

    def ssh(self, command: str, *, seconds: float = 300, check: bool = True) -> str:
        """Run a shell command inside; returns what it printed."""
        key = ["-i", str(self.key)]
        return self.lab.run(
            [*self._from(), *_SSH, *key, f"root@{self.address}", command], seconds=seconds, check=check
        ).strip()

    @contextlib.contextmanager
    def talk(self, command: str, *, seconds: int = 900) -> Iterator[Callable[[str], str]]:
        """Start a shell command inside that answers each line it is told, over a connection of at most `seconds`."""
        key = ["-i", str(self.key)]
        ssh = subprocess.Popen(
            [*self._from(), "timeout", str(seconds), *_SSH, *key, f"root@{self.address}", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

        def tell(line: str) -> str:
            assert ssh.stdin is not None
            assert ssh.stdout is not None
            ssh.stdin.write(line + "\n")
            return ssh.stdout.readline().strip()

        with ssh:
            try:
                yield tell
            finally:
                ssh.terminate()

    def wait_ssh(self, seconds: float = 300) -> Guest:
        """Wait until a command can be run inside."""
        eventually(lambda: self.ssh("echo ready", check=False) == "ready", f"ssh to {self.address}", seconds)
        return self

    def answers_ping(self) -> bool:
        """Whether the server's address answers a ping within 5 seconds."""
        ping = ["ping", "-c", "1", "-W", "5", self.address]
        return " 0% packet loss" in self.lab.run([*self._from(), *ping], check=False)

    def pings(self, target: str) -> bool:
        """Whether `target` answers this server's pings, every one."""
        return ", 0% packet loss" in self._ping(target)

    def pings_in_vain(self, target: str) -> bool:
        """Whether `target` answers none of this server's pings, which were sent."""
        return ", 100% packet loss" in self._ping(target)

    def _ping(self, target: str) -> str:
        # By its path: busybox' shell prefers its own, which wants a raw socket.
        return self.ssh(f"/bin/ping -c 2 -W 5 {target}", check=False)

    def http(self, path: str = "/", *, seconds: float = 60) -> str:
        """The page that the server serves; empty when none came within `seconds`."""
        python = str(self.lab.state / "venv/bin/python")
        fetch = ["-c", _FETCH, f"http://{self.address}{path}", str(seconds)]
        return self.lab.run([*self._from(), python, *fetch], seconds=seconds + 30, check=False)


_FETCH = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).read().decode())
"""
