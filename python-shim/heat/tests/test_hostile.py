"""A Docker that is none, or means ill. A double: no real one does this."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from nova_docker_heat import options, transport
from nova_docker_heat.endpoint import BadEndpoint, parse, resolve
from nova_docker_heat.engine import DockerFailed, Engine, NoAnswer

Handler = Callable[["Liar"], None]
ID = "0" * 64


class Liar(http.server.BaseHTTPRequestHandler):
    """Answers `/version` as Docker does, and all else as the test says."""

    lies: dict[str, Handler]
    seen: list[str]
    connections: list[object]

    def setup(self) -> None:
        self.connections.append(self.client_address)
        super().setup()

    def do_GET(self) -> None:
        self.seen.append(f"{self.command} {self.path} {self.headers.get('X-Registry-Auth')}")
        path = self.path.partition("?")[0].removeprefix("/v1.41")
        if path in self.lies:
            self.lies[path](self)
        elif path == "/version":
            self.say({"ApiVersion": "1.41"})
        else:
            self.send_error(404)

    do_POST = do_GET  # noqa: N815, http.server's name

    def say(self, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def liar() -> Iterator[Callable[..., Engine]]:
    """An engine whose Docker lies about some paths."""
    servers = []

    def lying(lies: dict[str, Handler]) -> Engine:
        kind = type("OneLiar", (Liar,), {"lies": lies, "seen": [], "connections": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        engine = Engine(f"127.0.0.1:{server.server_port}", None)
        engine.seen = kind.seen  # type: ignore[attr-defined]
        engine.connections = kind.connections  # type: ignore[attr-defined]
        return engine

    yield lying
    for server in servers:
        server.shutdown()
        server.server_close()


def redirects(to: str) -> Handler:
    def redirect(request: Liar) -> None:
        request.send_response(302)
        request.send_header("Location", to)
        request.end_headers()

    return redirect


def endless(pause: float = 0) -> Handler:
    def write(request: Liar) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        try:
            for _ in itertools.count():
                request.wfile.write(b" " * (10 if pause else 65536))
                time.sleep(pause)
        except OSError:
            """Whom it was for is gone."""

    return write


def test_no_redirection_is_followed(liar: Callable[..., Engine]) -> None:
    engine = liar({f"/containers/{ID}/json": redirects("http://169.254.169.254/latest/meta-data")})
    with pytest.raises(DockerFailed, match="redirect"):
        engine.inspect(ID)


def test_an_answer_without_end_is_cut_off(liar: Callable[..., Engine]) -> None:
    engine = liar({f"/containers/{ID}/json": endless()})
    with pytest.raises(DockerFailed, match="more than 4194304 bytes"):
        engine.inspect(ID)


def _again_and_again(head: bytes, piece: bytes) -> Handler:
    """What is never done with the answer."""

    def write(request: Liar) -> None:
        with contextlib.suppress(OSError):
            request.wfile.write(head)
            while True:
                request.wfile.write(piece)
                time.sleep(0.005)

    return write


_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_EMPTY = gzip.compress(b"")


@pytest.mark.parametrize(
    "answer",
    [
        endless(pause=0.01),
        _again_and_again(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        _again_and_again(b"HTTP/1.1 200 O", b"K"),
        _again_and_again(_OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"A: b\r\n"),
        _again_and_again(_OK + b"Content-Encoding: gzip\r\n\r\n", _EMPTY),
        _again_and_again(
            _OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"%x\r\n%s\r\n" % (len(_EMPTY), _EMPTY),
        ),
    ],
    ids=["trickle", "interim answers", "status", "trailers", "empty gzip", "empty gzip in pieces"],
)
@pytest.mark.timeout(60)
def test_an_answer_that_takes_too_long_is_cut_off_whatever_it_is_made_of(
    liar: Callable[..., Engine], answer: Handler
) -> None:
    engine = liar({f"/containers/{ID}/json": answer})
    engine._transport.seconds = 1
    with pytest.raises(DockerFailed, match="too slowly") as caught:
        engine.inspect(ID)
    assert not isinstance(caught.value, NoAnswer)


def test_a_connection_that_stays_open_has_its_time_anew_for_each_answer(
    liar: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0

    def keep(request: Liar) -> None:
        nonlocal ahead
        request.protocol_version = "HTTP/1.1"
        # Two of them are too long for one answer.
        ahead += 0.6 * transport.ANSWER_SECONDS
        request.close_connection = False
        request.say({"Id": ID})

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead)
    monkeypatch.setattr(transport, "time", clock)
    engine = liar({f"/containers/{ID}/json": keep})
    before = len(engine.connections)
    assert [engine.inspect(ID)["Id"] for _ in range(3)] == [ID] * 3
    assert len(engine.connections) == before + 1


@pytest.mark.parametrize("found", [[{}], [5], {"a": 1}, 5, [{"Id": 5}], [{"Id": "../x"}], None, [{"Id": ID}] * 1000])
def test_a_list_of_containers_that_is_none_is_told(liar: Callable[..., Engine], found: object) -> None:
    engine = liar({"/containers/json": lambda request: request.say(found)})
    with pytest.raises(DockerFailed, match="does not list containers"):
        engine.containers_of("x")


@pytest.mark.parametrize("body", ["{}", "[]", "5", "null", '{"message": 5}', "[" * 100_000])
def test_an_error_that_is_none_of_docker_s_is_told(liar: Callable[..., Engine], body: str) -> None:
    def fail(request: Liar) -> None:
        request.send_response(500)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write(body.encode())

    with pytest.raises(DockerFailed, match="does not show the container"):
        liar({f"/containers/{ID}/json": fail}).inspect(ID)


def test_a_log_that_claims_to_be_huge_takes_64_kib(liar: Callable[..., Engine]) -> None:
    def huge(request: Liar) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(b"\1\0\0\0\xff\xff\xff\xff" + b"x" * 200_000)

    engine = liar({f"/containers/{ID}/json": lambda r: r.say({"Config": {}}), f"/containers/{ID}/logs": huge})
    assert 60_000 < len(engine.logs(ID)) <= 65536


def test_a_message_is_cut_and_has_nothing_that_a_terminal_obeys(liar: Callable[..., Engine]) -> None:
    def fail(request: Liar) -> None:
        request.send_response(500)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write(json.dumps({"message": "\x1b[2J" + "x" * 5000}).encode())

    with pytest.raises(DockerFailed) as caught:
        liar({f"/containers/{ID}/json": fail}).inspect(ID)
    assert len(str(caught.value)) < 1200
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("answer", [[], {}, {"Id": 5}, {"Id": "../../x"}])
def test_a_container_without_an_id_is_none(liar: Callable[..., Engine], answer: object) -> None:
    engine = liar({"/containers/create": lambda request: request.say(answer)})
    with pytest.raises(DockerFailed, match="without an id"):
        engine.create(lambda _: {}, None)


@pytest.mark.parametrize("version", [None, "2.0", "1.41/../../x", 7, {}])
def test_what_tells_no_version_is_no_docker(liar: Callable[..., Engine], version: object) -> None:
    with pytest.raises(DockerFailed, match="is no Docker"):
        liar({"/version": lambda request: request.say({"ApiVersion": version})})


def test_a_pull_that_fails_late_is_a_failure_and_takes_no_password_along(
    liar: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.example": {"auth": "dTpw"}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def late(request: Liar) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(b'{"status": "Pulling"}\r\n{"error": "no space left on device"}\r\n')

    engine = liar({"/images/create": late})
    with pytest.raises(DockerFailed, match=r"does not pull the image r.example/a:1: no space left"):
        engine.pull_if_missing("r.example/a:1")
    asked = engine.seen[-1]  # type: ignore[attr-defined]
    assert asked == "POST /v1.41/images/create?fromImage=r.example%2Fa&tag=1 None"


# ------------------------------------------------------------ endpoints


@pytest.mark.parametrize(
    ("text", "tls", "shown"),
    [
        ("10.0.0.5", False, "tcp://10.0.0.5:2375"),
        ("10.0.0.5", True, "https://10.0.0.5:2376"),
        ("10.0.0.5:99", False, "tcp://10.0.0.5:99"),
        ("tcp://docker.example:99/", False, "tcp://docker.example:99"),
        ("http://10.0.0.5", False, "tcp://10.0.0.5:2375"),
        ("https://10.0.0.5", True, "https://10.0.0.5:2376"),
        ("fd00::5", False, "tcp://[fd00::5]:2375"),
        ("[fd00::5]:99", False, "tcp://[fd00::5]:99"),
    ],
)
def test_an_endpoint_may_be_a_bare_address(text: str, tls: bool, shown: str) -> None:
    assert str(parse(text, tls)) == shown


@pytest.mark.parametrize("text", ["", "tcp://", "a b", "10.0.0.5/v1", "10.0.0.5:", "[fd00::5", "fe80::1%eth0", "@x"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(BadEndpoint):
        parse(text, False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0", "[::ffff:127.0.0.1]"])
def test_without_networks_of_the_operator_s_nobody_names_heat_s_own_host(host: str) -> None:
    with pytest.raises(BadEndpoint, match="the operator lets no template name a Docker at"):
        resolve(parse(host, False), [])


def test_the_operator_s_networks_are_all_there_is(conf: Any) -> None:
    conf.set_override("endpoint_networks", ["10.0.0.0/24", "fd00::/64"], options.GROUP)
    networks = options.endpoint_networks()
    assert resolve(parse("10.0.0.7", False), networks) == "10.0.0.7"
    assert resolve(parse("fd00::7", False), networks) == "fd00::7"
    with pytest.raises(BadEndpoint):
        resolve(parse("10.0.1.7", False), networks)
