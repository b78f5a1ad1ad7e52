"""The user's terminal at one end of a channel."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator

from nova_docker_compose.channel import ERRORS, Channel
from nova_docker_compose.errors import ComposeError

_CHUNK = 16 * 1024


def is_terminal() -> bool:
    """Whether a command can have the user's terminal as its own."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def window() -> dict[str, int] | None:
    """The size of the user's window, as the channel takes it."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return None
    return {"rows": size.lines, "columns": size.columns} if size.lines and size.columns else None


class Show:
    """Writes what comes to standard output and standard error."""

    def __init__(self) -> None:
        self.count = 0
        """Bytes that have come."""

    def __call__(self, kind: int, data: bytes) -> None:
        """Takes what was written next."""
        self.count += len(data)
        stream = sys.stderr if kind == ERRORS else sys.stdout
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()


def attach(channel: Channel, stdin: bool, tty: bool, show: Show | None = None) -> int:
    """Joins standard input, output and error with a channel until its end. Returns the exit code."""
    with _raw() if tty else contextlib.nullcontext(), _resizing(channel) if tty else contextlib.nullcontext():
        if stdin:
            # It may wait for a key when all else has ended.
            threading.Thread(target=_type, args=(channel,), daemon=True).start()
        return channel.run(show or Show())


def _type(channel: Channel) -> None:
    # What ends the channel is told by whoever reads from it.
    with contextlib.suppress(OSError, ComposeError, ValueError):
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            channel.send_input(data)
        channel.end_input()


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Keys go to the other end, Ctrl-C too. The terminal is restored whatever happens."""
    import termios
    import tty

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    try:
        # What was typed ahead is kept.
        tty.setraw(stdin, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizing(channel: Channel) -> Iterator[None]:
    """Tells each new size of the window. A handler may come in the midst of a send, so another thread does it."""
    changes: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def tell() -> None:
        with contextlib.suppress(ComposeError):
            while changes.get():
                size = window()
                if size is not None:
                    channel.resize(**size)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    before = signal.signal(signal.SIGWINCH, lambda *_: changes.put(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
        changes.put(False)
