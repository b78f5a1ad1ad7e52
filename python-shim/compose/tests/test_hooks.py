"""`post_start` and `pre_stop`: who runs them, when, and what comes of those that fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_cloud import FakeCloud
from fake_socket import Connect, FakeSocket, frame
from nova_docker_compose.cloud import Api
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
from nova_docker_compose.up import Options, Up
from test_commands import Run
from test_commands import run as run

Read = Callable[[str], Project]

FILE = """
services:
  web:
    image: tiny
    command: serve
    post_start:
      - {command: begin now, user: root, environment: [A=b], working_dir: /srv}
      - {command: [second]}
    pre_stop: [{command: drain}]
  db: {image: db}
"""


class Inside:
    """Takes what is asked of servers."""

    def __init__(self, connect: Connect) -> None:
        self.asked: list[dict[str, Any]] = []
        self.servers: list[str] = []
        self.codes: dict[str, int] = {}
        self.before: Callable[[str], None] = lambda word: None
        connect(self._socket)

    def _socket(self) -> FakeSocket:
        made = FakeSocket(lambda socket, request: self._take(made, request))
        return made

    def _take(self, socket: FakeSocket, request: dict[str, Any]) -> None:
        word = request["argv"][0]
        self.before(word)
        self.asked.append(request)
        self.servers.append(socket.address.rpartition("=")[2])
        socket.send(frame(1, f"{word} was \x1b[2Jhere\n".encode()))
        socket.finish(self.codes.get(word, 0))

    def words(self) -> list[str]:
        said = [request["argv"][0] for request in self.asked]
        self.asked.clear()
        return said


@pytest.fixture
def inside(connect: Connect) -> Inside:
    return Inside(connect)


def up(cloud: FakeCloud, project: Project, **options: Any) -> list[str]:
    told: list[str] = []
    Up(Api(cloud), project, Options(**options), told.append).run()
    return told


def state(cloud: FakeCloud, name: str = "p-web-1") -> str:
    return str(next(each["status"] for each in cloud.servers.values() if each["name"] == name))


def test_they_are_run_in_order_when_a_server_has_come_up(cloud: FakeCloud, project_of: Read, inside: Inside) -> None:
    seen = []
    inside.before = lambda word: seen.append(state(cloud))
    told = up(cloud, project_of(FILE))
    assert seen == ["ACTIVE", "ACTIVE"]
    first = inside.asked[0]
    assert (first["op"], first["argv"], first["user"]) == ("exec", ["begin", "now"], "root")
    assert (first["env"], first["working_dir"], first["stdin"], first["tty"]) == ({"A": "b"}, "/srv", False, False)
    assert inside.words() == ["begin", "second"]
    assert "p-web-1: post_start: begin was  [2Jhere" in told
    up(cloud, project_of(FILE))
    assert inside.words() == [], "once for each start"


def test_a_rebuild_and_every_command_that_stops_or_starts_run_them(run: Run, tmp_path: Path, inside: Inside) -> None:
    (tmp_path / "compose.yaml").write_text(FILE)
    for words, wanted in (
        (["up"], ["begin", "second"]),
        (["up", "--force-recreate"], ["drain", "begin", "second"]),
        (["stop"], ["drain"]),
        (["start"], ["begin", "second"]),
        (["restart"], ["drain", "begin", "second"]),
        (["stop"], ["drain"]),
        (["up"], ["begin", "second"]),
        (["run", "-d", "web"], []),
        (["down"], ["drain"]),
    ):
        assert run(*words)[0] == 0
        assert inside.words() == wanted, words


def test_one_that_fails_ends_up_and_is_run_again_by_the_next(
    cloud: FakeCloud, project_of: Read, inside: Inside
) -> None:
    inside.codes["second"] = 3
    with pytest.raises(ComposeError, match=r"^p-web-1: post_start\[1\] has ended with exit code 3$"):
        up(cloud, project_of(FILE))
    assert inside.words() == ["begin", "second"]
    inside.codes.clear()
    up(cloud, project_of(FILE))
    assert inside.words() == ["begin", "second"]


def test_one_before_a_stop_that_fails_keeps_no_server_running(
    run: Run, cloud: FakeCloud, tmp_path: Path, inside: Inside
) -> None:
    (tmp_path / "compose.yaml").write_text(FILE)
    inside.codes["drain"] = 1
    run("up")
    code, _, told = run("down")
    assert code == 0
    assert "warning: p-web-1: pre_stop[0] has ended with exit code 1; p-web-1 is stopped all the same" in told
    assert cloud.left() == []


def test_without_a_file_they_are_missed_where_a_server_has_some(
    run: Run, cloud: FakeCloud, tmp_path: Path, inside: Inside
) -> None:
    (tmp_path / "compose.yaml").write_text(FILE)
    run("up")
    inside.words()
    (tmp_path / "compose.yaml").unlink()
    code, _, told = run("stop")
    assert (code, inside.words(), state(cloud)) == (0, [], "SHUTOFF")
    assert "warning: p-web-1: pre_stop is not run: " in told
    assert "p-db-1: pre_stop" not in told


def test_a_profile_that_is_off_keeps_none_from_being_run(run: Run, tmp_path: Path, inside: Inside) -> None:
    (tmp_path / "compose.yaml").write_text(FILE.replace("command: serve", "profiles: [shop]"))
    assert run("up", "--profile", "shop")[0] == 0
    inside.words()
    code, _, told = run("stop")
    assert (code, inside.words(), "warning" in told) == (0, ["drain"], False)


def test_they_are_missed_where_the_files_have_no_such_service_any_more(
    run: Run, tmp_path: Path, inside: Inside
) -> None:
    (tmp_path / "compose.yaml").write_text(FILE)
    run("up")
    inside.words()
    (tmp_path / "compose.yaml").write_text("services: {db: {image: db}}")
    code, _, told = run("stop")
    assert (code, inside.words()) == (0, [])
    assert "warning: p-web-1: pre_stop is not run: the files have no service web" in told
    assert "p-db-1: pre_stop" not in told


def test_other_hooks_are_a_change(cloud: FakeCloud, project_of: Read, inside: Inside) -> None:
    up(cloud, project_of(FILE))
    told = up(cloud, project_of(FILE.replace("drain", "drain slowly")))
    assert [line for line in told if "rebuilding" in line] == ["p-web-1: rebuilding"]


def test_a_command_that_is_run_at_another_time_is_a_change(cloud: FakeCloud, project_of: Read, inside: Inside) -> None:
    text = "services: {web: {image: tiny, post_start: [{command: warm}]}}"
    up(cloud, project_of(text))
    assert inside.words() == ["warm"]
    told = up(cloud, project_of(text.replace("post_start", "pre_stop")))
    assert "p-web-1: rebuilding" in told
    up(cloud, project_of(text.replace("post_start", "pre_stop").replace("warm", "cool")))
    assert inside.words() == ["cool"]


def test_what_is_missing_is_told_where_there_is_no_console(cloud: FakeCloud, project_of: Read) -> None:
    cloud.has_consoles = False
    with pytest.raises(ComposeError, match=r"p-web-1: post_start\[0\]: this needs the server's serial console"):
        up(cloud, project_of(FILE))


class Stopped(BaseException):
    """As Ctrl-C."""


def test_an_up_that_is_stopped_after_any_request_runs_them_in_the_end(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch, inside: Inside
) -> None:
    up(cloud, project_of(FILE))
    for stop_at in range(1, len(cloud.requests)):
        fresh = FakeCloud()
        fresh.keep_time(monkeypatch)
        inside.words()

        def stop(number: int, at: int = stop_at) -> None:
            if number == at:
                raise Stopped

        fresh.after = stop
        with pytest.raises(Stopped):
            up(fresh, project_of(FILE))
        fresh.after = lambda number: None
        up(fresh, project_of(FILE))
        assert inside.words()[-2:] == ["begin", "second"], f"stopped after request {stop_at}"
        up(fresh, project_of(FILE))
        assert inside.words() == []
