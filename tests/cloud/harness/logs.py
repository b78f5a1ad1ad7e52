"""Logs of the cloud's programs, which supervisord rotates once they are long."""

from __future__ import annotations

from pathlib import Path


class Tail:
    """What is written to a log from now on."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._inode, self._size = _identity(log)

    def text(self) -> str:
        """All of it, from the file that was rotated away meanwhile too."""
        if _identity(self.log)[0] == self._inode:
            return _read(self.log, self._size)
        older = self.log.with_name(f"{self.log.name}.1")
        # Rotated twice since: its beginning is lost.
        start = self._size if _identity(older)[0] == self._inode else 0
        return _read(older, start) + _read(self.log, 0)


def whole(log: Path) -> str:
    """All that is kept of a log."""
    return _read(log.with_name(f"{log.name}.1"), 0) + _read(log, 0)


def _identity(log: Path) -> tuple[int, int]:
    """Inode and size; of no file zeros."""
    try:
        status = log.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_size


def _read(log: Path, start: int) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(start)
        return stream.read().decode(errors="replace")
