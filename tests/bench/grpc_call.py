"""The cost of one call through the second door, beside that of a request to dockerd.

Both come from Python, over a Unix socket, with a new connection for each.

    STATE/venv/bin/python tests/bench/grpc_call.py [--count 500] [--state-dir STATE]

Needs a cloud with this door open: devstack/mini up --door grpc
"""

from __future__ import annotations

import argparse
import http.client
import socket
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from nova_docker import agent
from nova_docker.rpc import Address, CallError
from nova_docker.v1 import driver_pb2 as api


class _Docker(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def _docker(path: Path, request: str) -> None:
    connection = _Docker(path)
    connection.request("GET", request)
    connection.getresponse().read()
    connection.close()


def _missing(client: agent.Agent) -> None:
    """Ask for a guest that does not exist: the agent asks dockerd once and answers with a detailed error."""
    try:
        client.call(agent.GET_GUEST, api.GetGuestRequest(guest_id=str(uuid.UUID(int=0))))
    except CallError as error:
        if error.reason != "GUEST_NOT_FOUND":
            raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/nova-docker-mini"), help="where the cloud is")
    parser.add_argument("--count", type=int, default=500, help="calls of each kind (default 500)")
    arguments = parser.parse_args()
    run = arguments.state_dir / "run"
    if not (run / "driver.sock").exists():
        print("grpc_call.py: the second door is not open; see devstack/mini up --door grpc", file=sys.stderr)
        return 1
    client = agent.Agent(Address(f"unix://{run}/driver.sock"), 10, 10)
    hello = api.GetServerInfoRequest(client="bench", revision=agent.REVISION, oldest_revision=agent.OLDEST_REVISION)
    calls: dict[str, Callable[[], object]] = {
        "GetServerInfo": lambda: client.call(agent.GET_SERVER_INFO, hello),
        "dockerd GET /_ping": lambda: _docker(run / "docker.sock", "/_ping"),
        "GetGuest of none": lambda: _missing(client),
        "dockerd inspect of none": lambda: _docker(run / "docker.sock", "/containers/none/json"),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(arguments.count):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - begin) * 1000)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"medians of {arguments.count} in milliseconds, interleaved\n")
    for name, median in medians.items():
        print(f"{name:<26}{median:>8.2f}")
    names = list(medians)
    for ours, theirs in zip(names[::2], names[1::2], strict=True):
        print(f"{f'{ours} / {theirs}':<50}{medians[ours] / medians[theirs]:>8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
