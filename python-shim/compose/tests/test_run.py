"""`run`: a server for one command."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_cloud import FakeCloud
from fake_socket import Connect, FakeSocket, frame
from nova_docker_compose import following, oneoff
from nova_docker_compose.oneoff import Command, service_of
from test_commands import Run
from test_commands import run as run

SERVED = ["p-db-1", "p-web-1", "p-web-2"]


def ends_with(code: int, output: bytes = b"") -> FakeSocket:
    def script(socket: FakeSocket, request: dict[str, Any]) -> None:
        socket.send(frame(1, output) if output else b"")
        socket.finish(code)

    return FakeSocket(script)


def names(cloud: FakeCloud) -> list[str]:
    return sorted(each["name"] for each in cloud.servers.values())


def launched(cloud: FakeCloud, name: str = "job") -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in cloud.servers.values() if each["name"] == name)
    return found


def test_run_shows_what_the_command_writes_and_ends_with_its_exit_code(
    run: Run, cloud: FakeCloud, connect: Connect
) -> None:
    socket = ends_with(7, b"from the job\n")
    connect(socket)
    code, output, told = run("run", "db", "dump", "-v", "--all")
    assert (code, output) == (7, "from the job\n")
    [name] = [each for each in names(cloud) if each.startswith("p-db-run-")]
    assert f"{name}: creating" in told
    assert socket.request == {"op": "attach", "stdin": False, "size": None, "logs": True}
    data = yaml.safe_load(base64.b64decode(launched(cloud, name)["user_data"]))
    assert data["command"] == ["dump", "-v", "--all"]
    assert data["oneshot"] is True


def test_a_one_off_is_like_its_service_but_for_what_the_user_says(
    run: Run, cloud: FakeCloud, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(ends_with(0))
    monkeypatch.setenv("MINE", "yes")
    run("up")
    words = ("--name", "job", "-e", "A=b", "-e", "MINE", "--user", "www-data", "--workdir", "/srv", "--entrypoint")
    assert run("run", "-T", *words, "sh -c", "web", "true")[0] == 0
    data = yaml.safe_load(base64.b64decode(launched(cloud)["user_data"]))
    assert data.pop("extra_hosts").keys() == {"db", "web"}
    assert data == {
        "command": ["true"],
        "entrypoint": ["sh", "-c"],
        "environment": {"A": "b", "MINE": "yes"},
        "oneshot": True,
        "stdin_open": False,
        "tty": False,
        "user": "www-data",
        "working_dir": "/srv",
    }
    [port] = [each for each in cloud.things["ports"].values() if each["device_id"] == launched(cloud)["id"]]
    groups = cloud.things["security-groups"]
    assert [groups[group]["name"] for group in port["security_groups"]] == ["p"]
    assert len(cloud.things["floatingips"]) == 2, "those of the service"


def test_what_only_a_service_s_own_servers_have_is_left_out() -> None:
    service = {
        "image": "x",
        "command": ["serve"],
        "container_name": "one",
        "restart": "always",
        "ports": [{"target": 80}],
        "networks": {"a": {"ipv4_address": "10.0.0.7", "priority": 3}, "b": None},
        "environment": {"A": "file", "B": "file"},
    }
    assert service_of(service, Command(environment={"A": "user"}, entrypoint="", detach=True)) == {
        "image": "x",
        "command": [],
        "entrypoint": [],
        "networks": {"a": {"priority": 3}, "b": {}},
        "environment": {"A": "user", "B": "file"},
    }
    with_terminal = service_of(service, Command(tty=True))
    assert (with_terminal["command"], with_terminal["tty"], with_terminal["stdin_open"]) == (["serve"], True, True)


def test_the_server_stays_unless_it_is_to_go_and_only_ps_all_rm_and_down_know_it(
    run: Run, cloud: FakeCloud, connect: Connect
) -> None:
    connect(lambda: ends_with(0))
    run("up")
    before = cloud.left()
    assert run("run", "--rm", "--name", "gone", "web", "true")[0] == 0
    assert cloud.left() == before
    for name in ("first", "second"):
        assert run("run", "--name", name, "web", "true")[0] == 0
    assert [each["Name"] for each in json.loads(run("ps", "--format", "json")[1])] == SERVED
    assert {each["Name"] for each in json.loads(run("ps", "-a", "--format", "json")[1])} == {*SERVED, "first", "second"}
    run("up")
    run("scale", "web=2")
    launched(cloud, "first")["status"] = "SHUTOFF"
    assert run("rm")[0] == 0
    assert names(cloud) == [*SERVED, "second"]
    assert run("down")[0] == 0
    assert cloud.left() == []


def test_what_a_service_needs_is_brought_up_first_and_left_as_it_is(
    run: Run, cloud: FakeCloud, connect: Connect, tmp_path: Path
) -> None:
    connect(lambda: ends_with(0))
    assert run("run", "--no-deps", "--rm", "web", "true")[0] == 0
    assert names(cloud) == []
    told = run("run", "--rm", "web", "true")[2].splitlines()
    assert names(cloud) == ["p-db-1"]
    assert told.index("p-db-1: running") < next(at for at, line in enumerate(told) if line.startswith("p-web-run-"))
    file = tmp_path / "compose.yaml"
    file.write_text(file.read_text().replace("volumes: ['data:/d']", "volumes: ['data:/d'], command: other"))
    assert "p-db-1: rebuilding" not in run("run", "--rm", "web", "true")[2]


def test_a_command_waits_for_the_conditions_of_its_service(
    run: Run, cloud: FakeCloud, connect: Connect, tmp_path: Path
) -> None:
    connect(ends_with(0))
    (tmp_path / "compose.yaml").write_text("""
