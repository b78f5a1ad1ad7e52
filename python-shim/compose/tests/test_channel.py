"""The channel: its opening, its windows, its ends, and the commands that use it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_cloud import FakeCloud
from fake_socket import Connect, FakeSocket, frame
from nova_docker_compose import attached, channel, following
from nova_docker_compose.channel import ERRORS, OUTPUT, WINDOW, Channel, NoChannel
from nova_docker_compose.commands import inside
from nova_docker_compose.commands.inside import words_behind
from nova_docker_compose.errors import ComposeError
from test_commands import Run
from test_commands import run as run

Script = Callable[[FakeSocket, dict[str, Any]], None]


def opened(connect: Connect, socket: FakeSocket) -> Channel:
    connect(socket)
    return Channel("wss://proxy/?token=t", "/ca.pem", {"op": "exec", "argv": ["x"]})


def test_what_a_terminal_shows_before_is_skipped_also_what_looks_like_an_answer(connect: Any) -> None:
    shown = b"scrollback\r\n\x9fnova-docker-channel ready 1 00112233445566778899aabbccddeeff\x9c\x05\0\0\0\xff$ "
    socket = FakeSocket(lambda socket, _: socket.finish(3), shown)
    with opened(connect, socket) as made:
        assert made.run(lambda kind, data: pytest.fail("nothing is written")) == 3
    assert socket.request == {"op": "exec", "argv": ["x"]}
    assert socket.closed


def test_the_proxy_s_certificate_is_verified_as_the_user_says(connect: Any) -> None:
    for verify, wanted in ((True, {}), ("/ca.pem", {"ca_certs": "/ca.pem"}), (False, {"check_hostname": False})):
        socket = FakeSocket(lambda socket, _: socket.finish(0))
        connect(socket)
        Channel("wss://proxy/", verify, {}).close()
        assert wanted.items() <= socket.options["sslopt"].items()
        assert ("cert_reqs" in socket.options["sslopt"]) == (verify is False)


def test_no_answer_is_told_with_the_last_line_that_was_shown(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Script = lambda socket, _: None  # noqa: E731
    with pytest.raises(NoChannel, match=r"^the server is not on this host any more$"):
        opened(connect, FakeSocket(nothing, b"\r\nthe server is not on \x1bthis host any more\r\n", b""))
    with pytest.raises(NoChannel, match="version 2"):
        opened(connect, FakeSocket(nothing, b"$ ", b"\x9fnova-docker-channel ready 2 NONCE\x9c"))
    monkeypatch.setattr(channel, "_PATIENCE", 0.1)
    socket = FakeSocket(nothing, b"$ ", b"\x9fnova-docker-channel open 1 NONCE\x9c")
    socket.end = lambda: None  # type: ignore[method-assign]
    with pytest.raises(NoChannel, match="too old"):
        opened(connect, socket)
    assert socket.closed


def test_output_is_handed_over_in_order_and_told_to_be_taken(connect: Any) -> None:
    def script(socket: FakeSocket, _: dict[str, Any]) -> None:
        whole = b"".join((frame(1, b"a" * 40_000), frame(2, b"b"), frame(1, b"c" * 40_000)))
        for at in range(0, len(whole), 977):
            socket.send(whole[at : at + 977])
        socket.finish(137)

    socket = FakeSocket(script)
    taken: list[tuple[int, int]] = []
    with opened(connect, socket) as made:
        assert made.run(lambda kind, data: taken.append((kind, len(data)))) == 137
    assert taken == [(OUTPUT, 40_000), (ERRORS, 1), (OUTPUT, 40_000)]
    assert socket.frames == [(6, (80_001).to_bytes(4))]


def test_input_waits_for_room(connect: Any) -> None:
    socket = FakeSocket(lambda socket, _: None)
    with opened(connect, socket) as made:
        running = threading.Thread(target=made.run, args=(lambda kind, data: None,), daemon=True)
        running.start()
        full = threading.Event()
        sent = 0

        def count(kind: int, payload: bytes) -> None:
            nonlocal sent
            assert kind == 0
            sent += len(payload)
            if sent == WINDOW:
                full.set()

        socket.on_frame = count
        typing = threading.Thread(target=made.send_input, args=(b"x" * (WINDOW + 10),), daemon=True)
        typing.start()
        assert full.wait(600)
        typing.join(0.05)
        assert typing.is_alive(), "it has sent more than there is room for"
        socket.send(frame(6, (10).to_bytes(4)))
        typing.join(600)
        socket.finish(0)
        running.join(600)
    assert sent == WINDOW + 10


@pytest.mark.parametrize(
    "sent", [b"\x01\0\0\0\xff\xff\xff\xff", b"\x01\x01\0\0\0\0\0\x01x", frame(5, b'{"error": "no such user"}'), None]
)
def test_what_is_wrong_ends_with_words(connect: Any, sent: bytes | None) -> None:
    script: Script = lambda socket, _: socket.end() if sent is None else socket.send(sent)  # noqa: E731
    with opened(connect, FakeSocket(script)) as made, pytest.raises(ComposeError):
        made.run(lambda kind, data: None)


def test_keys_of_the_user_s_terminal_go_to_the_other_end_and_it_is_restored(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    termios = pytest.importorskip("termios")
    main, side = os.openpty()
    before = termios.tcgetattr(side)
    # The key is typed before the terminal is raw, where it would be a signal.
    before[3] &= ~(termios.ISIG | termios.ICANON)
    termios.tcsetattr(side, termios.TCSANOW, before)
    os.write(main, b"\x03")
    typed = []

    def on_frame(kind: int, payload: bytes) -> None:
        typed.append((kind, payload))
        socket.finish(5)

    socket = FakeSocket(lambda socket, _: None)
    socket.on_frame = on_frame
    with os.fdopen(side, "r+b", buffering=0) as terminal, opened(connect, socket) as made:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert attached.attach(made, stdin=True, tty=True) == 5
        assert typed == [(0, b"\x03")]
        assert termios.tcgetattr(side)[3] == before[3]
    os.close(main)


def test_the_words_of_a_command_are_those_that_were_typed() -> None:
    argv = ["container", "compose", "exec", "-T", "web", "ls", "-v", "web"]
    assert words_behind(argv, "web", ["ls", "web"]) == ["ls", "-v", "web"]
    assert words_behind(["exec", "--user", "web", "web", "id"], "web", ["id"]) == ["id"]
    assert words_behind([], "web", ["--", "ls"]) == ["ls"]


def test_what_is_new_in_a_console_log_is_found_though_its_beginning_has_gone() -> None:
    assert following.news("", "a\nb\n") == "a\nb\n"
    assert following.news("a\nb\n", "a\nb\nc\n") == "c\n"
    assert following.news("a\nb\n", "a\nb\n") == ""
    assert following.news("x" * 9000 + "b\n", "x" * 5000 + "b\nc\n") == "c\n"
    assert following.news("all of it", "has gone") == "has gone"


def test_since_takes_times_and_how_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 10_000.0)
    assert following.since(None) is None
    assert following.since("1h30m") == "4600"
    assert following.since("90s") == "9910"
    assert following.since("1700000000.5") == "1700000000.5"
    assert following.since("2026-01-01T00:00:00Z") == "1767225600.000000"
    for wrong in ("", "yesterday", "1x", "-5"):
        with pytest.raises(ComposeError, match="--since"):
            following.since(wrong)


def test_lines_are_whole_though_pieces_end_anywhere() -> None:
    lines: list[str] = []
    made = following.Lines(lines.append)
    for at, byte in enumerate("äö\r\nü\nrest".encode()):
        made.add(OUTPUT, bytes([byte]))
        if at == 1:
            made.add(ERRORS, b"an error\n")
    made.end()
    assert lines == ["an error", "äö", "ü", "rest"]


def test_exec_runs_a_command_and_ends_with_its_exit_code(
    run: Run, cloud: FakeCloud, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(socket: FakeSocket, _: dict[str, Any]) -> None:
        socket.send(frame(1, b"out\n") + frame(2, b"err\n"))
        socket.finish(7)

    socket = FakeSocket(script)
    connect(socket)
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    run("up")
    words = ("exec", "-T", "--index", "2", "-e", "A=b=c", "-w", "/srv", "web", "ls", "-l")
    code, _, told = run(*words)
    assert (code, told) == (7, "err\n")
    assert (socket.request["argv"], socket.request["env"]) == (["ls", "-l"], {"A": "b=c"})
    assert (socket.request["tty"], socket.request["working_dir"], socket.request["user"]) == (False, "/srv", None)
    web = next(each for each in cloud.servers.values() if each["name"] == "p-web-2")
    assert socket.address == f"wss://proxy:6083/?token={web['id']}"
    assert socket.options["sslopt"] == {"ca_certs": "/ca.pem"}
    assert run("exec", "web")[0] == 1
    assert run("exec", "--index", "3", "web", "ls")[0] == 1
    assert run("exec", "nope", "ls")[0] == 1
    cloud.has_consoles = False
    code, _, told = run("exec", "web", "ls")
    assert (code, "needs the server's serial console" in told) == (1, True), told


def test_logs_follow_all_servers_with_their_names(run: Run, connect: Any) -> None:
    def script(socket: FakeSocket, request: dict[str, Any]) -> None:
        assert (request["op"], request["tail"], request["follow"]) == ("logs", 2, True)
        socket.send(frame(1, b"one\ntw") + frame(2, b"bad\n") + frame(1, b"o\nlast"))
        socket.finish(0)

    connect(lambda: FakeSocket(script))
    run("up")
    code, output, _ = run("logs", "-f", "--tail", "2", "web")
    assert code == 0
    lines = output.splitlines()
    for name in ("p-web-1", "p-web-2"):
        assert [line for line in lines if line.startswith(name)] == [
            f"{name}  | {text}" for text in ("one", "bad", "two", "last")
        ]


def test_logs_without_a_proxy_look_at_the_console_log_again_and_again(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL", 0.01)
    run("up")
    cloud.has_consoles = False
    database = next(each for each in cloud.servers.values() if each["name"] == "p-db-1")
    looks = 0

    def go_on(number: int) -> None:
        nonlocal looks
        if cloud.requests[-1].endswith(f"{database['id']}/action"):
            looks += 1
            database["log"] = "one\ntwo\nthree\n" + "".join(f"more {each}\n" for each in range(looks))
            database["status"] = "ACTIVE" if looks < 3 else "SHUTOFF"

    cloud.after = go_on
    code, output, told = run("logs", "--follow", "--no-log-prefix", "db")
    assert (code, output.split("\n")) == (0, ["one", "two", "three", "more 0", "more 1", "more 2", ""])
    assert "is looked at every" in told
    assert run("logs", "--since", "10m", "web")[0] == 1, "the console log has no times"


def test_exec_detached_begins_a_command_and_does_not_wait_for_it(run: Run, connect: Any) -> None:
    socket = FakeSocket(lambda socket, _: socket.finish(0))
    connect(socket)
    run("up")
    assert run("exec", "-d", "--user", "www-data", "db", "sleep", "1000")[0] == 0
    assert (socket.request["argv"][0], socket.request["argv"][-2:]) == ("sh", ["sleep", "1000"])
    assert (socket.request["stdin"], socket.request["tty"], socket.request["user"]) == (False, False, "www-data")


def test_a_detached_command_has_a_session_of_its_own_when_it_is_told_to_have_begun(tmp_path: Path) -> None:
    words = ["sh", "-c", "echo $$ $NOVA_CONSOLE; echo $$ $NOVA_CONSOLE >it; exec sleep 1000"]
    done = subprocess.run(
        ["/bin/sh", "-c", inside._IN_BACKGROUND, "sh", *words],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "NOVA_CONSOLE": "channel"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    while not (tmp_path / "it").exists() or not (tmp_path / "it").read_text():
        time.sleep(0.01)
    [process] = (tmp_path / "it").read_text().split()
    try:
        assert os.getsid(int(process)) != os.getsid(0)
    finally:
        os.kill(int(process), signal.SIGKILL)


def test_a_detached_command_that_is_not_there_is_told() -> None:
    command = ["/bin/sh", "-c", inside._IN_BACKGROUND, "sh", "no-such-command"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (127, b"no-such-command: there is no such command\n")


def test_variables_are_given_or_the_user_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "yes")
    monkeypatch.delenv("NOBODY_S", raising=False)
    assert inside.variables(["A=b=c", "MINE", "NOBODY_S", "EMPTY="]) == {"A": "b=c", "MINE": "yes", "EMPTY": ""}


def test_top_asks_all_servers_at_the_same_time(run: Run, connect: Any) -> None:
    all_are_asked = threading.Barrier(3, timeout=600)

    def script(socket: FakeSocket, _: dict[str, Any]) -> None:
        all_are_asked.wait()
        socket.send(frame(1, json.dumps({"titles": ["PID"], "processes": [["1"]]}).encode()))
        socket.finish(0)

    connect(lambda: FakeSocket(script))
    run("up")
    code, output, told = run("top")
    assert (code, told) == (0, "")
    assert output == "".join(f"{name}\nPID\n1\n\n" for name in ("p-db-1", "p-web-1", "p-web-2"))


def test_top_prints_those_that_answer_and_names_the_other(run: Run, connect: Any) -> None:
    which = iter(range(3))

    def script(socket: FakeSocket, _: dict[str, Any]) -> None:
        if next(which) == 1:
            socket.send(frame(5, b'{"error": "it has ended"}'))
        else:
            socket.send(frame(1, json.dumps({"titles": ["PID"], "processes": [["1"]]}).encode()))
            socket.finish(0)

    connect(lambda: FakeSocket(script))
    run("up")
    code, output, told = run("top")
    assert (code, output.count("PID")) == (1, 2)
    assert told.endswith(": it has ended\n")


def test_top_and_events_print_what_the_host_says(run: Run, connect: Any) -> None:
    def script(socket: FakeSocket, request: dict[str, Any]) -> None:
        if request["op"] == "top":
            listed = {"titles": ["PID", "CMD"], "processes": [["1", "sh"], ["1234", "sleep 5"]]}
            socket.send(frame(1, json.dumps(listed).encode()))
        else:
            event = {"time": "2026-01-01T00:00:00Z", "event": "die", "exit_code": 1}
            socket.send(frame(1, json.dumps(event).encode() + b"\n"))
        socket.finish(0)

    connect(lambda: FakeSocket(script))
    run("up")
    assert run("top", "db")[1] == "p-db-1\nPID   CMD\n1     sh\n1234  sleep 5\n\n"
    [listed] = json.loads(run("top", "--format", "json", "db")[1])
    assert (listed["server"], listed["titles"], listed["processes"][0]) == ("p-db-1", ["PID", "CMD"], ["1", "sh"])
    assert run("events", "db")[1] == "p-db-1  | 2026-01-01T00:00:00Z die exit_code=1\n"
    told = json.loads(run("events", "--json", "db")[1])
    assert (told["server"], told["service"], told["exit_code"]) == ("p-db-1", "db", 1)


def test_colours_are_for_terminals() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for output, has_colour in ((io.StringIO(), False), (Terminal(), True)):
        following.Printer(output, ["a", "bc"]).line("a", "text")
        assert output.getvalue() == ("\x1b[36ma   | \x1b[0mtext\n" if has_colour else "a   | text\n")
