"""Waiting for what a cloud does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TimedOut(AssertionError):
    """What a test waited for did not happen; the message says what was seen last."""


def eventually(probe: Callable[[], T], what: str, seconds: float = 30.0, interval: float = 0.3) -> T:
    """Call `probe` until its result is true, and return that. Raises TimedOut with the last result."""
    end = time.monotonic() + seconds
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > end:
            raise TimedOut(f"after {seconds:.0f} s still not: {what}; last seen: {result!r}")
        time.sleep(interval)


def always(probe: Callable[[], T], what: str, seconds: float, interval: float = 0.5) -> None:
    """Fail as soon as `probe` is not true during `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert probe(), f"no longer: {what}"
        time.sleep(interval)
