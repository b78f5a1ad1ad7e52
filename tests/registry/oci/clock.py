"""A clock that a test moves, for a registry of its own: nobody waits for what has to become old."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """The machine's clocks, and later once it was moved. What it needs is kept in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._file, library = directory / "ahead", directory / "clock.so"
        self._ahead = 0
        self.forward(0)
        subprocess.run(["cc", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(self._file)}
        """Of a process that is to go by it."""

    def forward(self, seconds: int) -> None:
        """So much later from now on, for all processes that go by it."""
        self._ahead += seconds
        # In place: they have the file in their memory.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", self._ahead))
