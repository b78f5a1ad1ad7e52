"""The commands as a user types them, against a cloud in memory."""

from __future__ import annotations

import io
import json
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from cliff.app import App
from cliff.commandmanager import CommandManager
from fake_cloud import FakeCloud

Run = Callable[..., tuple[int, str, str]]

FILE = """
services:
  web: {image: 'web:v1', depends_on: [db], ports: [80], scale: 2}
  db: {image: db, volumes: ['data:/d']}
volumes: {data: }
"""


@pytest.fixture
def run(cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `container compose` with these words; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "p")
    (tmp_path / "compose.yaml").write_text(FILE)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    manager = CommandManager("none")
    for name, place in project["entry-points"]["openstack.extension"].items():
        manager.add_command(name.replace("_", " "), EntryPoint(name, place, "openstack.extension").load())

    def run_words(*words: str) -> tuple[int, str, str]:
        output = io.StringIO()
        app = App("test", "1", manager, stdout=output, stderr=output)
        app.client_manager = SimpleNamespace(sdk_connection=cloud)
        app.command_options = ["container", "compose", *words]
        code = app.run(["container", "compose", *words])
        printed = capsys.readouterr()
        return code, output.getvalue() + printed.out, printed.err

    return run_words


def names(cloud: FakeCloud) -> list[str]:
    return sorted(each["name"] for each in cloud.servers.values())


def test_up_and_down_as_a_user_types_them(run: Run, cloud: FakeCloud) -> None:
    code, output, told = run("up", "-d")
    assert (code, output) == (0, "")
    assert "p-web-2: running" in told.splitlines()
    assert names(cloud) == ["p-db-1", "p-web-1", "p-web-2"]
    code, _, told = run("down")
    assert (code, cloud.left()) == (0, [])
    assert "network p_default: removing" in told.splitlines()
    assert run("down")[0] == 0


def test_up_of_one_service_brings_what_it_needs_unless_told_otherwise(run: Run, cloud: FakeCloud) -> None:
    assert run("up", "--no-deps", "--scale", "web=1", "web")[0] == 0
    assert names(cloud) == ["p-web-1"]
    assert run("up", "web")[0] == 0
    assert names(cloud) == ["p-db-1", "p-web-1", "p-web-2"]


@pytest.mark.parametrize("words", [("web=3",), ("web==3",), ("db=1", "web=3")])
def test_scale_takes_compose_s_and_fig_s_sign(run: Run, cloud: FakeCloud, words: tuple[str, ...]) -> None:
    assert run("up")[0] == 0
    assert run("scale", *words)[0] == 0
    assert names(cloud) == ["p-db-1", "p-web-1", "p-web-2", "p-web-3"]


@pytest.mark.parametrize("words", [("scale",), ("scale", "web"), ("scale", "nope=1"), ("up", "nope"), ("stop", "nope")])
def test_what_makes_no_sense_is_exit_code_1_and_changes_nothing(
    run: Run, cloud: FakeCloud, words: tuple[str, ...]
) -> None:
    code, _, told = run(*words)
    assert code == 1
    assert told.strip()
    assert cloud.left() == []


def test_ps_lists_what_runs_and_with_all_what_is_stopped(run: Run) -> None:
    run("up")
    run("stop", "db")
    listed = json.loads(run("ps", "--format", "json")[1])
    assert [(each["Name"], each["Status"], each["Image"]) for each in listed] == [
        ("p-web-1", "ACTIVE", "web:v1"),
        ("p-web-2", "ACTIVE", "web:v1"),
    ]
    assert listed[0]["Floating IPs"].startswith("172.24.4.")
    assert [each["Service"] for each in json.loads(run("ps", "-a", "--format", "json")[1])] == ["db", "web", "web"]
    assert json.loads(run("ps", "-f", "compose.yaml", "--format", "json", "web")[1])[0]["Service"] == "web"
    code, _, told = run("ps", "nope")
    assert (code, told) == (1, "no such service: nope has no server\n")


