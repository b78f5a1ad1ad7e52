"""The INI files of oslo.config, MariaDB, uWSGI and supervisor."""

from __future__ import annotations

from collections.abc import Mapping

Value = str | int | bool | tuple[str, ...]
"""A tuple is an option that is said several times."""

Section = Mapping[str, Value]
Ini = Mapping[str, Section]


def merge(*parts: Ini) -> dict[str, dict[str, Value]]:
    """Combine sections; a later part wins, option by option."""
    result: dict[str, dict[str, Value]] = {}
    for part in parts:
        for name, section in part.items():
            result.setdefault(name, {}).update(section)
    return result


def render(ini: Ini) -> str:
    """The text of an INI file. Raises ValueError for a value that does not fit on a line."""
    blocks = []
    for name, section in ini.items():
        lines = [f"[{name}]"]
        for option, value in section.items():
            several = value if isinstance(value, tuple) else (value,)
            lines += [f"{option} = {_text(name, option, each)}".rstrip() for each in several]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _text(section: str, option: str, value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if "\n" in text or "\r" in text:
        raise ValueError(f"[{section}] {option}: the value has a line break")
    return text
