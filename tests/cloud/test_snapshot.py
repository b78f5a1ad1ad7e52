"""Snapshots: images made of servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.faults import silent
from harness.guest import Guest
from harness.lab import Lab, Side
from harness.servers import Json, Servers, wait_event
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = pytest.mark.agent


@pytest.fixture
def snapshot(servers: Servers, user: Connection, unique: Callable[[str], str]) -> Iterator[Callable[[str], str]]:
    """Takes a snapshot of a server and waits until it can be launched; returns the image's id."""
    made: list[str] = []

    def take(server_id: str) -> str:
        made.append(servers.action(server_id, "createImage", {"name": unique("snapshot")})["image_id"])
        eventually(lambda: user.image.get_image(made[-1]).status == "active", "the snapshot active")
        servers.wait_idle(server_id)
        return made[-1]

    yield take
    for image_id in made:
        user.image.delete_image(image_id, ignore_missing=True)


@pytest.mark.both_doors
def test_a_snapshot_boots_with_the_files_of_its_server(
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    user: Connection,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    snapshot: Callable[[str], str],
    key_name: str,
) -> None:
    original = launch("original", networks=private_network, key_name=key_name)
    inside = guest_of(original["id"]).wait_ssh()
    inside.ssh("echo 'written before the snapshot' > /root/note; rm /etc/shells; ln -s /root/note /root/link")
    image_id = snapshot(original["id"])
    assert servers.get(original["id"])["status"] == "ACTIVE"
    assert inside.ssh("cat /root/note") == "written before the snapshot"
    event = wait_event(admin_servers, original["id"], "createImage", "compute_snapshot_instance")
    assert event.result == "Success"
    image = user.image.get(f"/images/{image_id}").json()
    assert (image["container_format"], image["disk_format"]) == ("docker", "raw")
    assert image["image_type"] == "snapshot"
    assert image["instance_uuid"] == original["id"]
    assert image["size"] > 1_000_000

    clone = launch("clone", networks=private_network, key_name=key_name, image=image_id)
    inside_clone = guest_of(clone["id"]).wait_ssh()
    assert inside_clone.ssh("cat /root/link") == "written before the snapshot"
    assert inside_clone.ssh("ls /etc/shells", check=False) == ""
    assert inside_clone.ssh("hostname") == clone["name"]


def test_a_stopped_server_can_be_made_an_image_that_boots_with_its_files(
    launch: Launcher,
    servers: Servers,
    snapshot: Callable[[str], str],
    add_image: Callable[..., str],
    tiny: Archive,
) -> None:
    command = 'echo boot >> /root/boots; echo "boots: $(grep -c boot /root/boots)"; exec sleep 9999'
    server = launch("still", image=add_image(tiny.running("sh", "-c", command).tar(), "counting"))
    servers.wait_console(server["id"], "boots: 1")
    servers.action(server["id"], "os-stop")
    servers.wait(server["id"], "SHUTOFF")
    image_id = snapshot(server["id"])
    assert servers.get(server["id"])["status"] == "SHUTOFF"
    servers.wait_console(launch("clone", image=image_id)["id"], "boots: 2")


@pytest.mark.alone
def test_a_snapshot_leaves_no_image_on_the_host(launch: Launcher, lab: Lab, snapshot: Callable[[str], str]) -> None:
    """Regression: a predecessor left every committed image behind."""
    server = launch("tidy")
    before = set(lab.docker("images", "--all", "--quiet", "--no-trunc").split())
    snapshot(server["id"])
    assert set(lab.docker("images", "--all", "--quiet", "--no-trunc").split()) - before == set()


@pytest.mark.both_doors
def test_deleting_the_server_while_it_is_made_an_image_leaves_nothing(
    launch: Launcher, servers: Servers, user: Connection, unique: Callable[[str], str]
) -> None:
    server = launch("hasty")
    image_id = servers.action(server["id"], "createImage", {"name": unique("hasty")})["image_id"]
    servers.delete(server["id"])
    servers.wait_gone(server["id"])
    # Either it was finished before, or it is gone; a queued or saving image would stay for ever.
    eventually(
        lambda: (image := user.image.find_image(image_id)) is None or image.status in ("active", "deleted"),
        "the half-made image gone",
    )
    user.image.delete_image(image_id, ignore_missing=True)


@pytest.mark.alone
@pytest.mark.amqp
@pytest.mark.full
def test_a_server_that_ends_while_it_is_made_an_image_is_shut_off_as_soon_as_that_is_done(
    launch: Launcher, servers: Servers, user: Connection, unique: Callable[[str], str], lab: Lab
) -> None:
    server_id = launch("brief")["id"]
    image_id = servers.action(server_id, "createImage", {"name": unique("brief")})["image_id"]
    with silent(lab, "glance"):
        lab.docker("kill", f"nova-{server_id}")
    servers.wait(server_id, "SHUTOFF")
    user.image.delete_image(image_id)


@pytest.mark.both_doors
@pytest.mark.alone
def test_an_image_goes_whose_making_had_not_begun_when_its_server_was_deleted(
    launch: Launcher, servers: Servers, user: Connection, unique: Callable[[str], str], lab: Lab, side: Side
) -> None:
    """Regression: nova-compute leaves such an image queued for ever, so the driver looks for it."""
    server_id = launch("hastier")["id"]
    compute = lab.pid(side.program)
    os.kill(compute, signal.SIGSTOP)
    try:
        image_id = servers.action(server_id, "createImage", {"name": unique("hastier")})["image_id"]
        servers.delete(server_id)
    finally:
        os.kill(compute, signal.SIGCONT)
    servers.wait_gone(server_id)
    eventually(lambda: user.image.find_image(image_id) is None, "the unbegun image gone")
