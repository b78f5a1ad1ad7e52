"""Work that nobody waits for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

Job = Callable[[], None]


class Background:
    """Runs jobs in a few threads of the kind that Nova runs on; more jobs wait, up to a limit.

    A thread begins with its first job and ends when no job waits. Threads do not keep nova-compute from ending.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._threads = threads
        self._limit = waiting
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[Job] = deque()

    def submit(self, job: Job) -> bool:
        """Runs the job soon. False when too many wait already: then it will not run."""
        with self._lock:
            if self._running >= self._threads:
                if len(self._waiting) >= self._limit:
                    return False
                self._waiting.append(job)
                return True
            self._running += 1
        try:
            threading.Thread(target=self._work, args=(job,), name=self._name, daemon=True).start()
        except RuntimeError:  # The system has no more threads.
            with self._lock:
                self._running -= 1
            return False
        return True

    def _work(self, first: Job) -> None:
        job: Job | None = first
        while job is not None:
            try:
                job()
            except Exception:
                LOG.exception("Work in the background failed (%s)", self._name)
            with self._lock:
                job = self._waiting.popleft() if self._waiting else None
                if job is None:
                    self._running -= 1
