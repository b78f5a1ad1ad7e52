"""What dockerd must be told on a host of the agent.

`devstack/mini` writes a daemon.json of its own; the DevStack plugin adds to the host's one, and takes it back.

    python3 -m minicloud.docker_config add FILE RUNTIME
    python3 -m minicloud.docker_config remove FILE

Only the standard library: the plugin runs it with the system's Python.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

NETWORK = {"bridge": "none", "iptables": False, "ip-forward": False, "ip-masq": False, "userland-proxy": False}
"""No network of Docker's: the agent plugs every interface, and the host's rules stay its own."""


def runtimes(program: Path) -> dict[str, object]:
    """The entry for nova-docker-runtime, by the name that the agent asks for."""
    return {"nova": {"path": str(program), "runtimeArgs": []}}


class BadFile(Exception):
    """daemon.json is no JSON object; dockerd would not start with it."""


def add(path: Path, program: Path) -> bool:
    """Add what is missing to `path`; what the operator has set stays. Returns whether the file changed.

    The earlier file is kept beside it, for `remove`.
    """
    before = path.read_text() if path.exists() else ""
    settings = _parse(path, before)
    wanted = {**NETWORK, "live-restore": True, **settings}
    wanted["runtimes"] = {**wanted.get("runtimes", {}), **runtimes(program)}
    if wanted == settings:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _saved(path).exists():
        _saved(path).write_text(before)
    path.write_text(json.dumps(wanted, indent=1) + "\n")
    return True


def remove(path: Path) -> bool:
    """Bring back the file that was there before `add`. Returns whether there was something to do."""
    if not _saved(path).exists():
        return False
    before = _saved(path).read_text()
    if before:
        path.write_text(before)
    else:
        path.unlink(missing_ok=True)
    _saved(path).unlink()
    return True


def _saved(path: Path) -> Path:
    return path.with_name(path.name + ".before-nova-docker-agent")


def _parse(path: Path, text: str) -> dict[str, object]:
    try:
        settings = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise BadFile(f"{path}: {error}") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("runtimes", {}), dict):
        raise BadFile(f"{path}: not a JSON object of dockerd's options")
    return settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="minicloud.docker_config")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add").add_argument("file", type=Path)
    commands.choices["add"].add_argument("program", type=Path)
    commands.add_parser("remove").add_argument("file", type=Path)
    arguments = parser.parse_args()
    try:
        changed = add(arguments.file, arguments.program) if arguments.command == "add" else remove(arguments.file)
    except BadFile as error:
        raise SystemExit(str(error)) from error
    print("changed" if changed else "unchanged")


if __name__ == "__main__":
    main()
