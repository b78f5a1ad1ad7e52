"""The scripts of the image `tiny` that stand in for programs, in the shell that runs them there."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGES = Path(__file__).resolve().parent.parent / "minicloud" / "images"


class Page(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    def do_GET(self) -> None:
        self._answer(404 if self.path == "/missing" else 200, f"GET {self.path} {self.headers.get('X-Word', '')}")

    def do_POST(self) -> None:
        self._answer(200, "POST " + self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run(script: str, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a script as in the image, where the shell has no programs but busybox'."""
    command = ["/bin/busybox", "sh", IMAGES / f"tiny-{script}", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "/bin:/usr/bin"}, **settings
    )


def test_curl_fetches_a_page_and_posts_data(address: str, tmp_path: Path) -> None:
    assert run("curl", f"{address}/a").stdout == "GET /a "
    assert run("curl", "-s", "-H", "X-Word: hello", f"{address}/b").stdout == "GET /b hello"
    assert run("curl", "-X", "POST", "-d", "a=1&b=2", f"{address}/c").stdout == "POST a=1&b=2"
    run("curl", "-o", str(tmp_path / "page"), f"{address}/d")
    assert (tmp_path / "page").read_text() == "GET /d "
    assert run("curl", "-V").stdout.startswith("curl ")


def test_curl_fails_with_a_status(address: str) -> None:
    assert run("curl", f"{address}/missing").returncode == 22
    for arguments in (["-X", "DELETE", address], ["--compressed", address], []):
        refused = run("curl", *arguments)
        assert refused.returncode == 2
        assert refused.stderr.startswith("curl: ")


def test_sudo_runs_a_command_for_root_and_for_nobody_else() -> None:
    assert run("sudo", "-n", "sh", "-c", "echo $0 $1", "a", "b c").stdout == "a b c\n"
    assert run("sudo", "sh", "-c", "exit 7").returncode == 7
    for arguments, user in ((["-u", "nobody", "id"], 0), ([], 0), (["id"], 65534)):
        refused = run("sudo", *arguments, user=user)
        assert refused.returncode == 1
        assert refused.stderr.startswith("sudo: ")


def test_the_shell_has_what_tempest_says_before_each_command() -> None:
    prologue = "set -eu -o pipefail; PATH=$PATH:/sbin:/usr/sbin; date >/dev/null && ip -o link | awk '{print $2}'"
    shell = subprocess.run(
        ["/bin/busybox", "sh", "-c", prologue], capture_output=True, text=True, check=True, env={"PATH": "/bin"}
    )
    assert "lo:" in shell.stdout
