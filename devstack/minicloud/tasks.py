"""A graph of tasks. Each starts when the tasks it needs are done; several run at a time."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from minicloud import process

_QUIET_SECONDS = 15.0
_SHOWN_SECONDS = 0.5


class TaskFailed(Exception):
    """One of the tasks failed; the message names it and says why."""


@dataclasses.dataclass(frozen=True)
class Task:
    name: str
    action: Callable[[], str | None]
    """Does the work; may return a few words about what was done."""
    after: frozenset[str]


class Progress:
    """Lines with the seconds since the start. Safe to use from several threads."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._last = self._start

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    @property
    def silence(self) -> float:
        """Seconds since the last line."""
        return time.monotonic() - self._last

    def say(self, text: str) -> None:
        with self._lock:
            self._last = time.monotonic()
            print(f"[{self.elapsed:7.1f} s] {text}", file=self._stream, flush=True)


class Graph:
    """Tasks and what each waits for."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Task] = {}

    def add(self, name: str, action: Callable[[], str | None], after: Iterable[str] = ()) -> None:
        """Add a task. Every name in `after` must have been added before, so a cycle cannot be written."""
        needs = frozenset(after)
        unknown = needs - self._tasks.keys()
        if unknown or name in self._tasks:
            raise ValueError(f"task {name}: added twice, or after tasks that do not exist: {sorted(unknown)}")
        self._tasks[name] = Task(name, action, needs)

    def run(self) -> None:
        """Run everything. The first failure stops the rest; raises TaskFailed, or KeyboardInterrupt."""
        waiting = dict(self._tasks)
        running: dict[concurrent.futures.Future[str | None], tuple[Task, float]] = {}
        done: set[str] = set()
        failure: TaskFailed | None = None
        # Threads only wait for processes and sockets; work that needs a processor limits itself.
        with concurrent.futures.ThreadPoolExecutor(max_workers=32) as pool:
            try:
                while (waiting and failure is None) or running:
                    if failure is None:
                        for task in [task for task in waiting.values() if task.after <= done]:
                            del waiting[task.name]
                            running[pool.submit(task.action)] = (task, time.monotonic())
                    finished, _ = concurrent.futures.wait(
                        running, timeout=1.0, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    for future in finished:
                        task, started = running.pop(future)
                        error = future.exception()
                        if error is None:
                            done.add(task.name)
                            self._report(task, time.monotonic() - started, future.result())
                        elif failure is None and not isinstance(error, process.Interrupted):
                            failure = TaskFailed(f"{task.name}: {error}")
                            failure.__cause__ = error
                            process.stop_children()
                    self._still_running(running.values())
            except KeyboardInterrupt:
                names = ", ".join(sorted(task.name for task, _ in running.values()))
                self._progress.say(f"interrupted; ending: {names}")
                process.stop_children()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if failure is not None:
            raise failure

    def _report(self, task: Task, seconds: float, words: str | None) -> None:
        if seconds >= _SHOWN_SECONDS or words:
            detail = f": {words}" if words else ""
            self._progress.say(f"{task.name}{detail} ({seconds:.1f} s)")

    def _still_running(self, running: Iterable[tuple[Task, float]]) -> None:
        if self._progress.silence > _QUIET_SECONDS:
            now = time.monotonic()
            names = ", ".join(f"{task.name} ({now - started:.0f} s)" for task, started in running)
            if names:
                self._progress.say(f"  still running: {names}")
