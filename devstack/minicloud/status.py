"""`mini status`: every process, every API, and what Nova and Neutron think of their services."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from minicloud import host
from minicloud import options as options_module
from minicloud import passwords as passwords_module
from minicloud.layout import Layout, keystone_url, url
from minicloud.options import Options
from minicloud.programs import Program, programs
from minicloud.supervisor import Supervisor
from minicloud.up import api_answers


def report(layout: Layout) -> int:
    """Print the state of everything; return 0 if all of it works, else 1."""
    options = options_module.load(layout.options_file)
    supervisor = Supervisor(layout)
    if not supervisor.answers():
        print(f"The cloud in {layout.root} is down; `mini up` starts it.")
        return 1
    bad = _print_processes(layout, supervisor, programs(layout, options))
    bad += _print_services(layout, options)
    print(f"\nMemory: {host.memory_of(layout) / 1024**3:.1f} GiB")
    if bad:
        print(f"NOT WORKING: {', '.join(bad)}; `mini logs NAME` may say why, `mini up` starts what is stopped")
    else:
        print("Everything works.")
    return 1 if bad else 0


def _print_processes(layout: Layout, supervisor: Supervisor, wanted: dict[str, Program]) -> list[str]:
    """The table of processes; returns those that do not work."""
    bad = []
    known = supervisor.info()
    print(f"{'SERVICE':<22}{'PROCESS':<12}{'ANSWERS':<9}SINCE")
    for name, program in wanted.items():
        info = known.get(name, {"statename": "ABSENT", "start": 0})
        running = info["statename"] == "RUNNING"
        answers = "-" if program.port is None else "yes" if running and api_answers(layout, program.port) else "NO"
        since = _ago(time.time() - info["start"]) if running else info.get("spawnerr") or "-"
        print(f"{name:<22}{info['statename']:<12}{answers:<9}{since}")
        if not running or answers == "NO":
            bad.append(name)
    return bad


def _ago(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _print_services(layout: Layout, options: Options) -> list[str]:
    """What the control plane says of compute services and network agents; returns what is down."""
    try:
        token = _token(passwords_module.load(layout.passwords_file)["admin"])
        services = _get(url("nova-api", "/v2.1/os-services"), token)["services"]
        agents = _get(url("neutron-api", "/v2.0/agents"), token)["agents"]
    except (OSError, ValueError) as error:
        print(f"\nThe APIs could not be asked for services and agents: {error}", file=sys.stderr)
        return ["keystone, nova-api or neutron-api"]
    hosts = {options.host}
    if options.fake_compute:
        hosts.add(options.fake_host)
    bad = []
    print(f"\n{'AGENT':<30}{'HOST':<28}STATE")
    rows = [(service["binary"], service["host"], service["state"] == "up") for service in services]
    rows += [(agent["agent_type"], agent["host"], bool(agent["alive"])) for agent in agents]
    for name, where, alive in sorted(rows):
        # Nova and Neutron keep the records of what is no longer selected.
        selected = where in hosts and (name != "nova-compute" or where != options.host or options.agent)
        print(f"{name:<30}{where:<28}{'up' if alive else 'DOWN' if selected else 'not selected'}")
        if selected and not alive:
            bad.append(f"{name} on {where}")
    expected = ({options.host} if options.agent else set()) | (hosts - {options.host})
    missing = expected - {where for name, where, _ in rows if name == "nova-compute"}
    return bad + [f"nova-compute on {where} (never registered)" for where in sorted(missing)]


def _token(password: str) -> str:
    user = {"name": "admin", "domain": {"id": "default"}, "password": password}
    body = {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
        }
    }
    request = urllib.request.Request(
        f"{keystone_url()}/auth/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        return str(response.headers["X-Subject-Token"])


def _get(address: str, token: str) -> Any:
    request = urllib.request.Request(address, headers={"X-Auth-Token": token})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)