def test_ps_tells_health_and_exit_codes_as_the_agent_does(run: Run, cloud: FakeCloud) -> None:
    run("up")
    cloud.told |= {"p-web-1": ["health:healthy"], "p-db-1": ["exit:137"]}
    listed = json.loads(run("ps", "--all", "--format", "json")[1])
    assert [(each["Status"], each["Health"], each["Exit Code"]) for each in listed] == [
        ("SHUTOFF", "", 137),
        ("ACTIVE", "healthy", ""),
        ("ACTIVE", "", ""),
    ]


def test_servers_are_stopped_started_restarted_and_removed(run: Run, cloud: FakeCloud) -> None:
    run("up")
    assert run("stop")[0] == 0
    assert {each["status"] for each in cloud.servers.values()} == {"SHUTOFF"}
    assert run("start", "web")[0] == 0
    assert sorted(each["status"] for each in cloud.servers.values()) == ["ACTIVE", "ACTIVE", "SHUTOFF"]
    assert run("restart")[0] == 0
    assert {each["status"] for each in cloud.servers.values()} == {"ACTIVE"}
    assert "no stopped servers" in run("rm")[2]
    run("stop", "web")
    assert run("rm")[0] == 0
    assert names(cloud) == ["p-db-1"]
    assert run("rm", "--stop", "db")[0] == 0
    assert names(cloud) == []
    assert not cloud.things["floatingips"]


def test_what_needs_no_file_works_without_one(run: Run, cloud: FakeCloud, tmp_path: Path) -> None:
    run("up")
    (tmp_path / "compose.yaml").unlink()
    for words in (("ps",), ("stop",), ("start",), ("logs",), ("port", "web", "80"), ("down", "-p", "p")):
        assert run(*words)[0] == 0, words
    assert cloud.left() == []
    assert run("up")[0] == 14


@pytest.mark.parametrize("option", ["-v", "--volumes"])
def test_down_with_volumes_tells_the_agent_to_remove_them(run: Run, cloud: FakeCloud, option: str) -> None:
    run("up")
    seen: set[str] = set()
    cloud.after = lambda number: seen.update(
        each["metadata"].get("docker:remove_volumes", "") for each in cloud.servers.values()
    )
    run("down", option)
    assert "true" in seen


def test_port_prints_where_a_port_is_reached(run: Run) -> None:
    run("up")
    code, output, _ = run("port", "--index", "2", "web", "80")
    assert code == 0
    assert output.startswith("172.24.4.")
    assert output.endswith(":80\n")
    assert run("port", "web", "81")[0] == 1
    assert run("port", "db", "80")[0] == 1
    assert run("port", "web")[0] == 1


def test_logs_prints_the_console_logs_with_names(run: Run) -> None:
    run("up")
    assert run("logs", "db")[1] == "p-db-1  | one\np-db-1  | two\np-db-1  | three\n"
    assert run("logs", "--tail", "1", "--no-log-prefix")[1] == "three\nthree\nthree\n"
    assert run("logs", "--tail", "x")[0] == 1


def test_pull_tells_the_images_and_what_is_missing(run: Run, tmp_path: Path) -> None:
    assert run("pull", "db")[1] == "db: db:latest (00000003-0000-0000-0000-000000000000)\n"
    (tmp_path / "compose.yaml").write_text("services: {a: {image: tinny}, b: {image: tiny}}")
    code, output, told = run("pull")
    assert code == 1
    assert told.startswith("services.a: there is no image tinny in Glance; there is tiny; `up` brings one there")
    assert "b: tiny" in output


def test_a_command_that_is_interrupted_says_how_to_go_on(run: Run, cloud: FakeCloud) -> None:
    def stop(number: int) -> None:
        raise KeyboardInterrupt

    cloud.after = stop
    code, _, told = run("up")
    assert code == 130
    assert "run the command again" in told


