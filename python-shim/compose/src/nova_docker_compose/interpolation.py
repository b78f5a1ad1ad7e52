"""Variables in the values of a Compose file: `$NAME`, `${NAME}`, with `:-`, `-`, `:?`, `?`, `:+` and `+`, and `$$`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nova_docker_compose.errors import Where
from nova_docker_compose.reader import Override

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATOR = re.compile(r":?[-?+]")
_MOST_LEVELS = 20
_LONGEST = 1 << 20


class Unusable(ValueError):
    """The text has a variable that cannot be filled in; says why."""


def interpolate(text: str, variables: Mapping[str, str], unset: Callable[[str], None] = lambda name: None) -> str:
    """The text with its variables filled in. `unset` hears of those that are not there. Raises Unusable."""
    value, _ = _Filler(text, variables, unset).fill(0, closing=False, level=0)
    return value


def interpolate_all(value: Any, variables: Mapping[str, str], where: Where) -> Any:
    """The same for all texts of a document but its keys. Raises Wrong."""
    if isinstance(value, Override):
        return Override(interpolate_all(value.value, variables, where))
    if isinstance(value, dict):
        return {key: interpolate_all(item, variables, where.at(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate_all(item, variables, where.at(number)) for number, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return interpolate(
            value, variables, lambda name: where.warn(f"the variable {name} is not set: an empty text takes its place")
        )
    except Unusable as error:
        raise where.wrong(str(error)) from error


class _Filler:
    def __init__(self, text: str, variables: Mapping[str, str], unset: Callable[[str], None]) -> None:
        self._text = text
        self._variables = variables
        self._unset = unset

    def fill(self, at: int, closing: bool, level: int, taken: bool = True) -> tuple[str, int]:
        """The text from `at` to its end, or with `closing` to the brace that closes it, and where that is.

        What is not `taken` is only skipped: its variables need not be there.
        """
        if level > _MOST_LEVELS:
            raise Unusable(f"variables within variables, more than {_MOST_LEVELS} levels")
        made: list[str] = []
        text = self._text
        while at < len(text):
            if closing and text[at] == "}":
                return "".join(made), at
            if text[at] != "$":
                made.append(text[at])
                at += 1
            else:
                value, at = self._variable(at + 1, level, taken)
                made.append(value)
            if len(made) > _LONGEST:
                raise Unusable("the text is too long")
        if closing:
            raise Unusable("a variable has no closing brace")
        return "".join(made), at

    def _variable(self, at: int, level: int, taken: bool) -> tuple[str, int]:
        text = self._text
        if text.startswith("$", at):
            return "$", at + 1
        if text.startswith("{", at):
            return self._braced(at + 1, level, taken)
        match = _NAME.match(text, at)
        if match is None:
            return "$", at
        return self._value(match[0], taken), match.end()

    def _value(self, name: str, taken: bool) -> str:
        value = self._variables.get(name)
        if value is None and taken:
            self._unset(name)
        return value or ""

    def _braced(self, at: int, level: int, taken: bool) -> tuple[str, int]:
        match = _NAME.match(self._text, at)
        if match is None:
            raise Unusable("${ is not followed by a name")
        name, at = match[0], match.end()
        if self._text.startswith("}", at):
            return self._value(name, taken), at + 1
        if at == len(self._text):
            raise Unusable(f"the variable {name} has no closing brace")
        operator = _OPERATOR.match(self._text, at)
        if operator is None:
            raise Unusable(f"what follows {name} is no operator of Compose (:- - :? ? :+ +)")
        there = self._variables.get(name)
        usable = bool(there) if operator[0].startswith(":") else there is not None
        kind = operator[0][-1]
        other, end = self.fill(operator.end(), True, level + 1, taken and usable == (kind == "+"))
        if kind == "+":
            return other if usable else "", end + 1
        if usable:
            return there or "", end + 1
        if kind == "?" and taken:
            raise Unusable(f"the variable {name} must be set" + (f": {other}" if other else ""))
        return other, end + 1
