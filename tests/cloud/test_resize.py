"""Resizes on the same host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.guest import Guest
from harness.lab import Lab
from harness.programs import agent_with, kill_agent
from harness.servers import Json, Servers, events, wait_event
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent]

# It heeds its stop signal, and does not end by it.
OBSTINATE = "trap 'echo asked' TERM; echo ready; while :; do sleep 1; done"


@pytest.fixture(scope="module")
def small(admin: Connection) -> str:
    """A flavor of another size."""
    return str(admin.compute.find_flavor("c1.small", ignore_missing=False).id)


def _containers(lab: Lab, server_id: str) -> list[str]:
    listed = lab.docker("ps", "--all", "--filter", f"name={server_id}", "--format", "{{.Names}}")
    return sorted(listed.split())


def _memory(lab: Lab, server_id: str) -> int:
    return int(lab.docker("inspect", "--format", "{{.HostConfig.Memory}}", f"nova-{server_id}")) >> 20


def _memory_used(admin_servers: Servers) -> int:
    """MiB of the host that servers and resizes hold; the newest microversion does not show it any more."""
    found = admin_servers.request("GET", "/os-hypervisors/detail", microversion="2.53")["hypervisors"]
    [own] = [entry for entry in found if entry["service"]["host"] == admin_servers.side.host]
    return int(own["memory_mb_used"])


def _held(admin: Connection, consumer: str) -> dict[str, Any]:
    """What a server, or a migration, holds in placement."""
    found = admin.placement.get(f"/allocations/{consumer}", microversion="1.28").json()["allocations"]
    return {name: amount for held in found.values() for name, amount in held["resources"].items()}


def _migration(admin_servers: Servers, server_id: str) -> Json:
    [newest, *_] = admin_servers.request("GET", f"/os-migrations?instance_uuid={server_id}")["migrations"]
    return newest


@pytest.mark.both_doors
def test_a_resized_server_has_its_files_its_network_and_other_limits_and_is_confirmed(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin: Connection,
    admin_servers: Servers,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
    small: str,
) -> None:
    server = launch("grown", networks=private_network, key_name=key_name)
    server_id = server["id"]
    ports = servers.interfaces(server_id)
    inside = guest_of(server_id).wait_ssh()
    inside.ssh("echo kept > /root/note")
    before = _held(admin, server_id)
    servers.action(server_id, "resize", {"flavorRef": small})
    servers.wait(server_id, "VERIFY_RESIZE")
    assert wait_event(admin_servers, server_id, "resize", "compute_finish_resize").result == "Success"
    migration = _migration(admin_servers, server_id)
    assert migration["status"] == "finished"
    resized = servers.get(server_id)["flavor"]
    assert _memory(lab, server_id) == resized["ram"] != server["flavor"]["ram"]
    assert _held(admin, server_id)["MEMORY_MB"] == resized["ram"]
    assert _held(admin, migration["uuid"]) == before
    # The same machine by its host key.
    assert inside.ssh("cat /root/note; hostname").split() == ["kept", server["name"]]
    assert servers.interfaces(server_id) == ports
    assert len(_containers(lab, server_id)) == 2

    servers.action(server_id, "confirmResize")
    servers.wait(server_id, "ACTIVE")
    eventually(lambda: _migration(admin_servers, server_id)["status"] == "confirmed", "the migration confirmed")
    eventually(lambda: not _held(admin, migration["uuid"]), "nothing held for the migration")
    assert _containers(lab, server_id) == [f"nova-{server_id}"]
    assert inside.ssh("cat /root/note") == "kept"


@pytest.mark.both_doors
def test_a_resize_is_reverted_to_the_container_from_before(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin: Connection,
    admin_servers: Servers,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
    small: str,
) -> None:
    server = launch("back", networks=private_network, key_name=key_name)
    server_id = server["id"]
    before = _held(admin, server_id)
    inside = guest_of(server_id).wait_ssh()
    inside.ssh("echo before > /root/note")
    servers.action(server_id, "resize", {"flavorRef": small})
    servers.wait(server_id, "VERIFY_RESIZE")
    inside.wait_ssh().ssh("echo after > /root/note")
    servers.action(server_id, "revertResize")
    servers.wait(server_id, "ACTIVE")
    reverted = servers.get(server_id)["flavor"]
    assert (reverted["ram"], _memory(lab, server_id)) == (server["flavor"]["ram"], server["flavor"]["ram"])
    assert inside.wait_ssh().ssh("cat /root/note") == "before"
    migration = _migration(admin_servers, server_id)
    assert migration["status"] == "reverted"
    assert (_held(admin, server_id), _held(admin, migration["uuid"])) == (before, {})
    assert _containers(lab, server_id) == [f"nova-{server_id}"]


@pytest.mark.full
@pytest.mark.amqp
@pytest.mark.alone
@pytest.mark.usefixtures("usable_afterwards")
def test_a_resize_that_nobody_confirms_is_confirmed_when_the_window_has_passed(
    lab: Lab, launch: Launcher, servers: Servers, admin: Connection, admin_servers: Servers, small: str
) -> None:
    server_id = launch("forgotten")["id"]
    servers.action(server_id, "resize", {"flavorRef": small})
    resized = servers.wait(server_id, "VERIFY_RESIZE")
    with agent_with(lab, admin_servers, "DEFAULT", resize_confirm_window="1"):
        assert servers.wait(server_id, "ACTIVE")["flavor"] == resized["flavor"]
        assert wait_event(admin_servers, server_id, "confirmResize", "compute_confirm_resize").result == "Success"
    migration = _migration(admin_servers, server_id)
    assert migration["status"] == "confirmed"
    assert _held(admin, migration["uuid"]) == {}
    assert _containers(lab, server_id) == [f"nova-{server_id}"]


@pytest.mark.full
@pytest.mark.amqp
@pytest.mark.alone
def test_a_server_that_is_off_is_resized_and_stays_off_and_the_host_counts_both_flavors(
    launch: Launcher, servers: Servers, admin_servers: Servers, small: str
) -> None:
    server = launch("off")
    server_id = server["id"]
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    used = _memory_used(admin_servers)
    servers.action(server_id, "resize", {"flavorRef": small})
    servers.wait(server_id, "VERIFY_RESIZE")
    resized = servers.get(server_id)
    assert resized["OS-EXT-STS:power_state"] == 4
    grown = used + resized["flavor"]["ram"]
    eventually(lambda: _memory_used(admin_servers) == grown, "both flavors counted")
    servers.action(server_id, "confirmResize")
    servers.wait(server_id, "SHUTOFF")
    less = grown - server["flavor"]["ram"]
    eventually(lambda: _memory_used(admin_servers) == less, "the new flavor counted")
    servers.action(server_id, "resize", {"flavorRef": servers.connection.compute.find_flavor("c1.tiny").id})
    servers.wait(server_id, "VERIFY_RESIZE")
    servers.action(server_id, "revertResize")
    servers.wait(server_id, "SHUTOFF")
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")


@pytest.mark.amqp
def test_a_flavor_that_the_container_cannot_have_leaves_the_server_as_it_was(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin: Connection,
    admin_servers: Servers,
    unique: Callable[[str], str],
) -> None:
    server = launch("unchanged")
    server_id, before = server["id"], _held(admin, server["id"])
    started = lab.docker("inspect", "--format", "{{.State.StartedAt}}", f"nova-{server_id}")
    flavor = admin.compute.create_flavor(name=unique("odd"), ram=64, vcpus=1, disk=1)
    try:
        admin.compute.create_flavor_extra_specs(flavor, {"docker:no_such_key": "1"})
        servers.action(server_id, "resize", {"flavorRef": flavor.id})
        event = wait_event(admin_servers, server_id, "resize", "compute_prep_resize")
        assert event.result == "Error"
        assert "docker:no_such_key" in str(event.details)
        now = servers.wait_idle(server_id)
        assert (now["status"], now["flavor"]["ram"]) == ("ACTIVE", server["flavor"]["ram"])
        assert _migration(admin_servers, server_id)["status"] == "error"
        assert _held(admin, server_id) == before
        assert lab.docker("inspect", "--format", "{{.State.StartedAt}}", f"nova-{server_id}") == started
    finally:
        admin.compute.delete_flavor(flavor)


@pytest.mark.full
@pytest.mark.both_doors
@pytest.mark.alone
@pytest.mark.usefixtures("usable_afterwards")
def test_a_resize_to_a_flavor_of_other_capabilities_and_another_runtime_and_back(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin: Connection,
    admin_servers: Servers,
    private_network: list[Json],
    unique: Callable[[str], str],
) -> None:
    server = launch("privileged", networks=private_network)
    server_id, name = server["id"], f"nova-{server['id']}"
    lab.docker("exec", name, "sh", "-c", "echo kept > /root/note")
    flavor = admin.compute.create_flavor(name=unique("other"), ram=server["flavor"]["ram"], vcpus=1, disk=1)

    def held() -> tuple[str, str, str]:
        """Capabilities of the container's processes, its runtime, and what was in its files."""
        capabilities = lab.docker("exec", name, "grep", "CapBnd", "/proc/1/status").split()[1]
        label = '{{index .Config.Labels "org.openstack.nova.runtime"}}'
        return (
            capabilities,
            lab.docker("inspect", "--format", label, name),
            lab.docker("exec", name, "cat", "/root/note"),
        )

    before = held()
    try:
        specs = {"docker:cap_add": "SYS_ADMIN", "docker:runtime": "other"}
        admin.compute.create_flavor_extra_specs(flavor, specs)
        with agent_with(lab, admin_servers, runtimes="other=/usr/sbin/runc"):
            servers.action(server_id, "resize", {"flavorRef": flavor.id})
            servers.wait(server_id, "VERIFY_RESIZE")
            capabilities, runtime, note = held()
            assert int(capabilities, 16) == int(before[0], 16) | 1 << 21
            assert (runtime, note) == ("other", "kept")
            servers.action(server_id, "revertResize")
            servers.wait(server_id, "ACTIVE")
        assert held() == before
    finally:
        admin.compute.delete_flavor(flavor)


