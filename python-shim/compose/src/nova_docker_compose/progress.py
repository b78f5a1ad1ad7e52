"""What a command tells while it works: on a terminal a line for each thing, which changes in its place."""

from __future__ import annotations

import shutil
from typing import TextIO

from nova_docker_compose.project import POST_START, PRE_STOP

_LASTING = ("building ", f"{POST_START}: ", f"{PRE_STOP}: ")
"""What builds writes below its line, and what a command has written is not to be lost."""


class Progress:
    """Takes lines. `NAME: STATE` is the state of a thing; everything else, warnings too, is printed for good."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._in_place = stream.isatty()
        self._states: dict[str, str] = {}
        self._drawn = 0

    def __call__(self, line: str) -> None:
        """Tells a line."""
        name, colon, state = line.partition(": ")
        is_state = bool(colon) and " " not in name and name != "warning" and not state.startswith(_LASTING)
        if not self._in_place:
            print(line, file=self._stream, flush=True)
        elif is_state:
            self._states[name] = "".join(char if char.isprintable() else " " for char in state)
            self._draw()
        else:
            self._draw(line)

    def _draw(self, above: str | None = None) -> None:
        """Draws the things in the place where they were drawn before, below a line that is new."""
        columns, lines = shutil.get_terminal_size()
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        new = "" if above is None else f"\x1b[J{above}\n"
        rows = [f"{name}: {state}"[: columns - 1] for name, state in self._states.items()]
        self._stream.write(up + new + "".join(f"\x1b[2K{row}\n" for row in rows))
        self._stream.flush()
        # What leaves the screen cannot be changed any more.
        for name in list(self._states)[: max(0, len(rows) - lines + 1)]:
            del self._states[name]
        self._drawn = len(self._states)
