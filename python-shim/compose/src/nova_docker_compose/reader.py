"""Reads YAML as Compose does: the core types of YAML 1.2, anchors and merge keys, `!reset` and `!override`.

PyYAML's own types are those of YAML 1.1, where `22:22` is 1342 and `no` is false. A file is not trusted: its size, its
depth and what its aliases unfold to are bounded, and a key that is there twice is a mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from nova_docker_compose.errors import ComposeError, Source, Where

MOST_BYTES = 1 << 20
MOST_PARTS = 50_000
"""Of a document whose aliases are unfolded."""
MOST_LEVELS = 64
_CORE = "tag:yaml.org,2002:"
_PLAIN = "!plain"
"""Stands for the tag of a scalar that has neither tag nor quotes."""
_TAGS = ("str", "int", "float", "bool", "null", "map", "seq")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_OCTAL = re.compile(r"0o?([0-7]+)")
_HEXADECIMAL = re.compile(r"0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 40


@dataclass(frozen=True)
class Reset:
    """`!reset`: what earlier files say of the key goes."""


@dataclass(frozen=True)
class Override:
    """`!override`: the value takes the place of what earlier files say, without merging."""

    value: Any


def read(text: str | bytes, source: Source) -> Any:
    """The content of a document of maps with texts as keys, lists and scalars. Raises ComposeError."""
    if len(text) > MOST_BYTES:
        raise ComposeError(f"{source.name}: it has {len(text)} bytes; {MOST_BYTES} are the most")
    try:
        _bound_depth(text, source)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        raise ComposeError(f"{source.name}: a character is no UTF-8, or YAML has none such ({error.reason})") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ComposeError(f"{source.name}{line}: {_in_plain_words(error, text)}") from error
    except yaml.YAMLError as error:
        raise ComposeError(f"{source.name}: {' '.join(str(error).split())}") from error
    return None if node is None else _Builder(source).build(node, Where(source))


def _in_plain_words(error: yaml.MarkedYAMLError, text: str | bytes) -> str:
    """What is wrong with the YAML; of the two mistakes that are made most, what they come from."""
    told = f"{error.context or ''} {error.problem or ''}".strip()
    lines = (text.decode(errors="replace") if isinstance(text, bytes) else text).splitlines()
    at = error.problem_mark.line if error.problem_mark else -1
    here = lines[at] if 0 <= at < len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return "the line is indented by a tab; YAML wants spaces"
    if "mapping values are not allowed" in told:
        return f"{told}: is the line indented as its neighbours are? A text that has ': ' needs quotes"
    return told


def _bound_depth(text: str | bytes, source: Source) -> None:
    """PyYAML's composer calls itself for each level."""
    depth = 0
    for event in yaml.parse(text, Loader=_FASTEST):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_LEVELS:
                raise ComposeError(f"{source.name}:{event.start_mark.line + 1}: more than {MOST_LEVELS} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's is twenty times faster, where PyYAML has it."""


class _Loader(_FASTEST):
    """Leaves it to `plain` what a scalar without quotes is."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return str(super().resolve(kind, value, implicit))


class _Builder:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._parts = 0
        self._open: list[int] = []

    def build(self, node: yaml.Node, where: Where) -> Any:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise ComposeError(f"{self._source.name}: more than {MOST_PARTS} parts with its aliases unfolded")
        if len(where.path) > MOST_LEVELS:
            raise where.wrong(f"more than {MOST_LEVELS} levels")
        self._source.lines.setdefault(where.path, node.start_mark.line + 1)
        if node.tag == "!reset":
            return Reset()
        if id(node) in self._open:
            raise where.wrong("an alias stands within what it stands for")
        self._open.append(id(node))
        try:
            value = self._value(node, where)
        finally:
            self._open.pop()
        return Override(value) if node.tag == "!override" else value

    def _value(self, node: yaml.Node, where: Where) -> Any:
        if node.tag not in (_PLAIN, "!override") and node.tag.removeprefix(_CORE) not in _TAGS:
            raise where.wrong(f"the tag {node.tag} means nothing here")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, where.at(number)) for number, item in enumerate(node.value)]
        return self._map(node, where)

    def _map(self, node: yaml.Node, where: Where) -> dict[str, Any]:
        made: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, where)
            if key is None:
                for more in self._merged(value_node, where):
                    merged = {**more, **merged}
                continue
            if key in made:
                raise where.at(key).wrong(f"the key is there twice, again on line {key_node.start_mark.line + 1}")
            # The line of the key, which is not that of the value where that begins on the next.
            self._source.lines[where.at(key).path] = key_node.start_mark.line + 1
            made[key] = self.build(value_node, where.at(key))
        return {**merged, **made}

    def _key(self, node: yaml.Node, where: Where) -> str | None:
        """None for the merge key."""
        if not isinstance(node, yaml.ScalarNode):
            raise where.wrong("a key is no text")
        if node.value == "<<" and not node.style:
            return None
        return str(node.value)

    def _merged(self, node: yaml.Node, where: Where) -> list[dict[str, Any]]:
        value = self.build(node, where.at("<<"))
        maps = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) for each in maps):
            raise where.at("<<").wrong("what is merged is no map")
        return maps


def _scalar(node: yaml.ScalarNode, where: Where) -> Any:
    text = str(node.value)
    if node.tag not in (_PLAIN, "!override"):
        kind = node.tag.removeprefix(_CORE)
        value = text if kind == "str" else plain(text)
        if kind != "str" and isinstance(value, str):
            raise where.wrong(f"it is no {kind}")
        return value
    return text if node.style else plain(text)


def plain(text: str) -> Any:
    """A scalar without quotes, by YAML 1.2's core schema; a leading zero means octal, as in Compose."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    for pattern, base in ((_OCTAL, 8), (_HEXADECIMAL, 16)):
        if match := pattern.fullmatch(text):
            return int(match[1], base)
    # What is no number that JSON has stays a text.
    return float(text) if _FLOAT.fullmatch(text) and not _INFINITE.fullmatch(text) else text
