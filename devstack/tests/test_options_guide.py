"""The reference of options says what the program reads: names, defaults, older names and types."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent.parent
_GUIDES = _ROOT / "nova-docker-agent" / "docs"

_IDENTITY = """
auth_type = password
auth_url = http://keystone.example:5000/v3
username = nova
password = secret
user_domain_name = Default
project_name = service
project_domain_name = Default
"""
_AGENT = "[DEFAULT]\ntransport_url = rabbit://nova:secret@rabbit.example/\n" + "".join(
    f"[{section}]{_IDENTITY}" for section in ("service_user", "placement", "neutron", "glance")
)
_REGISTRY = f"[keystone]\nauth_url = http://keystone.example:5000/v3\n[glance]{_IDENTITY}"

_SERVICES = "options-services.md"
"""The page with what agent and registry share."""

_NONSENSE = "nonsense/"
"""Is none of: a boolean, a number, a URL, an address, a choice."""

_TYPES = {
    r"true or false .*": "boolean",
    r"an integer from (.*)": r"integer, \1",
    r"an integer of at least (.*)": r"integer, at least \1",
    r"a number of at least (.*)": r"number, at least \1",
    r"one of (.*)": r"one of \1",
    r"a URL .*": "URL",
    r"an IP address": "IP address",
    r"an IP address with a port, .*": "address and port",
    r"a loopback address with a port, .*": "loopback address and port",
    r"a size .*": "size",
    r"dockerd's address, .*": "dockerd's address",
    r"unix:///PATH of a socket, .*": "socket or address",
    r"tcp:ADDRESS:PORT or .*": "database address",
    r"two ports, .*": "port range",
    r"NAME=PATH with .*": "list of programs",
    r"NAME=PATH or .*": "list of directories",
    r"a list of .*|URLs that .*": "list",
    # Beyond its type, which is a text.
    r"rabbit://.*": "text",
}
"""What the program says of nonsense -> what the guide calls the type. It takes nonsense for a text or a list."""

Options = dict[tuple[str, str], str]
"""(section, option) -> something about it."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One option of the guide."""

    default: str
    kind: str
    meaning: str

    @property
    def older_names(self) -> list[str]:
        return re.findall(r"Older name: `(\w+)`", self.meaning)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that lists its options, and what it must be configured with for that."""

    guides: tuple[str, ...]
    program: str
    words: tuple[str, ...]
    least: str
    shared: tuple[str, ...] = ()
    """Sections of which the other guide has options."""

    def run(self, config: Path) -> subprocess.CompletedProcess[str]:
        # An environment of its own: OS_<SECTION>__<OPTION> would win over the file.
        command = [_path_of(self.program), *self.words, "--config-file", config]
        return subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)

    def rows(self) -> dict[tuple[str, str], Row]:
        rows = {place: row for guide in self.guides for place, row in _rows(_GUIDES / guide)}
        other = dict(_rows(_GUIDES / _SERVICES, level=3))
        return rows | {place: row for place, row in other.items() if place[0] in self.shared}


AGENT = Command(("options.md", _SERVICES), "nova-docker-agent", ("config",), _AGENT)
REGISTRY = Command(("registry-options.md",), "nova-docker-registry", ("--check",), _REGISTRY, shared=("glance",))
both = pytest.mark.parametrize("command", [AGENT, REGISTRY], ids=["agent", "registry"])


def _path_of(program: str) -> Path:
    """The program of the cloud whose Python this is, or else the one that was built last."""
    here = Path(sys.prefix).parent / "bin" / program
    if here.exists():
        return here
    built = [path for path in (_ROOT / "target").glob(f"*/{program}") if path.is_file()]
    assert built, f"there is no {program}; build it: cargo build -p {program}"
    return max(built, key=lambda path: path.stat().st_mtime)


def _rows(guide: Path, level: int | None = None) -> Iterator[tuple[tuple[str, str], Row]]:
    """The rows of the tables below headings that name sections; `level`: of headings of this level only."""
    sections: list[str] = []
    for line in guide.read_text().splitlines():
        if heading := re.match(r"(#+) (.*)", line):
            wanted = level is None or len(heading[1]) == level
            sections = re.findall(r"\[(\w+)\]", heading[2]) if wanted else []
        elif line.startswith("| `") and sections:
            name, default, kind, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            yield from (((section, name.strip("`")), Row(default, kind, meaning)) for section in sections)


def _listing(command: Command, tmp_path: Path, more: Iterable[tuple[tuple[str, str], str]] = ()) -> Options:
    """(section, option) -> value, as the program prints them; an option that is not set has none."""
    config = tmp_path / "listed.conf"
    config.write_text(command.least + "".join(f"[{section}]\n{name} = {value}\n" for (section, name), value in more))
    listed = command.run(config)
    assert listed.returncode == 0, listed.stderr
    values: Options = {}
    section = ""
    for line in listed.stdout.splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = heading[1]
        elif option := re.fullmatch(r"#?(\w+) =(.*)", line):
            values[section, option[1]] = option[2].strip()
    return values


def _expected(command: Command, tmp_path: Path, places: Sequence[tuple[str, str]]) -> Options:
    """What the program expected instead of nonsense, where it did not take it."""
    config = tmp_path / "nonsense.conf"
    config.write_text("".join(f"[{section}]\n{name} = {_NONSENSE}\n" for section, name in places))
    refused = command.run(config)
    assert refused.returncode == 64, refused.stderr
    errors = re.findall(r": \[(\w+)\] (\w+)(?: = \".*\")?: expected (.*)", refused.stderr)
    return {(section, name): text for section, name, text in errors}


@both
def test_the_guide_has_every_option_and_no_other(command: Command, tmp_path: Path) -> None:
    assert set(command.rows()) == set(_listing(command, tmp_path))


@both
def test_the_guide_has_the_defaults(command: Command, tmp_path: Path) -> None:
    values = _listing(command, tmp_path)
    given = {(section, line.split(" = ")[0]) for section, line in _lines(command.least)}
    for place, row in command.rows().items():
        if place in given:
            continue
        if row.default.startswith("`"):
            default = row.default.strip("`")
            default = re.sub(r"\$(\w+)", lambda name: values[_section_of(name[1], values), name[1]], default)
            assert values[place] == default, place
        else:
            # A default in words depends on the machine.
            assert bool(values[place]) == bool(row.default), place


@both
def test_the_guide_has_the_types(command: Command, tmp_path: Path) -> None:
    rows = command.rows()
    # The section that it names would have to hold the identity.
    expected = _expected(command, tmp_path, [place for place in rows if place[1] != "auth_section"])
    for place, row in rows.items():
        if place not in expected:
            assert row.kind in ("text", "list"), place
            continue
        [kind] = {
            matched.expand(name)
            for pattern, name in _TYPES.items()
            if (matched := re.fullmatch(pattern, expected[place]))
        }
        assert row.kind == kind, (place, expected[place])


def test_the_guide_knows_older_names() -> None:
    names = [name for row in AGENT.rows().values() for name in row.older_names]
    assert len(names) > 5


@both
def test_an_option_is_read_by_its_older_names(command: Command, tmp_path: Path) -> None:
    value = {"boolean": "true", "integer": "7", "one of password": "v3password"}
    for place, row in command.rows().items():
        for older in row.older_names:
            wanted = value.get(row.kind.partition(",")[0], "something")
            without = dataclasses.replace(command, least=_without(command.least, place))
            assert _listing(without, tmp_path, [((place[0], older), wanted)])[place] == wanted, older


def _lines(config: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in config.splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = heading[1]
        elif line:
            yield section, line


def _without(config: str, place: tuple[str, str]) -> str:
    """The same configuration but for one option."""
    kept = (f"[{section}]\n{line}\n" for section, line in _lines(config) if (section, line.split(" = ")[0]) != place)
    return "".join(kept)


def _section_of(option: str, values: Options) -> str:
    return next(section for section, name in values if name == option)
