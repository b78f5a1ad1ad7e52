"""Rebuilds: a new container in the place of the old one."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Launcher
from harness.amqp import wait_consumers
from harness.archives import Archive
from harness.guest import Guest
from harness.lab import Lab
from harness.programs import kill_agent
from harness.servers import Json, Servers, wait_event
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent]

EVENT = "compute_rebuild_instance"
COUNTS = 'echo boot >> /root/boots; echo "boots: $(grep -c boot /root/boots)"; exec sleep 9999'
# It heeds its stop signal, and does not end by it.
OBSTINATE = "trap 'echo asked' TERM; echo ready; while :; do sleep 1; done"


def _containers(lab: Lab, server_id: str) -> list[str]:
    listed = lab.docker("ps", "--all", "--filter", f"name={server_id}", "--format", "{{.Names}}")
    return sorted(listed.split())


def _mend(servers: Servers, server_id: str, action: str, arguments: Json) -> None:
    """What brings a server in ERROR back."""
    servers.action(server_id, action, arguments)
    servers.until(server_id, lambda: servers.get(server_id)["status"] == "ACTIVE", "the server ACTIVE")
    servers.wait_idle(server_id)


@pytest.mark.both_doors
def test_a_rebuild_is_another_container_with_the_same_ports_key_and_named_volumes(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
    add_image: Callable[..., str],
    tiny: Archive,
) -> None:
    metadata = {"docker:volume:kept": "/data", "docker:remove_volumes": "true"}
    server = launch("rebuilt", networks=private_network, key_name=key_name, metadata=metadata)
    server_id = server["id"]
    addresses, ports = servers.get(server_id)["addresses"], servers.interfaces(server_id)
    inside = guest_of(server_id).wait_ssh()
    inside.ssh("echo gone > /root/note; echo kept > /data/note")
    image = add_image(tiny.with_file("etc/edition", b"second\n").tar(), "second")
    servers.action(server_id, "rebuild", {"imageRef": image, "metadata": {**metadata, "docker:env:EDITION": "two"}})
    rebuilt = servers.wait(server_id, "ACTIVE")
    assert wait_event(admin_servers, server_id, "rebuild", EVENT).result == "Success"
    assert rebuilt["image"]["id"] == image
    assert rebuilt["addresses"] == addresses
    assert servers.interfaces(server_id) == ports
    # Another machine by its host key.
    inside = guest_of(server_id).wait_ssh()
    assert inside.ssh("hostname; cat /etc/edition /data/note; ls /root/note", check=False).split() == [
        server["name"],
        "second",
        "kept",
    ]
    assert "EDITION=two" in lab.docker("inspect", "--format", "{{.Config.Env}}", f"nova-{server_id}")
    assert _containers(lab, server_id) == [f"nova-{server_id}"]


@pytest.mark.full
@pytest.mark.both_doors
def test_a_rebuild_with_another_key_and_other_user_data_has_these_and_no_others(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    user: Connection,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
    tmp_path: Path,
) -> None:
    server = launch("changed", networks=private_network, key_name=key_name, user_data="before\n")
    guest_of(server["id"]).wait_ssh()
    key = tmp_path / "key"
    lab.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    pair = user.compute.create_keypair(
        name=f"{server['name']}-other", public_key=key.with_suffix(".pub").read_text().strip()
    )
    try:
        changes = {"key_name": pair.name, "user_data": base64.b64encode(b"after\n").decode()}
        servers.action(server["id"], "rebuild", {"imageRef": server["image"]["id"], **changes})
        servers.wait(server["id"], "ACTIVE")
        inside = dataclasses.replace(guest_of(server["id"]), key=key).wait_ssh()
        assert inside.ssh("wget -qO- http://169.254.169.254/latest/user-data") == "after"
        assert inside.ssh("cat /root/.ssh/authorized_keys").splitlines() == [pair.public_key.strip()]
    finally:
        user.compute.delete_keypair(pair)


@pytest.mark.full
@pytest.mark.amqp
def test_a_server_that_is_off_stays_off_and_its_new_container_does_not_run_before_the_start(
    launch: Launcher, servers: Servers, admin_servers: Servers, add_image: Callable[..., str], tiny: Archive
) -> None:
    image = add_image(tiny.running("sh", "-c", COUNTS).tar(), "counting")
    server_id = launch("off")["id"]
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")
    servers.action(server_id, "rebuild", {"imageRef": image})
    wait_event(admin_servers, server_id, "rebuild", EVENT)
    servers.wait_idle(server_id)
    assert servers.get(server_id)["status"] == "SHUTOFF"
    assert "boots: " not in servers.console(server_id)
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")
    assert "boots: 1" in servers.wait_console(server_id, "boots: ")


@pytest.mark.amqp
def test_a_rebuild_that_fails_leaves_the_old_container_to_go_on_with(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    add_image: Callable[..., str],
    tiny: Archive,
) -> None:
    image = add_image(tiny.running("sh", "-c", COUNTS).tar(), "counting")
    hopeless = add_image(tiny.running("/bin/nothing-here").tar(), "hopeless")
    server_id = launch("unlucky", image=image)["id"]
    servers.wait_console(server_id, "boots: 1")
    servers.action(server_id, "rebuild", {"imageRef": hopeless})
    failed = servers.wait(server_id, "ERROR")
    assert "/bin/nothing-here" in failed["fault"]["message"]
    assert failed["image"]["id"] == image
    event = wait_event(admin_servers, server_id, "rebuild", EVENT)
    assert event.result == "Error"
    servers.wait_idle(server_id)
    assert _containers(lab, server_id) == [f"nova-{server_id}"]
    _mend(servers, server_id, "reboot", {"type": "HARD"})
    servers.wait_console(server_id, "boots: 2")
    # A rebuild mends an ERROR too.
    servers.action(server_id, "rebuild", {"imageRef": hopeless})
    servers.wait(server_id, "ERROR")
    servers.wait_idle(server_id)
    _mend(servers, server_id, "rebuild", {"imageRef": image})
    log = eventually(
        lambda: next((log for log in [servers.console(server_id)] if log.count("boots: 1") == 2), None),
        "the new container's line after the old one's",
    )
    assert log.count("boots: 2") == 1


@pytest.mark.full
@pytest.mark.amqp
def test_what_a_container_cannot_keep_is_said_and_nothing_is_touched(
    launch: Launcher, servers: Servers, admin_servers: Servers, add_image: Callable[..., str], tiny: Archive
) -> None:
    server = launch("ephemeral")
    other = add_image(tiny.with_file("etc/edition", b"second\n").tar(), "second")
    servers.action(server["id"], "rebuild", {"imageRef": other, "preserve_ephemeral": True})
    event = wait_event(admin_servers, server["id"], "rebuild", EVENT)
    assert event.result == "Error"
    assert "no ephemeral disk to preserve" in str(event.details)
    now = servers.wait_idle(server["id"])
    assert (now["status"], now["image"]["id"]) == ("ACTIVE", server["image"]["id"])


@pytest.mark.amqp
@pytest.mark.alone
@pytest.mark.usefixtures("usable_afterwards")
def test_a_rebuild_that_a_crash_cuts_short_ends_with_a_fault_and_the_old_container(
    lab: Lab,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    add_image: Callable[..., str],
    tiny: Archive,
) -> None:
    image = add_image(tiny.running("sh", "-c", OBSTINATE).tar(), "obstinate", os_shutdown_timeout="600")
    server_id = launch("crashed", image=image)["id"]
    servers.wait_console(server_id, "ready")
    servers.action(server_id, "rebuild", {"imageRef": image})
    servers.wait_console(server_id, "asked")
    kill_agent(lab)
    failed = servers.wait(server_id, "ERROR")
    assert "restarted while it rebuilt" in eventually(
        lambda: servers.get(server_id).get("fault", {}).get("message"), "the fault"
    )
    assert failed["image"]["id"] == image
    assert wait_event(admin_servers, server_id, "rebuild", EVENT).result == "Error"
    wait_consumers(lab, f"compute.{lab.host}")
    _mend(servers, server_id, "reboot", {"type": "HARD"})


def test_a_deleted_server_leaves_neither_of_its_containers(
    lab: Lab, launch: Launcher, servers: Servers, tenant: Tenant, add_image: Callable[..., str], tiny: Archive
) -> None:
    """One that was set aside goes with the server, whoever left it there."""
    server_id = launch("two")["id"]
    lab.docker("rename", f"nova-{server_id}", f"nova-{server_id}-aside")
    assert _containers(lab, server_id) == [f"nova-{server_id}-aside"]
    servers.delete(server_id)
    servers.wait_gone(server_id)
    assert _containers(lab, server_id) == []
