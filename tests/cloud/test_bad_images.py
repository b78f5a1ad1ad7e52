"""Images and commands that cannot become a running container: a clear fault, and nothing left."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.lab import AGENT_PROGRAM, Lab
from harness.servers import Json, Servers, wait_event
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = pytest.mark.agent

AddImage = Callable[..., str]


@pytest.fixture
def fault_of(
    lab: Lab, launch: Launcher, admin_servers: Servers, private_network: list[Json], key_name: str
) -> Callable[[str], str]:
    """Launches an image on a network and returns the message of the fault that it must end in."""

    def fault(image_id: str) -> str:
        server = launch.failing("hopeless", image=image_id, networks=private_network, key_name=key_name)
        return _message_of_the_fault(server, lab, admin_servers)

    return fault


@pytest.fixture
def fault_of_one_that_ends(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json], key_name: str
) -> Callable[[str], str]:
    """As `fault_of`, of an image whose container ends at once.

    Where the machine is slow one may run for as long as makes a launch a success; then another is launched.
    """

    def built(server_id: str) -> Json | None:
        server = servers.get(server_id)
        return server if server["status"] != "BUILD" and server["OS-EXT-STS:task_state"] is None else None

    def fault(image_id: str) -> str:
        for _ in range(5):
            server_id = launch.request("brief", image=image_id, networks=private_network, key_name=key_name)
            server = eventually(functools.partial(built, server_id), f"server {server_id} built or given up")
            if server["status"] == "ERROR":
                return _message_of_the_fault(server, lab, admin_servers)
            servers.delete(server_id)
            servers.wait_gone(server_id)
        pytest.fail("every launch succeeded")

    return fault


def _message_of_the_fault(server: Json, lab: Lab, admin_servers: Servers) -> str:
    assert server["OS-EXT-STS:vm_state"] == "error"
    message = str(server["fault"]["message"])
    assert "Traceback" not in message and "panicked" not in message
    event = wait_event(admin_servers, server["id"], "create", "compute__do_build_and_run_instance")
    # To a stock nova-compute a build that it has aborted is an event that went well.
    expected = "Error" if lab.door == "amqp" else "Success"
    assert event.result == expected, "the event does not tell of the failure as it should"
    return message


def _mentions(message: str, *alternatives: str) -> None:
    assert any(word.lower() in message.lower() for word in alternatives), (
        f"none of {alternatives} in the fault {message!r}"
    )


@pytest.mark.parametrize(("container_format", "disk_format"), [("bare", "raw"), ("bare", "qcow2"), ("ovf", "raw")])
def test_an_image_of_another_format(
    add_image: AddImage,
    fault_of: Callable[[str], str],
    lab: Lab,
    tmp_path: Path,
    container_format: str,
    disk_format: str,
) -> None:
    disk = tmp_path / "disk"
    # A real one: Glance looks into what it is given.
    lab.run(["qemu-img", "create", "-q", "-f", disk_format, str(disk), "1M"])
    image = add_image(disk.read_bytes(), container_format=container_format, disk_format=disk_format)
    _mentions(fault_of(image), container_format, "docker")


def test_a_file_that_is_no_archive(add_image: AddImage, fault_of: Callable[[str], str]) -> None:
    _mentions(fault_of(add_image(b"this is not a tar archive\n" * 100)), "archive", "tar")


def test_an_empty_file(add_image: AddImage, fault_of: Callable[[str], str]) -> None:
    _mentions(fault_of(add_image(b"\0" * 10240)), "archive", "manifest", "empty")


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_archive(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive, kept: float) -> None:
    whole = tiny.with_file("marker", b"truncated").tar().rstrip(b"\0")
    _mentions(
        fault_of(add_image(whole[: int(len(whole) * kept)])), "truncated", "ends", "short", "manifest", "incomplete"
    )


def test_an_archive_that_was_compressed(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    """`docker save | gzip`: an easy mistake, which Docker itself would have accepted."""
    _mentions(fault_of(add_image(gzip.compress(tiny.tar(), 1))), "gzip", "compress", "archive", "tar")


def test_a_layer_whose_digest_is_wrong(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    unique_layer = tiny.with_file("wrong", b"digest")
    _mentions(fault_of(add_image(unique_layer.with_wrong_digest().tar())), "digest", "sha256")


def test_a_layer_that_is_missing(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    _mentions(fault_of(add_image(tiny.with_missing_layer().tar())), "layer")


def test_an_image_of_another_architecture(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    other = tiny.with_file("other", b"s390x")
    other.config["architecture"] = "s390x"
    _mentions(fault_of(add_image(other.tar())), "s390x", "architecture", "platform")


@pytest.mark.usefixtures("usable_afterwards")
def test_an_image_that_was_deleted_before_the_host_could_read_it(
    lab: Lab, launch: Launcher, servers: Servers, add_image: AddImage, tiny: Archive, user: Connection
) -> None:
    image = add_image(tiny.with_file("deleted", b"soon").tar())
    lab.supervisorctl("stop", AGENT_PROGRAM)
    try:
        server_id = launch.request("orphan", image=image)
        user.image.delete_image(image)
    finally:
        lab.supervisorctl("start", AGENT_PROGRAM)
    server = servers.wait(server_id, "ERROR")
    _mentions(server["fault"]["message"], "image")


def test_a_command_that_does_not_exist(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    _mentions(fault_of(add_image(tiny.running("/no/such/command").tar())), "/no/such/command", "not found")


def test_an_os_command_line_that_does_not_exist(
    add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive
) -> None:
    image = add_image(tiny.running("/init").tar(), os_command_line="/no/such/command --at all")
    _mentions(fault_of(image), "/no/such/command", "not found")


def test_an_image_without_a_command(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    _mentions(fault_of(add_image(tiny.running().tar())), "command")


def test_a_container_that_exits_at_once_tells_why(
    add_image: AddImage, fault_of_one_that_ends: Callable[[str], str], tiny: Archive
) -> None:
    message = fault_of_one_that_ends(add_image(tiny.running("sh", "-c", "echo the last words; exit 7").tar()))
    _mentions(message, "7")
    assert "the last words" in message


def test_a_container_that_ends_well_but_at_once_is_a_failed_launch_too(
    add_image: AddImage, fault_of_one_that_ends: Callable[[str], str], tiny: Archive
) -> None:
    _mentions(fault_of_one_that_ends(add_image(tiny.running("true").tar())), "exit", "ended")


def test_the_os_command_line_replaces_the_images_command(
    add_image: AddImage, launch: Launcher, servers: Servers, tiny: Archive
) -> None:
    """Words are split as a shell would split them."""
    image = add_image(
        tiny.running("/no/such/command").tar(), os_command_line="""sh -c 'echo "said by it"; exec sleep 9999'"""
    )
    server = launch("commanded", image=image)
    servers.wait_console(server["id"], "said by it")


def test_the_images_environment_reaches_the_command(
    add_image: AddImage, launch: Launcher, servers: Servers, tiny: Archive
) -> None:
    archive = tiny.running(
        "sh",
        "-c",
        'echo "GREETING=$GREETING"; exec sleep 9999',
        environment={"PATH": "/bin:/usr/bin", "GREETING": "good day"},
    )
    server = launch("greeting", image=add_image(archive.tar()))
    servers.wait_console(server["id"], "GREETING=good day")


def test_an_image_is_known_by_its_content_and_not_by_its_name(
    add_image: AddImage, launch: Launcher, servers: Servers, tiny: Archive, lab: Lab
) -> None:
    """Regression: a predecessor loaded tenants' archives, whose tags could replace another tenant's image."""
    before = set(lab.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split())
    server = launch("named", image=add_image(tiny.running("sh", "-c", "echo mine; exec sleep 9999").tar()))
    servers.wait_console(server["id"], "mine")
    tags = set(lab.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()) - before
    assert "test:latest" not in tags


def test_after_all_that_a_good_image_is_launched(launch: Launcher, servers: Servers) -> None:
    servers.wait_console(launch("good")["id"], "ready after")
