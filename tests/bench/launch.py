"""The time of launches and the memory of the compute services: our agent beside stock nova-compute.

Stock nova-compute runs Nova's fake driver, which starts nothing: its times are the cost of Nova itself. Launches
run one after the other, the two sides in turn, so both sides see the same state of the machine.

    STATE/venv/bin/python tests/bench/launch.py [--count 20] [--side agent] [--doors amqp,grpc] [--state-dir STATE]

--doors measures the agent through each of its doors in turn, each beside stock nova-compute. `devstack/mini up --door`
changes the door; at the end the benchmark opens the first one again.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cloud"))

from harness.lab import Lab, Side
from harness.servers import Json, Refused, Servers
from keystoneauth1.exceptions import ClientException

_LIMIT = 120.0
"""Limit of one step, in seconds."""

_POLL = 0.1

_MINI = Path(__file__).resolve().parent.parent.parent / "devstack" / "mini"

Times = dict[tuple[str, str], list[float]]
"""(operation, column) -> seconds."""


class Failed(Exception):
    """An operation ended in ERROR or took too long. A median without it would lie."""


@dataclasses.dataclass
class Bench:
    lab: Lab
    count: int
    sides: dict[str, Side]
    """Column -> compute service."""
    times: Times = dataclasses.field(default_factory=dict)
    memory: dict[str, float] = dataclasses.field(default_factory=dict)
    """Column -> MB."""

    def run(self) -> None:
        connection = self.lab.connect("demo")
        network = connection.network.find_network("private")
        clients = {name: Servers(connection, side, self.lab) for name, side in self.sides.items()}
        for client in clients.values():
            # The first launch of an image also reads it, so it does not count.
            self._one(client, "none", lambda _operation, _seconds: None, "warm")
        for number in range(self.count):
            for kind, networks in (("no port", "none"), ("one port", [{"uuid": network.id}])):
                for name, client in clients.items():

                    def note(operation: str, seconds: float, name: str = name, kind: str = kind) -> None:
                        self.times.setdefault((f"{operation}, {kind}", name), []).append(seconds)

                    self._one(client, networks, note, f"{number}")
            print(f"\rround {number + 1} of {self.count}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        for name, side in self.sides.items():
            programs = [side.program, *(["nova-compute"] if side.real and self.lab.door == "grpc" else [])]
            self.memory[name] = sum(_resident_mb(self.lab.pid(program)) for program in programs)

    def _one(self, client: Servers, networks: str | list[Json], note: Callable[[str, float], None], stem: str) -> None:
        begin = time.monotonic()
        server_id = client.create(f"bench-{client.side.program}-{stem}", networks=networks)["id"]
        try:
            self._until(client, server_id, "ACTIVE", begin)
            note("launch", time.monotonic() - begin)
            for kind in ("SOFT", "HARD"):
                begin = time.monotonic()
                client.action(server_id, "reboot", {"type": kind})
                self._until(client, server_id, "ACTIVE", begin)
                note(f"reboot {kind.lower()}", time.monotonic() - begin)
        finally:
            begin = time.monotonic()
            client.delete(server_id)
            self._until_gone(client, server_id, begin)
            note("delete", time.monotonic() - begin)

    def _until(self, client: Servers, server_id: str, status: str, begin: float) -> None:
        while True:
            server = client.get(server_id)
            if server["status"] == status and server["OS-EXT-STS:task_state"] is None:
                return
            if server["status"] == "ERROR":
                raise Failed(f"{server['name']}: {server.get('fault', {}).get('message')}")
            self._pause(begin, f"{server['name']} {status}")

    def _until_gone(self, client: Servers, server_id: str, begin: float) -> None:
        while client.exists(server_id):
            self._pause(begin, f"{server_id} deleted")

    def _pause(self, begin: float, what: str) -> None:
        if time.monotonic() - begin > _LIMIT:
            raise Failed(f"{what}: not within {_LIMIT:.0f} s")
        time.sleep(_POLL)


def report(times: Times, memory: dict[str, float], count: int) -> str:
    """A table with a column for each compute service, and the ratios of the others to the last."""
    names = list(memory)
    reference = names[-1]
    others = names[:-1]
    header = "".join(f"{name:>10}" for name in names) + "".join(f"{f'{name}/{reference}':>14}" for name in others)
    lines = [f"medians of {count} in seconds, sequential and interleaved", "", f"{'operation':<24}{header}"]

    def line(what: str, values: dict[str, float], digits: int) -> str:
        columns = "".join(f"{values[name]:>10.{digits}f}" for name in names)
        return f"{what:<24}{columns}" + "".join(f"{values[name] / values[reference]:>14.2f}" for name in others)

    for operation in sorted({operation for operation, _ in times}):
        lines.append(line(operation, {name: statistics.median(times[operation, name]) for name in names}, 2))
    lines.append(line("resident memory, MB", memory, 0))
    return "\n".join(lines)


def _resident_mb(pid: int) -> float:
    """Resident memory of a process and its children."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue  # the process ended meanwhile
        if int(fields["Pid"]) == pid or int(fields["PPid"]) == pid:
            total += int(fields.get("VmRSS", "0 kB").split()[0]) / 1024
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/nova-docker-mini"), help="where the cloud is")
    parser.add_argument("--count", type=int, default=20, help="launches of each kind on each side (default 20)")
    parser.add_argument("--side", choices=("agent", "fake"), help="measure only one of the two")
    parser.add_argument("--doors", type=lambda text: text.split(","), default=[], help="amqp,grpc: both, one by one")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    times: Times = {}
    memory: dict[str, float] = {}
    before = Lab(arguments.state_dir).door
    status = 0
    try:
        for door in arguments.doors or [before]:
            lab = _through(door, arguments.state_dir)
            agent = door if arguments.doors else "agent"
            sides = {agent: lab.side("agent"), "fake": lab.side("fake")}
            if arguments.side:
                sides = {name: side for name, side in sides.items() if side.real == (arguments.side == "agent")}
            bench = Bench(lab, arguments.count, sides, times)
            bench.run()
            fake = memory.pop("fake", None)
            # The reference is the last column.
            memory |= bench.memory | ({"fake": fake} if fake is not None else {})
    except ClientException as error:
        print(f"launch.py: the cloud does not answer ({error}); see ./devstack/mini status", file=sys.stderr)
        status = 1
    except (Failed, Refused) as error:
        print(f"launch.py: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        return 130
    finally:
        _through(before, arguments.state_dir)
    if memory:
        # After a failure too: the doors that were measured completely.
        print(report({key: value for key, value in times.items() if key[1] in memory}, memory, arguments.count))
    return status


def _through(door: str, state_dir: Path) -> Lab:
    """The cloud with this door open, as a fresh view that remembers no other door."""
    lab = Lab(state_dir)
    if lab.door == door:
        return lab
    print(f"changing the door to {door}", file=sys.stderr)
    command = [_MINI, "--state-dir", state_dir, "up", "--door", door]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Lab(state_dir)


if __name__ == "__main__":
    sys.exit(main())
