"""Waiting for what a cloud does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TimedOut(AssertionError):
    """What a test waited for did not happen; the message says what was seen last."""


def eventually(probe: Callable[[], T | None], what: str, seconds: float = 300, interval: float = 0.3) -> T:
    """Call `probe` until its result is true, and return that. Raises TimedOut with the last result.

    It is called once more after `seconds`: however slow the machine is, what has happened by then is seen.
    """
    end = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() > end
        result = probe()
        if result:
            return result
        if is_last:
            raise TimedOut(f"after {seconds:.0f} s still not: {what}; last seen: {result!r}")
        time.sleep(interval)
