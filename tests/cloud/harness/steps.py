"""Kills a program before a step that changes something, on its disk, in the network, or in another service."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("steps.c")
_SIZE = 256


class Steps:
    """Which step a process that goes by it does not take. What it needs is kept in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._file, library = directory / "steps", directory / "steps.so"
        self._file.write_bytes(bytes(_SIZE))
        command = ["cc", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"]
        subprocess.run(command, check=True)
        self.environment = {"LD_PRELOAD": str(library), "STEPS": str(self._file)}
        """Of a process that is to go by it."""

    def kill_at(self, number: int) -> None:
        """Of the steps from now on, the process does not take that of this number; 0: it takes all."""
        # In place: the process has the file in its memory.
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", number).ljust(_SIZE, b"\0"))

    def keep_nothing(self) -> None:
        """The disk takes nothing of what the process asks it to keep, until `kill_at` is called."""
        self.kill_at(-1)

    @property
    def not_taken(self) -> str:
        """The step before which the process was killed; empty while it was not."""
        return self._file.read_bytes()[8:].partition(b"\0")[0].decode(errors="replace")
