"""The cloud's programs, as an operator stops, kills, starts and configures them."""

from __future__ import annotations

import configparser
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness import hosts
from harness.lab import AGENT_PROGRAM, COMPUTE_PROGRAM, Lab
from harness.servers import Servers
from harness.waiting import eventually


def kill_agent(lab: Lab) -> None:
    """kill -9, and wait until supervisor has started another."""
    before = lab.pid(AGENT_PROGRAM)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: lab.find_pid(AGENT_PROGRAM) not in (None, before), "the agent started again")


@contextlib.contextmanager
def without(lab: Lab, program: str) -> Iterator[None]:
    """Stop a program of the cloud for a while."""
    lab.supervisorctl("stop", program)
    try:
        yield
    finally:
        lab.supervisorctl("start", program)


@contextlib.contextmanager
def setting(path: Path, section: str, option: str, value: str) -> Iterator[None]:
    """Change one option of a file for a while. Whoever reads it has to be restarted."""
    original = path.read_text()
    configuration = configparser.ConfigParser(interpolation=None, strict=False)
    configuration.optionxform = str  # type: ignore[assignment,method-assign]
    configuration.read_string(original)
    if section != configuration.default_section and not configuration.has_section(section):
        configuration.add_section(section)
    configuration[section][option] = value
    try:
        with path.open("w") as stream:
            configuration.write(stream)
        yield
    finally:
        path.write_text(original)


@contextlib.contextmanager
def environment(lab: Lab, program: str, variables: Mapping[str, str]) -> Iterator[None]:
    """A program of the cloud with more variables in its environment, for a while."""
    path = lab.state / "etc" / "supervisord.conf"
    section = f"program:{program}"
    configuration = configparser.ConfigParser(interpolation=None, strict=False)
    configuration.read(path)
    more = [f'{name}="{value}"' for name, value in variables.items()]
    try:
        with setting(path, section, "environment", ",".join([configuration[section]["environment"], *more])):
            _start_anew(lab, program)
            yield
    finally:
        _start_anew(lab, program)


def _start_anew(lab: Lab, program: str) -> None:
    """As supervisor's configuration says by now."""
    lab.supervisorctl("reread")
    lab.supervisorctl("update", program)
    lab.supervisorctl("start", program)


@contextlib.contextmanager
def _program_with(
    lab: Lab, admin_servers: Servers, program: str, section: str, options: Mapping[str, str]
) -> Iterator[None]:
    """A program of this host with other options in a section of its file, for a while."""
    path = lab.state / "etc" / f"{program}.conf"
    try:
        with contextlib.ExitStack() as settings:
            for option, value in options.items():
                settings.enter_context(setting(path, section, option, value))
            lab.supervisorctl("restart", program)
            hosts.wait_usable(admin_servers)
            yield
    finally:
        lab.supervisorctl("restart", program)
        hosts.wait_usable(admin_servers)


def agent_with(
    lab: Lab, admin_servers: Servers, section: str = "docker", **options: str
) -> contextlib.AbstractContextManager[None]:
    """The agent with other options in a section, for a while."""
    return _program_with(lab, admin_servers, AGENT_PROGRAM, section, options)


_WHO_KEEPS = {"nova-api": "nova.conf", AGENT_PROGRAM: f"{AGENT_PROGRAM}.conf"}
"""The programs that know of soft deletion, and their files."""


@contextlib.contextmanager
def kept_when_deleted(lab: Lab, admin_servers: Servers, seconds: int) -> Iterator[None]:
    """Servers that are deleted are kept for so long, for a while."""

    def restart() -> None:
        lab.supervisorctl("restart", *_WHO_KEEPS)
        eventually(lambda: hosts.answers(admin_servers), "nova-api answers")
        hosts.wait_usable(admin_servers)

    try:
        with contextlib.ExitStack() as settings:
            for file in _WHO_KEEPS.values():
                path = lab.state / "etc" / file
                settings.enter_context(setting(path, "DEFAULT", "reclaim_instance_interval", str(seconds)))
            restart()
            yield
    finally:
        restart()


def compute_with(lab: Lab, admin_servers: Servers, **options: str) -> contextlib.AbstractContextManager[None]:
    """The compute service with other options of its own, for a while: the agent, or nova-compute at the second door."""
    program = AGENT_PROGRAM if lab.door == "amqp" else COMPUTE_PROGRAM
    return _program_with(lab, admin_servers, program, "DEFAULT", options)
