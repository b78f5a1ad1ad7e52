"""supervisord: its configuration, its life, and its RPC interface over a unix socket."""

from __future__ import annotations

import contextlib
import http.client
import shlex
import socket
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from minicloud import process
from minicloud.config.ini import Ini, Value, render
from minicloud.files import write_file
from minicloud.layout import Layout
from minicloud.programs import STATE_VARIABLE, Program, environment

_LOG_BYTES = 20 * 1024 * 1024

_STOPPED = {"STOPPED", "EXITED", "FATAL"}

# How often a program may be started before it counts as broken.
_LIVES = 3


class SupervisorError(Exception):
    """supervisord does not answer, or a program did not do what it was told."""


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def configuration(layout: Layout, programs: Iterable[Program]) -> Ini:
    """supervisord.conf. Nothing starts by itself: `up` starts each program when what it needs is there."""
    conf: dict[str, dict[str, Value]] = {
        "unix_http_server": {"file": str(layout.supervisor_socket), "chmod": "0700"},
        "supervisord": {
            "logfile": f"{layout.log}/supervisord.log",
            "pidfile": f"{layout.run}/supervisord.pid",
            "childlogdir": str(layout.log),
            "minfds": 4096,
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisorctl": {"serverurl": f"unix://{layout.supervisor_socket}"},
    }
    for program in programs:
        variables = environment(layout, program)
        conf[f"program:{program.name}"] = {
            "command": _escape(shlex.join(program.command)),
            "environment": ",".join(f'{name}="{_escape(value)}"' for name, value in variables.items()),
            "user": program.user,
            "directory": "/",
            "autostart": False,
            "autorestart": True,
            "startsecs": 2,
            "startretries": 10,
            "stopsignal": program.stop_signal,
            "stopwaitsecs": program.stop_seconds,
            "stopasgroup": program.stop_group,
            "killasgroup": True,
            "redirect_stderr": True,
            "stdout_logfile": f"{layout.log}/{program.name}.log",
            "stdout_logfile_maxbytes": _LOG_BYTES,
            "stdout_logfile_backups": 1,
        }
    return conf


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # One connection for each call: the calls come from many threads.
        return _UnixConnection(str(self._path))


class Supervisor:
    """The running supervisord of one cloud. Safe to use from several threads."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def _call(self, method: str, *arguments: object) -> Any:
        transport = _UnixTransport(self._layout.supervisor_socket)
        with xmlrpc.client.ServerProxy("http://supervisor/RPC2", transport=transport) as server:
            try:
                return getattr(server.supervisor, method)(*arguments)
            except OSError as error:
                raise SupervisorError(
                    f"supervisord does not answer on {self._layout.supervisor_socket}: {error}"
                ) from error

    def answers(self) -> bool:
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except SupervisorError:
            return False

    def configure(self, programs: Iterable[Program]) -> None:
        """Write the configuration, start supervisord if need be, and stop what changed or is no longer wanted."""
        # The environment lines hold no secret, but only root needs them.
        path = self._layout.etc / "supervisord.conf"
        write_file(path, render(configuration(self._layout, programs)), mode=0o600)
        if not self.answers():
            self._start(path)
            return
        [[added, changed, removed]] = self._call("reloadConfig")
        # What goes may need what changes to end in order: nova-compute the agent, when the door is changed.
        for names in (removed, changed):
            self._stop(names)
        for name in [*changed, *removed]:
            self._call("removeProcessGroup", name)
        for name in [*changed, *added]:
            self._call("addProcessGroup", name)

    def _start(self, config: Path) -> None:
        for leftover in (self._layout.supervisor_socket, self._layout.run / "supervisord.pid"):
            leftover.unlink(missing_ok=True)
        process.run(
            # -P: this module lies beside the script and has the name of supervisor's package.
            [self._layout.python, "-BP", Path(__file__).with_name("supervisord_main.py"), "-c", config],
            log=self._layout.log / "supervisord-start.log",
            env=process.clean_environment(**{STATE_VARIABLE: str(self._layout.root)}),
        )
        wait_until(self.answers, 30, "supervisord to answer")

    def start(self, name: str) -> None:
        """Start a program that does not run. Returns before it is ready."""
        with _ignoring("ALREADY_STARTED"):
            self._call("startProcess", name, False)

    def start_and_wait(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Start a program and wait until it is ready.

        Raises SupervisorError with the end of its log if it keeps dying, TimedOut if it is merely not ready.
        """
        self.start(name)
        log = self._layout.log / f"{name}.log"
        seen: set[int] = set()

        def ready_or_dead() -> bool:
            info = self._call("getProcessInfo", name)
            if info["pid"]:
                seen.add(info["pid"])
            if info["statename"] == "FATAL" or len(seen) > _LIVES:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
                raise SupervisorError(f"{name} ends again and again; the end of {log}:\n{tail}")
            return ready()

        wait_until(ready_or_dead, seconds, f"{name} to be ready; see {log}")

    def stop(self, programs: Iterable[Program]) -> None:
        """Stop several programs at once and wait for all."""
        self._stop([program.name for program in programs])

    def _stop(self, names: list[str]) -> None:
        for name in names:
            with _ignoring("NOT_RUNNING", "BAD_NAME"):
                self._call("stopProcess", name, False)
        wait_until(
            lambda: all(state in _STOPPED for name, state in self.states().items() if name in names),
            90,
            f"these to stop: {', '.join(names)}",
        )

    def states(self) -> dict[str, str]:
        """The state of each program, in supervisor's words."""
        return {info["name"]: info["statename"] for info in self._call("getAllProcessInfo")}

    def info(self) -> dict[str, dict[str, Any]]:
        """Everything that supervisor knows of each program."""
        return {info["name"]: info for info in self._call("getAllProcessInfo")}

    def shutdown(self) -> None:
        self._call("shutdown")
        wait_until(lambda: not self.answers(), 60, "supervisord to end")


@contextlib.contextmanager
def _ignoring(*faults: str) -> Iterator[None]:
    """Ignore supervisor's faults that say that the wanted state is already reached."""
    try:
        yield
    except xmlrpc.client.Fault as fault:
        if not any(fault.faultString.startswith(word) for word in faults):
            raise SupervisorError(f"supervisor: {fault.faultString}") from fault


class TimedOut(Exception):
    """Something did not happen in time."""


def wait_until(condition: Callable[[], object], seconds: float, what: str, every: float = 0.2) -> None:
    """Ask until `condition()` is true. Only for things that offer no event to wait for."""
    end = time.monotonic() + seconds
    while not condition():
        if process.stopping():
            raise process.Interrupted
        if time.monotonic() > end:
            raise TimedOut(f"waited {seconds:.0f} s for {what}")
        time.sleep(every)
