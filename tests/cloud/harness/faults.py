"""What can go wrong around the agent for a while, each undone however the test ends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.lab import AGENT_PROGRAM, Lab
from harness.programs import kill_agent, without
from harness.servers import Servers
from harness.waiting import eventually

STOPPED, SILENT = "stopped", "silent"
"""Connections are refused; connections are taken, and nobody answers."""

_PROGRAMS = {
    "rabbitmq": (STOPPED, SILENT),
    "nova-conductor": (STOPPED, SILENT),
    "dockerd": (STOPPED, SILENT),
    # Where Open vSwitch forwards packets itself, a stop would take the ports of routers with it.
    "ovsdb": (SILENT,),
    "ovs-vswitchd": (SILENT,),
    "keystone": (STOPPED, SILENT),
    "placement": (STOPPED, SILENT),
    "neutron-api": (STOPPED, SILENT),
}

_NETWORK = {
    "ovs": (STOPPED,),
    # One that ends takes its host out of OVN, and then Neutron binds no port.
    "ovn": (SILENT,),
}


def programs(lab: Lab) -> dict[str, tuple[str, ...]]:
    """What the agent needs, and how it can be away."""
    return {**_PROGRAMS, lab.network_program: _NETWORK[lab.network]}


def away(lab: Lab, program: str, how: str) -> contextlib.AbstractContextManager[None]:
    """A program is stopped or silent for a while."""
    return without(lab, program) if how == STOPPED else silent(lab, program)


def without_wiring(lab: Lab) -> contextlib.AbstractContextManager[None]:
    """Ports are bound and not wired for a while."""
    [how] = _NETWORK[lab.network]
    return away(lab, lab.network_program, how)


@contextlib.contextmanager
def without_network_agent(lab: Lab, admin_servers: Servers) -> Iterator[None]:
    """Ports stay unwired for a while; afterwards what wires them is at work again."""
    stopped = time.time()
    try:
        with without_wiring(lab):
            yield
    finally:
        if lab.network == "ovn":
            # Ends when the controller has done all that OVN's database says.
            lab.run(["ovn-nbctl", f"--db=unix:{lab.state}/run/ovn/nb.sock", "--wait=hv", "sync"], seconds=300)
        else:
            wait_network_agent(lab, admin_servers, stopped)


def wait_network_agent(lab: Lab, admin_servers: Servers, since: float) -> None:
    """Wait until the Open vSwitch agent has reported after `since` (it wires ports from then on)."""

    def reported() -> bool:
        for agent in admin_servers.connection.network.agents(agent_type="Open vSwitch agent", host=lab.host):
            seen = time.mktime(time.strptime(agent.last_heartbeat_at[:19], "%Y-%m-%d %H:%M:%S")) - time.timezone
            return seen >= since
        return False

    eventually(reported, "a report of the Open vSwitch agent")


@dataclasses.dataclass(frozen=True)
class Weather:
    """Draws faults from a seed until it is over. `longest` is in seconds."""

    lab: Lab
    seed: int
    longest: float
    over: threading.Event
    note: Callable[[str], None]

    def of_services(self) -> None:
        """One service after the other is away."""
        draw = random.Random(f"{self.seed}-services")  # noqa: S311, to be drawn again from the same seed
        ways = programs(self.lab)
        while not self.over.wait(draw.uniform(0.3, 1) * self.longest):
            program = draw.choice(sorted(ways))
            how, seconds = draw.choice(ways[program]), draw.uniform(0, self.longest)
            self.note(f"{program} {how} for {seconds:.0f} s")
            with away(self.lab, program, how):
                self.over.wait(seconds)
            self.note(f"{program} is back")

    def of_the_agent(self) -> None:
        """The agent is killed, stopped and started again, or stands still."""
        draw = random.Random(f"{self.seed}-agent")  # noqa: S311
        while not self.over.wait(draw.uniform(0.5, 1.5) * self.longest):
            how, seconds = draw.choice(("killed", STOPPED, SILENT)), draw.uniform(0, self.longest / 3)
            self.note(f"the agent {how}" + ("" if how == "killed" else f" for {seconds:.0f} s"))
            if how == "killed":
                kill_agent(self.lab)
            else:
                with away(self.lab, AGENT_PROGRAM, how):
                    self.over.wait(seconds)
            self.note("the agent is back")


@contextlib.contextmanager
def silent(lab: Lab, program: str) -> Iterator[None]:
    """A program of the cloud, with its children, takes connections for a while and does not answer."""
    pid = lab.find_pid(program)
    stopped = _family(pid) if pid else []
    _signal(stopped, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(stopped, signal.SIGCONT)


def put_right(lab: Lab) -> None:
    """Every program that a fault may have stopped runs, whatever went wrong with the fault."""
    for program in (*programs(lab), AGENT_PROGRAM):
        eventually(lambda program=program: _runs(lab, program), f"{program} running", interval=2)


def _runs(lab: Lab, program: str) -> bool:
    pid = lab.find_pid(program)
    if pid is None:
        # One that still stops cannot be started yet; one that starts already is left alone.
        lab.supervisorctl("start", program)
        return False
    _signal(_family(pid), signal.SIGCONT)
    return True


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _family(pid: int) -> list[int]:
    """A process and all below it, parents first."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in brackets, may hold anything; state and parent follow it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    family = [pid]
    for member in family:
        family.extend(parents.get(member, []))
    return family
