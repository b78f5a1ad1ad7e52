"""Requests one after the other, as users make them, while something else goes on."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
import urllib.request
from collections.abc import Iterator

_BETWEEN = 0.02
"""Seconds between two requests of one user."""


class Load:
    """What came of the requests."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/"
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._pages: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    def request(self) -> None:
        """One request, counted."""
        begun = time.monotonic()
        try:
            with urllib.request.urlopen(self._url, timeout=60) as answer:
                page = answer.read().decode().strip()
        except OSError as error:
            with self._lock:
                self.failures.append(f"{error!r} after {time.monotonic() - begun:.1f} s")
        else:
            with self._lock:
                self._pages[page] += 1

    def seen_since(self) -> set[str]:
        """The pages that came since the last question."""
        with self._lock:
            seen = set(self._pages)
            self._pages.clear()
        return seen

    def _go_on(self) -> None:
        while not self._end.wait(_BETWEEN):
            self.request()

    @contextlib.contextmanager
    def going_on(self, users: int = 3) -> Iterator[Load]:
        """So many users at once, until the end of the block."""
        threads = [threading.Thread(target=self._go_on) for _ in range(users)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._end.set()
            for thread in threads:
                thread.join()