services:
  web: {image: tiny, depends_on: {db: {condition: service_healthy}}}
  db: {image: db, healthcheck: {test: "true"}}
""")
    cloud.told["p-db-1"] = ["health:starting", "health:starting", "health:healthy"]
    assert run("run", "web")[0] == 0
    assert cloud.told["p-db-1"] == ["health:healthy"]


def test_what_cannot_be_had_is_told_before_anything_is_made(run: Run, cloud: FakeCloud, tmp_path: Path) -> None:
    assert run("run", "nope")[0] == 1
    code, _, told = run("run", "-d", "--rm", "web")
    assert (code, "--rm cannot be had with -d" in told) == (1, True)
    (tmp_path / "compose.yaml").write_text("services: {a: {image: tinny, depends_on: [b]}, b: {image: tiny}}")
    assert run("run", "a")[0] == 1
    assert cloud.left() == []


def test_a_command_that_has_ended_before_anybody_could_look_is_shown_by_its_log_and_its_tag(
    run: Run, cloud: FakeCloud
) -> None:
    cloud.has_consoles = False
    cloud.told["job"] = ["exit:3"]
    code, output, _ = run("run", "--name", "job", "db", "quick")
    assert (code, output) == (3, "one\ntwo\nthree\n")


def test_a_command_that_fails_at_once_is_shown_by_the_fault_of_its_launch(run: Run, cloud: FakeCloud) -> None:
    fault = "Build of instance 1 aborted: the container exited at once with code 2: no such table"
    cloud.faults["job"] = fault
    code, output, told = run("run", "--name", "job", "db", "quick")
    assert (code, output) == (2, "")
    assert fault in told
    assert "job" in names(cloud)
    code, _, told = run("run", "-d", "--name", "job", "db", "quick")
    assert (code, fault in told) == (1, True)


def test_a_launch_that_fails_leaves_no_server(run: Run, cloud: FakeCloud) -> None:
    cloud.faults["job"] = "No valid host was found"
    code, _, told = run("run", "--name", "job", "--no-deps", "db")
    assert (code, "job: it is ERROR: No valid host was found" in told) == (1, True)
    assert names(cloud) == []


def test_without_a_proxy_the_console_log_is_looked_at_until_the_end(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oneoff, "POLL", 0.01)
    cloud.has_consoles = False
    looks = 0

    def go_on(number: int) -> None:
        nonlocal looks
        if cloud.requests[-1].endswith("/action") and "POST" in cloud.requests[-1]:
            looks += 1
            job = launched(cloud)
            job["log"] = "".join(f"line {each}\n" for each in range(looks))
            if looks == 3:
                job["status"] = "SHUTOFF"
                cloud.told["job"] = ["exit:4"]

    cloud.after = go_on
    code, output, told = run("run", "--no-deps", "--name", "job", "db", "slow")
    assert (code, output.splitlines()[-2:]) == (4, ["line 1", "line 2"])
    assert "console log is looked at" in told


def test_an_agent_that_tells_no_exit_code_is_named(run: Run, cloud: FakeCloud) -> None:
    cloud.has_consoles = False
    cloud.told["job"] = ["exit:x"]
    code, _, told = run("run", "--name", "job", "db", "quick")
    assert (code, "it has no tag exit:CODE" in told) == (1, True)


def test_detached_it_prints_the_name_and_does_not_wait_for_the_end(run: Run, cloud: FakeCloud) -> None:
    code, output, _ = run("run", "-d", "db", "slow")
    assert code == 0
    assert launched(cloud, output.strip())["status"] == "ACTIVE"


@pytest.mark.parametrize("remove", [True, False])
def test_an_interrupted_run_leaves_nothing_half_made(
    run: Run, cloud: FakeCloud, connect: Connect, remove: bool
) -> None:
    connect(lambda: ends_with(0))
    words = ("run", "--no-deps", *(["--rm"] if remove else []), "--name", "job", "db")
    run(*words)
    # Until the command has ended: to interrupt the removal is to leave the server.
    needed = next((at for at, each in enumerate(cloud.requests) if each.endswith("/action")), len(cloud.requests))
    run("down")
    assert needed > 10
    for stop_at in range(1, needed):
        cloud.requests.clear()

        def stop(number: int, stop_at: int = stop_at) -> None:
            if number == stop_at:
                raise KeyboardInterrupt

        cloud.after = stop
        code, _, _ = run(*words)
        cloud.after = lambda number: None
        if code == 130:
            left = [each["status"] for each in cloud.servers.values()]
            assert left in ([], [] if remove else ["SHUTOFF"]), f"stopped after request {stop_at}"
        run("down")
        assert cloud.left() == [], f"stopped after request {stop_at}"


def test_ctrl_c_stops_the_command_and_is_130(run: Run, cloud: FakeCloud, connect: Connect) -> None:
    def interrupted() -> FakeSocket:
        socket = FakeSocket(lambda socket, _: None)

        def receive() -> tuple[int, bytes]:
            if socket.request:
                raise KeyboardInterrupt
            return FakeSocket.recv_data(socket)

        socket.recv_data = receive  # type: ignore[method-assign]
        return socket

    connect(interrupted)
    assert run("run", "--name", "stays", "db", "slow")[0] == 130
    assert launched(cloud, "stays")["status"] == "SHUTOFF"
    assert run("run", "--rm", "--name", "goes", "db", "slow")[0] == 130
    assert names(cloud) == ["stays"]


def test_the_console_log_of_logs_and_of_run_are_looked_at_as_often() -> None:
    assert oneoff.POLL == following.POLL
