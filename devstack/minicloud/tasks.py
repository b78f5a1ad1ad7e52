"""A graph of tasks. Each starts when the tasks it needs are done; several run at a time."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import enum
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

from minicloud import process

_QUIET_SECONDS = 15.0
_SHOWN_SECONDS = 0.5


class TaskFailed(Exception):
    """One of the tasks failed; the message names it and says why."""


class Kind(enum.StrEnum):
    """What the time of a task goes into."""

    DOWNLOADS = "downloads"
    BUILDS = "builds"
    SERVICES = "services"
    """Their files, databases and first contents."""
    WAITING = "waiting"
    """From the start of a program until it answers."""


@dataclasses.dataclass(frozen=True)
class Task:
    name: str
    action: Callable[[], str | None]
    """Does the work; may return a few words about what was done."""
    after: frozenset[str]
    kind: Kind


@dataclasses.dataclass(frozen=True)
class Span:
    """When a task ran. Seconds of the monotonic clock."""

    begin: float
    end: float


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
        self._spans: dict[str, Span] = {}

    def add(
        self,
        name: str,
        action: Callable[[], str | None],
        after: Iterable[str] = (),
        kind: Kind = Kind.SERVICES,
    ) -> None:
        """Add a task. Every name in `after` must have been added before, so a cycle cannot be written."""
        needs = frozenset(after)
        unknown = needs - self._tasks.keys()
        if unknown or name in self._tasks:
            raise ValueError(f"task {name}: added twice, or after tasks that do not exist: {sorted(unknown)}")
        self._tasks[name] = Task(name, action, needs, kind)

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
                            self._spans[task.name] = span = Span(started, time.monotonic())
                            self._report(task, span.end - span.begin, future.result())
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

    def spent(self) -> str:
        """What the time went into: of each kind what the whole waited for, and in brackets while any such task ran."""
        tasks = [self._tasks[name] for name in self._spans]
        decisive = longest_way(tasks, self._spans)
        parts = []
        for kind in Kind:
            own = covered(self._spans[task.name] for task in tasks if task.kind is kind)
            parts.append(f"{kind} {decisive.get(kind, 0.0):.0f} s ({own:.0f} s)")
        return f"on the longest way: {', '.join(parts)}"

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


def longest_way(tasks: Iterable[Task], spans: Mapping[str, Span]) -> dict[Kind, float]:
    """The seconds of each kind on the way that decided when the last task ended.

    It leads from each task to the one that it waited for last.
    """
    by_name = {task.name: task for task in tasks}
    seconds: dict[Kind, float] = {}
    name = max(by_name, key=lambda name: spans[name].end, default=None)
    while name is not None:
        task = by_name[name]
        before = max(task.after, key=lambda name: spans[name].end, default=None)
        begin = spans[name].begin if before is None else spans[before].end
        seconds[task.kind] = seconds.get(task.kind, 0.0) + spans[name].end - begin
        name = before
    return seconds


def covered(spans: Iterable[Span]) -> float:
    """The seconds in which at least one of them ran."""
    total, until = 0.0, float("-inf")
    for span in sorted(spans, key=lambda span: span.begin):
        total += max(0.0, span.end - max(span.begin, until))
        until = max(until, span.end)
    return total
