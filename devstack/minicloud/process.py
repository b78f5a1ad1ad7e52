"""Run commands: output to a log file, a clear error, and nothing left running after Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class CommandFailed(Exception):
    """A command ended with a status other than 0."""


class Interrupted(Exception):
    """The user asked to stop while a command ran."""


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment of every process of the cloud. Nothing leaks in from the caller's shell."""
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": "/root", "PYTHONWARNINGS": "ignore"} | extra


def caller_environment(**extra: str) -> dict[str, str]:
    """The caller's environment, for tools that take proxies, indexes and certificates from it."""
    unwanted = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {"LANG": "C.UTF-8"} | extra


class _Children:
    """The commands that run now, so that an interruption can end them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    @contextlib.contextmanager
    def watch(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        with self._lock:
            self._running.add(child)
        try:
            if self._stopping:
                _terminate(child)
            yield
        finally:
            with self._lock:
                self._running.discard(child)

    def stop(self) -> None:
        self._stopping = True
        with self._lock:
            for child in self._running:
                _terminate(child)

    @property
    def stopping(self) -> bool:
        return self._stopping


_children = _Children()


def stop_children() -> None:
    """End every running command that may be interrupted, and make later ones fail at once."""
    _children.stop()


def stopping() -> bool:
    """Whether an interruption is under way."""
    return _children.stopping


def _terminate(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)


def run(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    interruptible: bool = True,
) -> str:
    """Run `command` and return what it printed.

    With `log`, output goes to the end of that file instead and the result is empty. A command that is not
    interruptible is left to finish after Ctrl-C (apt in the middle of unpacking).
    Raises CommandFailed with the last lines of the output, Interrupted after `stop_children`.
    """
    if _children.stopping:
        raise Interrupted
    arguments = [str(part) for part in command]
    with contextlib.ExitStack() as stack:
        if log is None:
            sink: int = subprocess.PIPE
            start = 0
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(log.open("ab"))
            start = stream.tell()
            sink = stream.fileno()
        child = _start(
            arguments,
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else clean_environment(),
            cwd=cwd,
            # Ctrl-C reaches only this process, which decides what to end.
            start_new_session=True,
        )
        if interruptible:
            stack.enter_context(_children.watch(child))
        output, _ = child.communicate(stdin.encode())
    text = output.decode(errors="replace") if output else ""
    if child.returncode != 0:
        if interruptible and _children.stopping:
            raise Interrupted
        if log is not None:
            with log.open("rb") as written:
                written.seek(start)
                text = written.read().decode(errors="replace")
        where = f" (all of it: {log})" if log is not None else ""
        tail = "\n".join(text.strip().splitlines()[-15:]) or "no output"
        raise CommandFailed(
            f"`{shlex.join(arguments)}` ended with status {child.returncode}; its last lines{where}:\n{tail}"
        )
    return text


def _start(arguments: list[str], **settings: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(arguments, **settings)
    except FileNotFoundError as error:
        raise CommandFailed(f"`{shlex.join(arguments)}` could not be started: {error}") from error


def succeeds(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> bool:
    """Whether a quick check passes."""
    try:
        run(command, env=env)
    except CommandFailed:
        return False
    return True
