"""Rescues: another container in a server's network, with the server's files."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.guest import Guest
from harness.lab import Lab
from harness.programs import kill_agent
from harness.servers import Json, Servers, wait_event
from harness.waiting import eventually

pytestmark = [pytest.mark.agent]


def _containers(lab: Lab, server_id: str) -> list[str]:
    listed = lab.docker("ps", "--all", "--filter", f"name={server_id}", "--format", "{{.Names}}")
    return sorted(listed.split())


@pytest.mark.both_doors
def test_a_server_that_does_not_come_up_is_mended_from_a_rescue(
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
    metadata = {"docker:volume:kept": "/data", "docker:remove_volumes": "true", "docker:env:OF": "server"}
    server = launch("broken", networks=private_network, key_name=key_name, metadata=metadata)
    server_id, addresses = server["id"], servers.get(server["id"])["addresses"]
    inside = guest_of(server_id).wait_ssh()
    inside.ssh("echo broken > /root/note; echo kept > /data/note")
    rescuer = add_image(tiny.with_file("etc/edition", b"rescue\n").tar(), "rescuer")
    servers.action(server_id, "rescue", {"rescue_image_ref": rescuer})
    servers.wait(server_id, "RESCUE")
    assert wait_event(admin_servers, server_id, "rescue", "compute_rescue_instance").result == "Success"
    assert servers.get(server_id)["addresses"] == addresses

    inside = guest_of(server_id).wait_ssh()
    seen = inside.ssh("cat /etc/edition /rescue/root/note /rescue/data/note; hostname; ls /data", check=False)
    assert seen.split() == ["rescue", "broken", "kept", server["name"]]
    # Nothing of the host, and nothing but the server's own.
    assert inside.ssh("ls -A /rescue/proc; ls -A /rescue/sys") == ""
    assert "OF=server" not in lab.docker("inspect", "--format", "{{.Config.Env}}", f"nova-{server_id}")
    inside.ssh("echo mended > /rescue/root/note; echo too > /rescue/data/note; sync")

    servers.action(server_id, "unrescue")
    servers.wait(server_id, "ACTIVE")
    assert wait_event(admin_servers, server_id, "unrescue", "compute_unrescue_instance").result == "Success"
    inside = guest_of(server_id).wait_ssh()
    assert inside.ssh("cat /root/note /data/note; ls /rescue", check=False).split() == ["mended", "too"]
    assert _containers(lab, server_id) == [f"nova-{server_id}"]


@pytest.mark.amqp
def test_a_rescue_that_fails_says_why_and_the_server_is_there_to_go_on_with(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, add_image: Callable[..., str], tiny: Archive
) -> None:
    server_id = launch("unlucky")["id"]
    hopeless = add_image(tiny.running("/bin/nothing-here").tar(), "hopeless")
    servers.action(server_id, "rescue", {"rescue_image_ref": hopeless})
    servers.wait(server_id, "ERROR")
    event = wait_event(admin_servers, server_id, "rescue", "compute_rescue_instance")
    assert event.result == "Error"
    assert "/bin/nothing-here" in str(event.details)
    assert "/bin/nothing-here" in servers.get(server_id)["fault"]["message"]
    assert _containers(lab, server_id) == [f"nova-{server_id}"]
    servers.action(server_id, "reboot", {"type": "HARD"})
    servers.until(server_id, lambda: servers.get(server_id)["status"] == "ACTIVE", "the server ACTIVE")
    servers.wait_idle(server_id)


@pytest.mark.amqp
def test_a_server_is_deleted_from_its_rescue_with_both_containers(lab: Lab, launch: Launcher, servers: Servers) -> None:
    server_id = launch("given-up")["id"]
    servers.action(server_id, "rescue")
    servers.wait(server_id, "RESCUE")
    assert len(_containers(lab, server_id)) == 2
    servers.delete(server_id)
    servers.wait_gone(server_id)
    assert _containers(lab, server_id) == []


@pytest.mark.amqp
@pytest.mark.alone
@pytest.mark.usefixtures("usable_afterwards")
def test_a_rescue_survives_a_crash_of_the_agent(lab: Lab, launch: Launcher, servers: Servers) -> None:
    server_id = launch("rescued")["id"]
    servers.action(server_id, "rescue")
    servers.wait(server_id, "RESCUE")
    kill_agent(lab)
    eventually(lambda: servers.console(server_id) is not None, "the agent answers")
    assert servers.get(server_id)["status"] == "RESCUE"
    assert len(_containers(lab, server_id)) == 2
    servers.action(server_id, "unrescue")
    servers.wait(server_id, "ACTIVE")
    assert _containers(lab, server_id) == [f"nova-{server_id}"]
