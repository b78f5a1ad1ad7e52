"""Serial consoles: through Nova's API and its proxy to a container."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness import console
from harness.archives import Archive
from harness.console import Console
from harness.lab import Lab
from harness.programs import setting
from harness.servers import Refused, Servers
from harness.waiting import eventually
from nova_docker_compose.channel import Channel

pytestmark = pytest.mark.agent

ANSWER = "[42]"
PROXY = "nova-serialproxy"


@pytest.fixture(scope="module")
def server_id(module_launch: Launcher, servers: Servers) -> str:
    server_id = str(module_launch("serial")["id"])
    servers.wait_console(server_id, "ready after")
    return server_id


def _ask(viewer: Console) -> None:
    viewer.type("echo [$((40 + 2))]\n")
    viewer.wait(ANSWER)


def _shells(lab: Lab, server_id: str) -> list[str]:
    """Processes that have the mark of a console in their environment."""
    pids = lab.docker("top", f"nova-{server_id}", "-o", "pid").split()[1:]
    return [
        pid
        for pid in pids
        if "NOVA_CONSOLE=serial" in lab.run(["cat", f"/proc/{pid}/environ"], check=False).split("\0")
    ]


@pytest.mark.both_doors
def test_each_viewer_has_a_shell_of_its_own_that_goes_with_it(lab: Lab, servers: Servers, server_id: str) -> None:
    address = console.url(servers, server_id)
    with Console(address) as first, Console(address) as second:
        first.type("name=one\n")
        _ask(first)
        second.type('echo "<$name>"\n')
        second.wait("<>")
        first.type('echo "<$name>"\n')
        first.wait("<one>")
        assert len(_shells(lab, server_id)) == 2
    eventually(lambda: _shells(lab, server_id) == [], "no shell without a viewer")


@pytest.mark.both_doors
def test_a_channel_runs_a_command_which_ends_with_its_client(lab: Lab, servers: Servers, server_id: str) -> None:
    written = bytearray()

    def run(*argv: str) -> int:
        written.clear()
        with Channel(console.url(servers, server_id), verify=True, request={"op": "exec", "argv": argv}) as channel:
            return channel.run(lambda _, data: written.extend(data))

    assert (run("sh", "-c", "echo $((40 + 2)); exit 3"), bytes(written)) == (3, b"42\n")
    # More than proxy and host keep of it.
    assert (run("head", "-c", "20000000", "/dev/zero"), len(written)) == (0, 20_000_000)
    address = console.url(servers, server_id)
    with Channel(address, verify=True, request={"op": "exec", "argv": ["sleep", "4321"]}):
        eventually(lambda: "sleep 4321" in lab.docker("top", f"nova-{server_id}"), "the command runs")
    eventually(lambda: "sleep 4321" not in lab.docker("top", f"nova-{server_id}"), "no command without its client")


def test_a_shell_that_exits_ends_its_console(servers: Servers, server_id: str) -> None:
    with Console(console.url(servers, server_id)) as viewer:
        _ask(viewer)
        viewer.type("exit\n")
        assert "The console has ended." in viewer.wait_end()


def test_a_token_that_nova_does_not_know_opens_nothing(servers: Servers, server_id: str) -> None:
    address = console.url(servers, server_id)
    with Console(re.sub(r"token=.*", "token=16ad5b7e-7a87-4a2b-8f0e-0f0f4d1ce26c", address)) as viewer:
        assert viewer.wait_end() == ""


def test_an_expired_token_opens_nothing_and_ends_nothing(lab: Lab, servers: Servers, server_id: str) -> None:
    address = console.url(servers, server_id)
    with Console(address) as open_before:
        _ask(open_before)
        lab.sql(f"UPDATE nova.console_auth_tokens SET expires = 1 WHERE instance_uuid = '{server_id}'")  # noqa: S608
        with Console(address) as late:
            assert late.wait_end() == ""
        open_before.type("echo still here | tr a-z A-Z\n")
        open_before.wait("STILL HERE")


@pytest.mark.full
@pytest.mark.alone
@pytest.mark.both_doors
def test_where_nova_enforces_it_a_console_ends_with_its_token(lab: Lab, launch: Launcher, servers: Servers) -> None:
    server_id = launch("timed")["id"]
    servers.wait_console(server_id, "ready after")
    with _proxy_with(lab, "consoleauth", "enforce_session_timeout", "true"):
        address = console.url(servers, server_id)
        lab.sql(
            "UPDATE nova.console_auth_tokens SET expires = UNIX_TIMESTAMP() + 15 WHERE instance_uuid = %(id)s",
            {"id": server_id},
        )
        with Console(address) as viewer:
            _ask(viewer)
            assert len(_shells(lab, server_id)) == 1
            viewer.wait_end()
        eventually(lambda: _shells(lab, server_id) == [], "no shell without a viewer")


@contextlib.contextmanager
def _proxy_with(lab: Lab, section: str, option: str, value: str) -> Iterator[None]:
    """The proxy of serial consoles with another option, for a while."""
    try:
        with setting(lab.state / "etc/nova.conf", section, option, value):
            lab.supervisorctl("restart", PROXY)
            _wait_proxy()
            yield
    finally:
        lab.supervisorctl("restart", PROXY)
        _wait_proxy()


def _wait_proxy() -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 6083), timeout=5):
            return True
        return False

    eventually(listens, "the proxy listening")


def test_viewers_of_a_servers_own_terminal_see_the_same_and_what_was_before(
    launch: Launcher, servers: Servers, add_image: Callable[..., str], tiny: Archive
) -> None:
    command = 'echo BOOTED; while read -r word; do echo "<$word>"; done'
    image = add_image(tiny.running("sh", "-c", command).tar(), "terminal", docker_tty="true")
    server_id = launch("terminal", image=image)["id"]
    servers.wait_console(server_id, "BOOTED")
    address = console.url(servers, server_id)
    with Console(address) as first, Console(address) as second:
        for viewer in (first, second):
            viewer.wait("BOOTED")
        first.type("hello\n")
        for viewer in (first, second):
            viewer.wait("<hello>")
    assert "<hello>" in servers.console(server_id)


def test_a_server_that_stops_ends_its_consoles_and_has_none_until_it_runs(launch: Launcher, servers: Servers) -> None:
    server_id = launch("stopping")["id"]
    servers.wait_console(server_id, "ready after")
    address = console.url(servers, server_id)
    with Console(address) as viewer:
        _ask(viewer)
        servers.action(server_id, "os-stop")
        assert "The console has ended." in viewer.wait_end()
    servers.wait(server_id, "SHUTOFF")
    with pytest.raises(Refused) as refusal:
        console.url(servers, server_id)
    assert (refusal.value.status, "it is not running" in refusal.value.message) == (400, True), refusal.value.message
    with Console(address) as viewer:
        assert viewer.wait_end() == ""


def test_a_server_without_a_shell_is_refused_with_the_reason(
    launch: Launcher, servers: Servers, add_image: Callable[..., str], tiny: Archive
) -> None:
    image = add_image(tiny.running("sleep", "9999").tar(), "no-shell", docker_console_shell="none")
    server_id = launch("no-shell", image=image)["id"]
    with pytest.raises(Refused) as refusal:
        console.url(servers, server_id)
    assert (refusal.value.status, "console_shell" in refusal.value.message) == (400, True), refusal.value.message


@pytest.mark.full
def test_the_command_line_names_the_same_proxy(lab: Lab, servers: Servers, server_id: str) -> None:
    command = [str(lab.state / "bin" / "openstack"), "--os-cloud", "admin", "console", "url", "show", "--serial"]
    shown = lab.run([*command, "-f", "value", "-c", "url", server_id]).strip()
    assert shown.split("?")[0] == console.url(servers, server_id).split("?")[0]
    with Console(shown) as viewer:
        _ask(viewer)
