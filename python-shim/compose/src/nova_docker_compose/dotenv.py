"""Files of variables: `.env` and what `env_file` names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nova_docker_compose.interpolation import Unusable, interpolate

_NAME = re.compile(r"\s*(?:export\s+)?([^\s=:#'\"$]+)[ \t]*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$$"}
MOST_BYTES = 1 << 20


class BadLine(ValueError):
    """A line that is no variable; says which and why."""


def parse(text: str, outside: Mapping[str, str]) -> dict[str, str | None]:
    """The variables of a file, None for those that are only named. `outside` fills in what the file itself does not
    say; it also wins. Raises BadLine."""
    if len(text) > MOST_BYTES:
        raise BadLine(f"more than {MOST_BYTES} characters")
    made: dict[str, str | None] = {}
    at = 0
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    while at < len(text):
        end = _line_end(text, at)
        if not text[at:end].strip() or text[at:end].lstrip().startswith("#"):
            at = end + 1
            continue
        at = _variable(text, at, end, made, outside)
    return made


def parse_raw(text: str) -> dict[str, str | None]:
    """The same of a file with `format: raw`: what follows `=` is the value."""
    made: dict[str, str | None] = {}
    for line in text.removeprefix("\ufeff").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            name, equals, value = line.partition("=")
            made[name.strip()] = value if equals else None
    return made


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _variable(text: str, at: int, end: int, made: dict[str, str | None], outside: Mapping[str, str]) -> int:
    """Reads the variable that begins at `at`; returns where the next line begins."""
    number = text.count("\n", 0, at) + 1
    match = _NAME.match(text, at, end)
    if match is None:
        raise BadLine(f"line {number}: it is no NAME=VALUE")
    name, start = match[1], match.end()
    if start >= end or text[start] == "#":
        made[name] = None
        return end + 1
    if text[start] not in "=:":
        raise BadLine(f"line {number}: the name has a space in it")
    start += 1
    while start < end and text[start] in " \t":
        start += 1
    known = {**{key: value for key, value in made.items() if value is not None}, **outside}
    try:
        if start < end and text[start] in "'\"":
            made[name], end = _quoted(text, start, known)
        else:
            made[name] = interpolate(_without_comment(text[start:end]), known)
    except Unusable as error:
        raise BadLine(f"line {number}: {error}") from error
    return end + 1


def _without_comment(value: str) -> str:
    found = re.search(r"(^|\s)#", value)
    return (value[: found.start()] if found else value).strip()


def _quoted(text: str, start: int, known: Mapping[str, str]) -> tuple[str, int]:
    """The value, which may go over several lines, and where its last line ends."""
    quote, at, made = text[start], start + 1, []
    while at < len(text) and text[at] != quote:
        if text[at] == "\\" and at + 1 < len(text):
            following = text[at + 1]
            if quote == '"':
                made.append(_ESCAPES.get(following, "\\" + following))
            else:
                made.append("'" if following == "'" else "\\" + following)
            at += 2
        else:
            made.append(text[at])
            at += 1
    if at >= len(text):
        raise Unusable("a quote is not closed")
    end = _line_end(text, at)
    rest = text[at + 1 : end].strip()
    if rest and not rest.startswith("#"):
        raise Unusable("something follows the closing quote")
    value = "".join(made)
    return (interpolate(value, known) if quote == '"' else value), end
