"""What a terminal shows while a command works."""

from __future__ import annotations

import io
import os
import re
import shutil

import pytest
from nova_docker_compose.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        """The lines that are seen at the end."""
        lines: list[str] = []
        at = 0
        for up, clear, text in re.findall("\x1b\\[([0-9]+)A|(\x1b\\[J)|([^\n]*\n)", self.getvalue()):
            if up:
                at -= int(up)
                assert at >= 0
            elif clear:
                del lines[at:]
            else:
                lines[at : at + 1] = [text.removeprefix("\x1b[2K").rstrip("\n")]
                at += 1
        return lines


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((40, 6)))


def told(*lines: str) -> list[str]:
    terminal = Terminal()
    progress = Progress(terminal)
    for line in lines:
        progress(line)
    return terminal.shown()


def test_each_server_has_a_line_which_changes_in_its_place() -> None:
    assert told("a-1: creating", "b-1: creating", "a-1: running", "b-1: reached at 10.0.0.1") == [
        "a-1: running",
        "b-1: reached at 10.0.0.1",
    ]


def test_warnings_and_what_has_no_state_stay_above() -> None:
    assert told("a-1: creating", "warning: a: b", "a-1: running", "network p_default: created") == [
        "warning: a: b",
        "network p_default: created",
        "a-1: running",
    ]


def test_what_a_command_in_a_server_has_written_stays_above() -> None:
    assert told("a-1: creating", "a-1: post_start: one", "a-1: post_start: two", "a-1: running") == [
        "a-1: post_start: one",
        "a-1: post_start: two",
        "a-1: running",
    ]


def test_what_is_long_or_hostile_takes_one_line() -> None:
    assert told("a-1: it is in ERROR (" + "x" * 100 + ")", "b-1: \x1b[2J\nmore", "a-1: creating") == [
        "a-1: creating",
        "b-1:  [2J more",
    ]


def test_what_leaves_the_screen_stays_as_it_was() -> None:
    lines = told(*(f"a-{number}: creating" for number in range(8)), "a-7: running")
    assert lines[-5:] == ["a-3: creating", "a-4: creating", "a-5: creating", "a-6: creating", "a-7: running"]
    assert len(lines) == 8


def test_without_a_terminal_every_line_is_printed() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    for line in ("a-1: creating", "a-1: running"):
        progress(line)
    assert stream.getvalue() == "a-1: creating\na-1: running\n"
