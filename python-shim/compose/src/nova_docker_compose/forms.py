"""The forms that values of a Compose file have. Each checks a value and returns it in Compose's long form.

A form raises `Wrong` at the place of the mistake.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from nova_docker_compose.errors import Where
from nova_docker_compose.reader import Override, Reset

Form = Callable[[Any, Where], Any]

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SIZE = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h|d|w)")
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_UNITS = " kmgtp"


def formed(form: Form, value: Any, where: Where) -> Any:
    """The value in its form; the marks of `!reset` and `!override` stay."""
    if isinstance(value, Reset):
        return value
    if isinstance(value, Override):
        return Override(form(value.value, where))
    return form(value, where)


def kind_of(value: Any) -> str:
    """What a value is, for a sentence."""
    names = {dict: "a map", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def text(value: Any, where: Where) -> str:
    """A text; a number or a truth is its text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:.15g}" if isinstance(value, float) else str(value)
    if not isinstance(value, str):
        raise where.wrong(f"it is {kind_of(value)}, and must be a text")
    if "\0" in value:
        raise where.wrong("it has a zero byte")
    return value


def truth(value: Any, where: Where) -> bool:
    """True or false; also as a text, which interpolation leaves."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise where.wrong(f"it is {kind_of(value)}, and must be true or false")


def number(value: Any, where: Where) -> int | float:
    """A number; also as a text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise where.wrong("it is larger than any number")
        return value
    if isinstance(value, str) and len(value) < 30 and _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    raise where.wrong(f"it is {kind_of(value)}, and must be a number")


def whole(value: Any, where: Where) -> int:
    """A whole number; also as a text."""
    made = number(value, where)
    if made != int(made):
        raise where.wrong("it must be a whole number")
    return int(made)


def mode(value: Any, where: Where) -> int:
    """The mode of a file: a number, or an octal one as a text."""
    if isinstance(value, str) and re.fullmatch("0?[0-7]{3,4}", value):
        return int(value, 8)
    return whole(value, where)


def size(value: Any, where: Where) -> str:
    """Bytes, as digits. Units are powers of 1024."""
    match = _SIZE.fullmatch(text(value, where).strip())
    if match is None or len(match[1]) > 20:
        raise where.wrong("it must be a size such as 512m")
    return str(int(float(match[1]) * 1024 ** _UNITS.index(match[2].lower() or " ")))


def seconds(duration: str) -> float | None:
    """The seconds of a duration such as 1m30s."""
    parts = _DURATION.findall(duration)
    if not parts or "".join(amount + unit for amount, unit in parts) != duration:
        return None
    return sum(float(amount) * _SECONDS[unit] for amount, unit in parts)


def duration(value: Any, where: Where) -> str:
    """A duration, in hours, minutes and seconds."""
    made = seconds(text(value, where)) if value not in (0, "0") else 0.0
    if made is None or made > 1e9:
        raise where.wrong("it must be a duration such as 1m30s")
    if 0 < made < 1:
        return f"{made * 1000:.6g}ms" if made >= 1e-3 else f"{made * 1e6:.6g}us"
    hours, rest = divmod(made, 3600)
    minutes, rest = divmod(rest, 60)
    shown = f"{hours:.0f}h" if hours else ""
    shown += f"{minutes:.0f}m" if hours or minutes else ""
    return f"{shown}{rest:.9g}s"


def one_of(*allowed: str) -> Form:
    """One of these texts."""

    def form(value: Any, where: Where) -> str:
        if value not in allowed:
            raise where.wrong(f"it must be one of {', '.join(allowed)}")
        return str(value)

    return form


def anything(value: Any, where: Where) -> Any:
    """What is not looked at."""
    return _unmarked(value)


def _unmarked(value: Any) -> Any:
    if isinstance(value, Override):
        return _unmarked(value.value)
    if isinstance(value, dict):
        return {key: _unmarked(item) for key, item in value.items() if not isinstance(item, Reset)}
    return [_unmarked(item) for item in value if not isinstance(item, Reset)] if isinstance(value, list) else value


def items(form: Form) -> Form:
    """A list."""

    def listed(value: Any, where: Where) -> list[Any]:
        if not isinstance(value, list):
            raise where.wrong(f"it is {kind_of(value)}, and must be a list")
        return [form(item, where.at(place)) for place, item in enumerate(value)]

    return listed


texts = items(text)


def one_or_more(value: Any, where: Where) -> list[str]:
    """A text or a list of texts."""
    made: list[str] = texts(value if isinstance(value, list) else [value], where)
    return made


def map_of(form: Form) -> Form:
    """A map of any names."""

    def mapped(value: Any, where: Where) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise where.wrong(f"it is {kind_of(value)}, and must be a map")
        return {key: formed(form, item, where.at(key)) for key, item in value.items()}

    return mapped


def record(keys: Mapping[str, Form], needed: tuple[str, ...] = ()) -> Form:
    """A map of these keys, and of any that begin with x-."""

    def form(value: Any, where: Where) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise where.wrong(f"it is {kind_of(value)}, and must be a map")
        missing = [key for key in needed if value.get(key) is None]
        if missing:
            raise where.wrong(f"{missing[0]} is missing")
        made = {}
        for key, item in value.items():
            if key.startswith("x-"):
                made[key] = anything(item, where.at(key))
            elif key not in keys:
                raise where.at(key).wrong(f"there is no such key{hint(key, keys)}")
            elif item is not None:
                made[key] = formed(keys[key], item, where.at(key))
        return made

    return form


def hint(key: str, keys: Mapping[str, object]) -> str:
    """The key that is meant, if another is near."""

    near = difflib.get_close_matches(key, list(keys), 1)
    return f"; is {near[0]} meant?" if near else ""


def pairs(value: Any, where: Where) -> dict[str, Any]:
    """A map of texts, or a list of NAME=VALUE; None where there is no value."""
    if isinstance(value, list):
        value = _split(value, where, "=")
    made: dict[str, Any] = map_of(lambda item, place: None if item is None else text(item, place))(value, where)
    if "" in made:
        raise where.wrong("a name is missing")
    return made


def labels(value: Any, where: Where) -> dict[str, Any]:
    """The same, where no value is an empty one."""
    return {key: "" if item is None else item for key, item in pairs(value, where).items()}


def _split(value: list[Any], where: Where, separators: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for place, item in enumerate(value):
        line = text(item, where.at(place))
        found = next((separator for separator in separators if separator in line), None)
        name, _, rest = line.partition(found) if found else (line, "", None)
        made[name.strip() if found != "=" else name] = rest
    return made


def hosts(value: Any, where: Where) -> dict[str, Any]:
    """NAME=ADDRESS or NAME:ADDRESS in a list, or a map of addresses."""
    if isinstance(value, list):
        made: dict[str, Any] = {}
        for place, item in enumerate(value):
            for name, address in _split([item], where, "=:").items():
                if not address:
                    raise where.at(place).wrong("it must be NAME=ADDRESS")
                made.setdefault(name, []).append(address.strip().strip("[]"))
        return made
    mapped: dict[str, Any] = map_of(one_or_more)(value, where)
    return mapped


def command(value: Any, where: Where) -> list[str]:
    """The words of a command; a text is split as a shell splits it."""
    if isinstance(value, list):
        made: list[str] = texts(value, where)
        return made
    try:
        return shlex.split(text(value, where))
    except ValueError as error:
        raise where.wrong("a quote is not closed") from error
