"""Stop, start, reboot, pause: one server goes through all of them, and every test leaves it ACTIVE."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Launcher
from harness.guest import Guest
from harness.lab import Lab, Side
from harness.servers import Json, Refused, Servers, wait_event
from harness.waiting import eventually

READY = "ready after"
FIRST_LINE = "[001] "


@pytest.fixture(scope="module")
def server_id(module_launch: Launcher, private_network: list[Json], key_name: str) -> str:
    return str(module_launch("life", networks=private_network, key_name=key_name)["id"])


@pytest.fixture
def inside(server_id: str, servers: Servers, guest_of: Callable[[str], Guest]) -> Guest:
    servers.wait_console(server_id, READY)
    return guest_of(server_id).wait_ssh()


def boots(servers: Servers, server_id: str) -> int:
    """How often the boot log was begun."""
    return servers.console(server_id).count(FIRST_LINE)


def _succeeded(admin_servers: Servers, server_id: str, action: str) -> None:
    event = wait_event(admin_servers, server_id, action, f"compute_{action}_instance")
    assert event.result == "Success", event


@pytest.mark.both_doors
def test_stop_and_start(server_id: str, servers: Servers, admin_servers: Servers) -> None:
    addresses = servers.get(server_id)["addresses"]
    servers.action(server_id, "os-stop")
    stopped = servers.wait(server_id, "SHUTOFF")
    assert stopped["OS-EXT-STS:power_state"] == 4
    assert stopped["OS-EXT-STS:vm_state"] == "stopped"
    _succeeded(admin_servers, server_id, "stop")
    servers.action(server_id, "os-start")
    started = servers.wait(server_id, "ACTIVE")
    assert started["OS-EXT-STS:power_state"] == 1
    assert started["addresses"] == addresses
    _succeeded(admin_servers, server_id, "start")


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_reboot(server_id: str, servers: Servers, admin_servers: Servers, kind: str) -> None:
    addresses = servers.get(server_id)["addresses"]
    servers.action(server_id, "reboot", {"type": kind})
    server = servers.wait(server_id, "ACTIVE")
    assert server["OS-EXT-STS:power_state"] == 1
    assert server["addresses"] == addresses
    _succeeded(admin_servers, server_id, "reboot")


@pytest.mark.both_doors
def test_pause_and_unpause(server_id: str, servers: Servers, admin_servers: Servers, side: Side) -> None:
    servers.action(server_id, "pause")
    paused = servers.wait(server_id, "PAUSED")
    # Nova's fake driver says that its paused servers run.
    assert paused["OS-EXT-STS:power_state"] == (3 if side.real else 1)
    _succeeded(admin_servers, server_id, "pause")
    servers.action(server_id, "unpause")
    assert servers.wait(server_id, "ACTIVE")["OS-EXT-STS:power_state"] == 1
    _succeeded(admin_servers, server_id, "unpause")


@pytest.mark.full
def test_a_server_that_is_stopped_cannot_be_stopped_again(server_id: str, servers: Servers) -> None:
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    with pytest.raises(Refused) as refusal:
        servers.action(server_id, "os-stop")
    assert refusal.value.status == 409
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")


@pytest.mark.both_doors
@pytest.mark.agent
def test_files_and_network_survive_stop_and_start(server_id: str, servers: Servers, inside: Guest) -> None:
    """Regression: a predecessor lost the network on power on."""
    inside.ssh("echo kept > /root/file")
    mac = inside.ssh("cat /sys/class/net/eth0/address")
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    # Its address does not answer for a process that is not there.
    assert not inside.answers_ping()
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")
    inside.wait_ssh()
    assert inside.answers_ping()
    assert inside.ssh("cat /root/file") == "kept"
    assert inside.ssh("cat /sys/class/net/eth0/address") == mac
    assert inside.ssh("ip route | grep -c '^default'") == "1"


@pytest.mark.both_doors
@pytest.mark.agent
@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_a_reboot_boots_and_keeps_files_and_network(server_id: str, servers: Servers, inside: Guest, kind: str) -> None:
    inside.ssh(f"echo {kind} > /root/{kind}")
    boot = inside.ssh("cut -d' ' -f22 /proc/1/stat")
    servers.action(server_id, "reboot", {"type": kind})
    servers.wait(server_id, "ACTIVE")
    inside.wait_ssh()
    assert inside.ssh("cut -d' ' -f22 /proc/1/stat") != boot, "process 1 is the same as before the reboot"
    assert inside.ssh(f"cat /root/{kind}") == kind
    assert FIRST_LINE in servers.wait_console(server_id, READY)


@pytest.mark.both_doors
@pytest.mark.agent
def test_a_stop_asks_the_first_process_to_end(server_id: str, servers: Servers, inside: Guest) -> None:
    said = "asked to stop; stopping"
    before = servers.console(server_id).count(said)
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    assert servers.console(server_id).count(said) == before + 1
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")


@pytest.mark.both_doors
@pytest.mark.agent
def test_a_paused_server_answers_nobody(server_id: str, servers: Servers, inside: Guest, lab: Lab) -> None:
    servers.action(server_id, "pause")
    servers.wait(server_id, "PAUSED")
    assert lab.docker("inspect", "--format", "{{.State.Paused}}", f"nova-{server_id}") == "true"
    # Nor does the kernel in its place.
    assert not inside.answers_ping()
    assert "<h1>" not in inside.http(seconds=5)
    servers.action(server_id, "unpause")
    servers.wait(server_id, "ACTIVE")
    eventually(lambda: "<h1>" in inside.http(), "its page")
    assert inside.answers_ping()


@pytest.mark.full
@pytest.mark.agent
def test_a_paused_server_can_be_deleted(servers: Servers, launch: Launcher) -> None:
    server = launch("paused")
    servers.action(server["id"], "pause")
    servers.wait(server["id"], "PAUSED")
    servers.delete(server["id"])
    servers.wait_gone(server["id"])


@pytest.mark.agent
def test_a_server_that_ignores_the_stop_signal_is_stopped(
    servers: Servers, launch: Launcher, add_image: Callable[..., str], tiny: object
) -> None:
    """os_shutdown_timeout is the image owner's; after it the container is killed."""
    command = ("sh", "-c", "trap : TERM; echo deaf; while :; do sleep 1; done")
    image = add_image(tiny.running(*command).tar(), "deaf", os_shutdown_timeout="3")  # type: ignore[attr-defined]
    server = launch("deaf", image=image)
    servers.wait_console(server["id"], "deaf")
    servers.action(server["id"], "os-stop")
    servers.wait(server["id"], "SHUTOFF", 50)


@pytest.mark.both_doors
@pytest.mark.agent
def test_a_container_that_ends_is_shut_off_at_once(server_id: str, servers: Servers, inside: Guest) -> None:
    inside.ssh("kill 1", check=False)
    server = servers.wait(server_id, "SHUTOFF", 60)
    assert server["OS-EXT-STS:power_state"] == 4
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")


@pytest.mark.agent
def test_a_container_that_is_killed_on_the_host_is_shut_off_at_once(server_id: str, servers: Servers, lab: Lab) -> None:
    lab.docker("kill", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF", 60)
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")
