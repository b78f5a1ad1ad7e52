"""The console log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.lab import Lab
from harness.servers import Refused, Servers

READY = "ready after"

pytestmark = pytest.mark.agent


@pytest.fixture(scope="module")
def server_id(module_launch: Launcher, servers: Servers) -> str:
    server = module_launch("console")
    servers.wait_console(server["id"], READY)
    # The ssh server says a word of its own at about the same time; nothing is written after both.
    servers.wait_console(server["id"], "Not backgrounding")
    return str(server["id"])


def test_the_whole_log_has_the_boot_from_its_first_line(server_id: str, servers: Servers) -> None:
    lines = servers.console(server_id).splitlines()
    assert lines[0].startswith("[001] tiny: starting as process 1 on ")
    assert len(lines) > 30
    assert any(READY in line for line in lines[-3:])


@pytest.mark.both_doors
@pytest.mark.parametrize("count", [1, 7, 30])
def test_a_length_gives_exactly_the_last_lines_by_novas_count(server_id: str, servers: Servers, count: int) -> None:
    """What follows the last line end is a line, even if it is nothing."""
    whole = servers.console(server_id)
    assert whole.endswith("\n")
    assert servers.console(server_id, count) == "\n".join(whole.split("\n")[-count:])


def test_more_lines_than_there_are_give_all(server_id: str, servers: Servers) -> None:
    assert servers.console(server_id, 100_000) == servers.console(server_id)


def test_a_length_of_zero_gives_nothing(server_id: str, servers: Servers) -> None:
    assert servers.console(server_id, 0) == ""


def test_the_log_of_a_stopped_server_can_be_read(launch: Launcher, servers: Servers) -> None:
    server = launch("quiet")
    servers.wait_console(server["id"], READY)
    servers.action(server["id"], "os-stop")
    servers.wait(server["id"], "SHUTOFF")
    assert "asked to stop; stopping" in servers.console(server["id"], 5)


def test_a_very_long_log_is_bounded(
    launch: Launcher, servers: Servers, add_image: Callable[..., str], tiny: Archive
) -> None:
    """Regression: a predecessor read everything and choked."""
    command = (
        'i=0; while [ $i -lt 6000 ]; do i=$((i+1)); echo "line $i is as long as lines usually are"; done; sleep 9999'
    )
    image = add_image(tiny.running("sh", "-c", command).tar(), "chatty")
    server = launch("chatty", image=image)
    servers.wait_console(server["id"], "line 6000 ")
    assert len(servers.console(server["id"]).encode()) <= 102_400
    assert [line.split()[1] for line in servers.console(server["id"], 4).splitlines()] == ["5998", "5999", "6000"]


BAD = "\ufffd"
"""What stands for octets that are no text."""


def test_bytes_that_are_no_text_do_no_harm(
    lab: Lab, launch: Launcher, servers: Servers, add_image: Callable[..., str], tiny: Archive
) -> None:
    """The agent replaces what is no UTF-8, and stock nova-compute then each octet that is no ASCII.

    The API leaves control characters out.
    """
    command = r"printf 'caf\303\251 \377\376 \001\033[31mred\n'; sleep 9999"
    server = launch("bytes", image=add_image(tiny.running("sh", "-c", command).tar(), "bytes"))
    expected = {"amqp": "caf\u00e9 \ufffd\ufffd [31mred\n", "grpc": f"caf{2 * BAD} {6 * BAD} [31mred\n"}
    assert servers.wait_console(server["id"], "red") == expected[lab.door]


@pytest.mark.both_doors
def test_the_log_of_a_server_that_never_started_is_refused_politely(
    launch: Launcher, servers: Servers, add_image: Callable[..., str]
) -> None:
    image = add_image(b"no archive", "broken")
    server = launch.failing("broken", image=image)
    with pytest.raises(Refused) as refusal:
        servers.console(server["id"])
    assert refusal.value.status == 409