def test_convert_prints_a_template_of_heat_and_makes_nothing(run: Run, cloud: FakeCloud) -> None:
    code, output, _ = run("convert", "--format", "heat")
    template = yaml.safe_load(output)
    assert (code, template["heat_template_version"], cloud.left()) == (0, "2018-08-31", [])
    assert template["outputs"]["web-2"]["value"] == {"get_attr": ["address-web-2", "floating_ip_address"]}
    assert run("convert", "--format", "heat", "web")[0] == 1


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Docker whose local images are the files of a directory, each with its identity."""
    images = tmp_path / "images"
    images.mkdir()
    program = tmp_path / "docker"
    program.write_text(f"""#!/bin/sh
echo "$*" >>{tmp_path}/asked
case $1 in
    build) for word; do case $word in --tag=*) echo "id $$" >{images}/${{word#--tag=}} ;; esac; done ;;
    image) for last; do :; done; cat {images}/$last ;;
    save) echo archive >"${{2#--output=}}" ;;
esac
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "compose.yaml").write_text("services: {a: {build: .}, b: {image: tiny}}")
    return images


def glance(cloud: FakeCloud, name: str) -> int:
    return sum(each["name"] == name for each in cloud.images)


def test_build_and_push_bring_an_image_into_glance_from_where_up_takes_it(
    run: Run, cloud: FakeCloud, docker: Path, tmp_path: Path
) -> None:
    assert [run(command)[0] for command in ("build", "push", "up")] == [0, 0, 0]
    assert (names(cloud), glance(cloud, "p-a")) == (["p-a-1", "p-b-1"], 1)
    (tmp_path / "compose.yaml").write_text("services: {b: {image: tiny}}")
    assert run("build")[2].splitlines()[-1] == "no service says how to build its image"


def test_up_builds_what_is_missing_and_with_build_what_is_there(run: Run, cloud: FakeCloud, docker: Path) -> None:
    for words, images in ((["up"], 1), (["up"], 1), (["up", "--build"], 2), (["run", "-d", "a"], 2)):
        assert run(*words)[0] == 0
        assert glance(cloud, "p-a") == images, words
    newest = max((each for each in cloud.images if each["name"] == "p-a"), key=lambda each: each["created_at"])
    server = next(each for each in cloud.servers.values() if each["name"] == "p-a-1")
    assert server["imageRef"] == newest["id"]


def test_up_with_build_gives_all_services_the_image_that_it_has_made(
    run: Run, cloud: FakeCloud, docker: Path, tmp_path: Path
) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: p-b}, b: {build: .}}")
    for _ in range(2):
        assert run("up", "--build")[0] == 0
    newest = max((each for each in cloud.images if each["name"] == "p-b"), key=lambda each: each["created_at"])
    assert glance(cloud, "p-b") == 2
    assert {each["imageRef"] for each in cloud.servers.values()} == {newest["id"]}


def test_up_pushes_what_only_the_local_docker_has(run: Run, cloud: FakeCloud, docker: Path, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: mine}, b: {image: tiny}}")
    code, _, told = run("up")
    assert (code, told.partition("; `up`")[0]) == (1, "services.a: there is no image mine in Glance; there is tiny")
    assert cloud.left() == []
    (docker / "mine").write_text("id")
    code, _, told = run("up")
    assert (code, glance(cloud, "mine"), names(cloud)) == (0, 1, ["p-a-1", "p-b-1"])
    assert "mine: uploading" in told
    assert "build" not in {line.split()[0] for line in (tmp_path / "asked").read_text().splitlines()}
    assert run("up", "--build")[0] == 0
    assert glance(cloud, "mine") == 1


def test_a_mistake_of_the_file_is_told_before_anything_is_pushed(
    run: Run, cloud: FakeCloud, docker: Path, tmp_path: Path
) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {build: ., pid: host}}")
    before = len(cloud.images)
    assert run("up")[0] == 1
    assert (len(cloud.images), (tmp_path / "asked").exists()) == (before, False)
