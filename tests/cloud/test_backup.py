"""Backups: snapshots of which the newest of each kind stay."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness.lab import Lab, Side
from harness.servers import Servers, wait_event
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent]

Backup = Callable[[str, str, int], str]


@pytest.fixture
def backup(
    servers: Servers, admin_servers: Servers, user: Connection, unique: Callable[[str], str]
) -> Iterator[Backup]:
    """Makes a backup of a server: of which kind, and how many of the kind stay; returns the image's name."""
    made: list[str] = []

    def make(server_id: str, kind: str, rotation: int) -> str:
        made.append(unique(kind))
        arguments = {"name": made[-1], "backup_type": kind, "rotation": rotation}
        servers.action(server_id, "createBackup", arguments)
        event = wait_event(admin_servers, server_id, "createBackup", "compute_backup_instance")
        assert event.result == "Success", event
        assert servers.wait_idle(server_id)["status"] == "ACTIVE"
        return made[-1]

    yield make
    for name in made:
        for image in user.image.images(name=name):
            user.image.update_image(image, is_protected=False)
            user.image.delete_image(image)


def test_the_oldest_backups_of_a_kind_make_room_for_new_ones(
    launch: Launcher, user: Connection, backup: Backup
) -> None:
    server_id = launch("backed-up")["id"]

    def kept() -> set[str]:
        return {image.name for image in user.image.images(instance_uuid=server_id)}

    weekly = backup(server_id, "weekly", 1)
    first = backup(server_id, "daily", 2)
    [image] = list(user.image.images(name=first))
    record = user.image.get(f"/images/{image.id}").json()
    assert (record["status"], record["container_format"], record["disk_format"]) == ("active", "docker", "raw")
    assert (record["image_type"], record["backup_type"]) == ("backup", "daily")
    assert record["size"] > 1_000_000
    second = backup(server_id, "daily", 2)
    assert kept() == {weekly, first, second}
    third = backup(server_id, "daily", 2)
    assert kept() == {weekly, second, third}, "the oldest of its kind, and no other"
    # One that cannot be deleted is no failure.
    [protected] = list(user.image.images(name=second))
    user.image.update_image(protected, is_protected=True)
    backup(server_id, "daily", 0)
    assert kept() == {weekly, second}


@pytest.mark.full
@pytest.mark.alone
@pytest.mark.amqp  # A stock nova-compute takes an image that is gone for a success.
def test_a_backup_that_fails_leaves_the_server_and_its_older_backups(
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    user: Connection,
    backup: Backup,
    unique: Callable[[str], str],
    lab: Lab,
    side: Side,
) -> None:
    server_id = launch("not-backed-up")["id"]
    older, lost = backup(server_id, "daily", 1), unique("lost")
    agent = lab.pid(side.program)
    os.kill(agent, signal.SIGSTOP)
    try:
        servers.action(server_id, "createBackup", {"name": lost, "backup_type": "daily", "rotation": 1})
        [image] = eventually(lambda: list(user.image.images(name=lost)), "the image queued")
        user.image.delete_image(image)
    finally:
        os.kill(agent, signal.SIGCONT)
    event = wait_event(admin_servers, server_id, "createBackup", "compute_backup_instance")
    assert event.result == "Error"
    assert servers.wait_idle(server_id)["status"] == "ACTIVE"
    assert [image.name for image in user.image.images(instance_uuid=server_id)] == [older]
