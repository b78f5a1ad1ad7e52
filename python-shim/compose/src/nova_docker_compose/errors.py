"""What is wrong with a Compose file, and where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MOST_MISTAKES = 50
"""So many are told; a hostile file has more."""


class ComposeError(Exception):
    """What the user has to be told; the text has one line for each mistake."""

    exit_code = 1
    """Those of files are `docker compose`'s: 14 where there is none, 15 where one is wrong."""


class NoFile(ComposeError):
    """There is no such file."""

    exit_code = 14


@dataclass
class Source:
    """A file, and the lines on which its parts begin."""

    name: str
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Where:
    """A place in a file."""

    source: Source
    path: tuple[str, ...] = ()

    def at(self, key: object) -> Where:
        """The part of that name or number."""
        return Where(self.source, (*self.path, str(key)))

    def __str__(self) -> str:
        path = self.path
        while path and path not in self.source.lines:
            path = path[:-1]
        line = self.source.lines.get(path)
        place = self.source.name if line is None else f"{self.source.name}:{line}"
        return f"{place}: {'.'.join(self.path)}" if self.path else place

    def wrong(self, problem: str) -> Wrong:
        """The mistake, to be raised."""
        return Wrong(self, problem)

    def warn(self, problem: str) -> None:
        """Tells what works, but otherwise than the file says."""
        self.source.warnings.append(f"{self}: {problem}")


class Wrong(ComposeError):
    """One mistake at one place."""

    def __init__(self, where: Where, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where


@contextmanager
def noted(source: Source) -> Iterator[None]:
    """Keeps a mistake so that the rest of the file is looked at too."""
    try:
        yield
    except Wrong as mistake:
        source.mistakes.append(str(mistake))


def raise_noted(source: Source) -> None:
    """Raises what `noted` has kept."""
    if source.mistakes:
        told = source.mistakes[:MOST_MISTAKES]
        if len(source.mistakes) > MOST_MISTAKES:
            told.append(f"and {len(source.mistakes) - MOST_MISTAKES} more")
        raise ComposeError("\n".join(told))