@pytest.mark.amqp
@pytest.mark.alone
@pytest.mark.usefixtures("usable_afterwards")
def test_a_resize_that_a_crash_cuts_short_is_undone(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin: Connection,
    admin_servers: Servers,
    add_image: Callable[..., str],
    tiny: Archive,
    small: str,
) -> None:
    image = add_image(tiny.running("sh", "-c", OBSTINATE).tar(), "obstinate", os_shutdown_timeout="600")
    server = launch("crashed", image=image)
    server_id, before = server["id"], _held(admin, server["id"])
    servers.wait_console(server_id, "ready")
    servers.action(server_id, "resize", {"flavorRef": small})
    servers.wait_console(server_id, "asked")
    kill_agent(lab)
    eventually(lambda: _migration(admin_servers, server_id)["status"] == "error", "the migration in error")
    now = servers.wait_idle(server_id)
    assert (now["status"], now["flavor"]["ram"]) == ("ACTIVE", server["flavor"]["ram"])
    assert _held(admin, server_id) == before
    failed = [event for event in events(admin_servers, server_id) if event.result == "Error"]
    assert any("restarted while it resized" in str(event.details) for event in failed)
    # It can be resized again.
    servers.action(server_id, "os-stop")
    eventually(lambda: "asked" in servers.console(server_id), "it is asked to stop")
    lab.docker("kill", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF")
    servers.action(server_id, "resize", {"flavorRef": small})
    servers.wait(server_id, "VERIFY_RESIZE")
    servers.delete(server_id)
    servers.wait_gone(server_id)
    assert _containers(lab, server_id) == []
