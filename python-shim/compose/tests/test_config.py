"""`openstack container compose config`, as a user runs it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from cliff.app import App
from cliff.commandmanager import CommandManager
from nova_docker_compose.commands.config import Config


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command beside a compose.yaml; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMPOSE_FILE", raising=False)
    manager = CommandManager("none")
    manager.add_command("container compose config", Config)

    def run_command(*arguments: str, text: str | None = None) -> tuple[int, str, str]:
        if text is not None:
            (tmp_path / "compose.yaml").write_text(text)
        output = io.StringIO()
        app = App("test", "1", manager, stdout=output, stderr=output)
        code = app.run(["container", "compose", "config", "-p", "p", *arguments])
        return code, output.getvalue(), capsys.readouterr().err

    return run_command


def test_the_exit_codes_are_those_of_docker_compose(run) -> None:
    assert run()[0] == 14
    assert run("-f", "nothere.yaml")[0] == 14
    assert run(text="services: {a: {imag: x}}")[0] == 15
    assert run(text="services: [")[0] == 15
    assert run("b", text="services: {a: {image: x}}")[0] == 1
    assert run("a")[0] == 0


def test_a_mistake_is_one_line_on_standard_error(run) -> None:
    code, output, errors = run(text="services:\n  a: {imag: x}\n")
    assert (code, output) == (15, "")
    assert errors == "compose.yaml:2: services.a.imag: there is no such key; is image meant?\n"


def test_json_and_lists_of_names_can_be_asked_for(run) -> None:
    text = "services: {b: {image: y, depends_on: [a], volumes: ['v:/v']}, a: {image: x}, c: {image: z}}\nvolumes: {v: }"
    assert list(json.loads(run("--format", "json", "b", text=text)[1])["services"]) == ["a", "b"]
    assert run("--services")[1].split() == ["a", "c", "b"]
    assert run("--images")[1].split() == ["x", "y", "z"]
    assert run("--volumes")[1].split() == ["v"]
    assert run("--quiet")[1] == ""


def test_what_up_would_say_is_told_beside_it(run) -> None:
    code, output, errors = run(text="services: {a: {image: x, cpuset: '0', pid: host}, b: {image: x, ipc: host}}")
    assert (code, output.splitlines()[0]) == (0, "name: p")
    assert [line.partition(": it")[0] for line in errors.splitlines()] == [
        "up will refuse it: services.a.pid",
        "up will refuse it: services.b.ipc",
    ]
    code, output, errors = run("--quiet", text="services: {a: {image: x, cpuset: '0'}}")
    assert (code, output) == (0, "")
    assert errors.startswith("warning: services.a.cpuset: it is left out")


def test_warnings_do_not_mix_with_what_is_printed(run) -> None:
    code, output, errors = run(text="services: {a: {image: $NO_SUCH_VARIABLE}, b: {image: x}}")
    assert code == 15
    assert "neither image nor build" in errors
    code, output, errors = run(text="services: {a: {image: x, user: $NO_SUCH_VARIABLE}}")
    assert code == 0
    assert "warning: compose.yaml:1: services.a.user: the variable NO_SUCH_VARIABLE is not set" in errors
    assert "warning" not in output
