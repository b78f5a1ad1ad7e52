"""Images and commands that cannot become a running container: a clear fault, and nothing left."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Launcher
from harness.archives import Archive, own_architecture
from harness.lab import AGENT_PROGRAM, Lab
from harness.programs import agent_with
from harness.servers import Json, Servers, wait_event
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
def patient(lab: Lab, admin_servers: Servers) -> Iterator[None]:
    """The agent waits for longer than any machine needs to run a command that ends."""
    with agent_with(lab, admin_servers, build_grace_seconds="60", build_wait="grace"):
        yield


def _message_of_the_fault(server: Json, lab: Lab, admin_servers: Servers) -> str:
    assert server["OS-EXT-STS:vm_state"] == "error"
    message = str(server["fault"]["message"])
    assert "Traceback" not in message and "panicked" not in message
    event = wait_event(admin_servers, server["id"], "create", "compute__do_build_and_run_instance")
    # To a stock nova-compute a build that it has aborted is an event that went well.
    expected = "Error" if lab.door == "amqp" else "Success"
    assert event.result == expected, "the event does not tell of the failure as it should"
    return message


@pytest.mark.parametrize(
    ("container_format", "disk_format"),
    [
        ("bare", "qcow2"),
        pytest.param("bare", "raw", marks=pytest.mark.full),
        pytest.param("ovf", "raw", marks=pytest.mark.full),
    ],
)
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
    assert f"its container format is {container_format}, not docker" in fault_of(image)


@pytest.mark.full
def test_a_file_that_is_no_archive(add_image: AddImage, fault_of: Callable[[str], str]) -> None:
    assert "it is not a tar archive (it has no tar header)" in fault_of(add_image(b"this is no archive\n" * 100))


@pytest.mark.full
def test_an_empty_file(add_image: AddImage, fault_of: Callable[[str], str]) -> None:
    assert "it is not a tar archive (it begins with zeros)" in fault_of(add_image(b"\0" * 10240))


@pytest.mark.parametrize("kept", [pytest.param(0.5, marks=pytest.mark.full), 0.99])
def test_a_truncated_archive(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive, kept: float) -> None:
    whole = tiny.with_file("marker", b"truncated").tar().rstrip(b"\0")
    assert "it is truncated: it ends at byte" in fault_of(add_image(whole[: int(len(whole) * kept)]))


@pytest.mark.full
def test_an_archive_that_was_compressed(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    """`docker save | gzip`: an easy mistake, which Docker itself would have accepted."""
    assert "it is compressed with gzip, and must not be" in fault_of(add_image(gzip.compress(tiny.tar(), 1)))


@pytest.mark.full
def test_a_layer_whose_digest_is_wrong(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    unique_layer = tiny.with_file("wrong", b"digest")
    assert "of it has digest sha256:" in fault_of(add_image(unique_layer.with_wrong_digest().tar()))


def test_a_layer_that_is_missing(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    message = fault_of(add_image(tiny.with_missing_layer().tar()))
    # Nova cuts a fault at 255 characters.
    assert "/layer.tar, which its manifest names, is missing" in message


@pytest.mark.full
def test_an_image_of_another_architecture(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    other = tiny.with_file("other", b"s390x")
    other.config["architecture"] = "s390x"
    assert f"it is built for linux/s390x, and this host runs linux/{own_architecture()}" in fault_of(
        add_image(other.tar())
    )


@pytest.mark.alone
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
    assert image in server["fault"]["message"]


@pytest.mark.full
def test_a_command_that_does_not_exist(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    assert 'command "/no/such/command" cannot be run' in fault_of(add_image(tiny.running("/no/such/command").tar()))


@pytest.mark.full
def test_an_os_command_line_that_does_not_exist(
    add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive
) -> None:
    image = add_image(tiny.running("/init").tar(), os_command_line="/no/such/command --at all")
    assert 'command "/no/such/command" cannot be run' in fault_of(image)


@pytest.mark.full
def test_an_image_without_a_command(add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive) -> None:
    assert "it has no command, and the instance gives none" in fault_of(add_image(tiny.running().tar()))


@pytest.mark.both_doors
@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"User": "nosuch"}, "unable to find user nosuch"),
        ({"WorkingDir": "/bin/sh"}, "Cannot mkdir: /bin/sh is not a directory"),
        pytest.param({"Env": ["=nameless"]}, "environment variable name", marks=pytest.mark.full),
    ],
    ids=["found at the start", "found at the creation", "a variable without a name"],
)
def test_a_configuration_that_docker_refuses_is_told_in_its_words(
    add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive, configuration: Json, words: str
) -> None:
    message = fault_of(add_image(tiny.configured(**configuration).tar()))
    assert words in message
    assert "Exhausted all hosts" not in message


@pytest.mark.full
def test_less_memory_than_docker_takes_is_told(
    lab: Lab, launch: Launcher, admin: Connection, admin_servers: Servers, unique: Callable[[str], str]
) -> None:
    flavor = admin.compute.create_flavor(name=unique("starved"), ram=4, vcpus=1, disk=1)
    try:
        message = _message_of_the_fault(launch.failing("starved", flavor=flavor.id), lab, admin_servers)
    finally:
        admin.compute.delete_flavor(flavor)
    assert "emory limit" in message
    assert "Exhausted all hosts" not in message


@pytest.mark.full
def test_links_of_the_image_are_not_in_the_way_of_the_key_and_of_the_network_s_files(
    add_image: AddImage,
    launch: Launcher,
    servers: Servers,
    tiny: Archive,
    private_network: list[Json],
    key_name: str,
    lab: Lab,
) -> None:
    """Ubuntu's resolv.conf leads to a file that systemd makes, ostree's /root to a directory that the start makes."""
    links = {"etc/resolv.conf": "../run/stub/resolv.conf", "etc/hosts": "/nowhere/hosts", "root": "var/roothome"}
    image = add_image(tiny.with_links(links).tar())
    server = launch("linked", image=image, networks=private_network, key_name=key_name)
    name = f"nova-{server['id']}"
    read = {path: lab.docker("exec", name, "cat", path) for path in ("/etc/resolv.conf", "/etc/hosts")}
    assert "nameserver" in read["/etc/resolv.conf"]
    assert server["name"] in read["/etc/hosts"]
    assert lab.docker("exec", name, "cat", "/root/.ssh/authorized_keys").startswith("ssh-")


@pytest.mark.both_doors
def test_a_small_archive_of_an_image_that_is_larger_than_the_flavors_disk(
    add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive
) -> None:
    message = fault_of(add_image(tiny.with_layer(*_zeros(1536)).tar()))
    assert "Flavor's disk is too small for requested image" in message


def _zeros(size_mb: int) -> tuple[bytes, str]:
    """A compressed layer with one file of zeros, and the digest of the uncompressed tar."""
    member = tarfile.TarInfo("zeros")
    member.size = size_mb << 20
    compressor = zlib.compressobj(1, wbits=31)
    digest = hashlib.sha256()
    stored = io.BytesIO()
    for piece in (member.tobuf(), *([bytes(1 << 20)] * size_mb), bytes(1024)):
        digest.update(piece)
        stored.write(compressor.compress(piece))
    stored.write(compressor.flush())
    return stored.getvalue(), digest.hexdigest()


def test_a_configuration_as_other_builders_write_it_and_a_layer_that_docker_cannot_unpack_are_launched(
    add_image: AddImage, launch: Launcher, servers: Servers, tiny: Archive
) -> None:
    archive = tiny.running().configured(Entrypoint="/hello", Cmd=None, Env=None, Volumes=None)
    hello = io.BytesIO()
    with tarfile.open(fileobj=hello, mode="w") as layer:
        script = b"#!/bin/sh\necho hello; exec sleep 9999\n"
        member = tarfile.TarInfo("hello")
        member.size, member.mode = len(script), 0o755
        layer.addfile(member, io.BytesIO(script))
    digest = hashlib.sha256(hello.getvalue()).hexdigest()
    archive = archive.with_layer(bz2.compress(hello.getvalue()), digest)
    del archive.config["architecture"]
    archive.config["os"] = ""
    server = launch("foreign", image=add_image(archive.tar()))
    servers.wait_console(server["id"], "hello")


@pytest.mark.alone
@pytest.mark.usefixtures("patient")
def test_a_container_that_exits_at_once_tells_why(
    add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive
) -> None:
    message = fault_of(add_image(tiny.running("sh", "-c", "echo goodbye; exit 7").tar()))
    assert "the container exited at once with code 7; its last words: goodbye" in message


@pytest.mark.full
@pytest.mark.alone
@pytest.mark.usefixtures("patient")
def test_a_container_that_ends_well_but_at_once_is_a_failed_launch_too(
    add_image: AddImage, fault_of: Callable[[str], str], tiny: Archive
) -> None:
    message = fault_of(add_image(tiny.running("true").tar()))
    assert "the container exited at once with code 0 (its command came to its end" in message


def test_the_os_command_line_replaces_the_images_command(
    add_image: AddImage, launch: Launcher, servers: Servers, tiny: Archive
) -> None:
    """Words are split as a shell would split them."""
    image = add_image(
        tiny.running("/no/such/command").tar(), os_command_line="""sh -c 'echo "said by it"; exec sleep 9999'"""
    )
    server = launch("commanded", image=image)
    servers.wait_console(server["id"], "said by it")


@pytest.mark.full
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


@pytest.mark.full
def test_an_image_is_known_by_its_content_and_not_by_its_name(
    add_image: AddImage, launch: Launcher, servers: Servers, tiny: Archive, lab: Lab
) -> None:
    """Regression: a predecessor loaded tenants' archives, whose tags could replace another tenant's image."""
    server = launch("named", image=add_image(tiny.running("sh", "-c", "echo mine; exec sleep 9999").tar()))
    servers.wait_console(server["id"], "mine")
    tags = lab.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert any("/glance/" in tag for tag in tags)
    assert "test:latest" not in tags


def test_after_all_that_a_good_image_is_launched(launch: Launcher, servers: Servers) -> None:
    servers.wait_console(launch("good")["id"], "ready after")


@pytest.mark.full
@pytest.mark.both_doors
def test_a_wish_that_a_container_cannot_have(lab: Lab, launch: Launcher, admin_servers: Servers) -> None:
    wishful = launch.failing("wishful", trusted_image_certificates=["a4f1d3a8-0d3f-4a2e-9a53-1d0c51d6f9b7"])
    assert "certificates" in _message_of_the_fault(wishful, lab, admin_servers)
