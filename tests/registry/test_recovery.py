"""Pushes and pulls while Glance, or the registry, goes away: nothing acknowledged is lost, nothing half made stays."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import socket
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from harness.lab import Lab
from harness.waiting import eventually
from oci import content, process, relay
from oci import own_glance as own_glance_of
from oci.checks import ok, refused
from oci.client import Registry, location
from oci.cloud import Image
from oci.content import Blob, Manifest
from oci.own_glance import OwnGlance
from oci.relay import Relay
from oci.target import Target

pytestmark = pytest.mark.cloud

Glance = Callable[[], dict[str, Image]]
RunOwn = Callable[..., AbstractContextManager[process.Own]]

SIZE = 8_000_000
"""Bytes of a layer of which the relay holds most."""

GAVE_UP = "gave up requests that lasted longer"
"""What a registry says that ended with requests under way."""


def image_with(size: int, seed: str) -> Manifest:
    """An image with a layer of `size` bytes that do not compress."""
    small = content.image(seed, layers=1)
    with Path("/dev/urandom").open("rb") as noise:
        big = Blob(noise.read(size), content.OCI_LAYER)
    document = small.document
    document["layers"].append(big.descriptor())
    return content.manifest(document, (*small.blobs, big))


def push_blobs(client: Registry, repository: str, image: Manifest) -> None:
    for blob in image.blobs:
        client.push_blob(repository, blob)


def put(client: Registry, repository: str, image: Manifest) -> int:
    return client.put_manifest(repository, "v1", image.data, image.media_type).status_code


@contextlib.contextmanager
def under_way(
    own: process.Own, glance: Relay, repository: str, image: Manifest
) -> Iterator[concurrent.futures.Future[int]]:
    """A push of which Glance has a part, and gets no more until the relay is released.

    Its end is the status of the answer, or the connection's.
    """
    client = Registry(own.target)
    push_blobs(client, repository, image)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(put, client, repository, image)
        try:
            glance.wait_until_it_holds()
            yield future
        finally:
            glance.release()


@pytest.fixture(scope="module")
def own_glance(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnGlance]:
    """A Glance that is the tests' to stop and to kill; each leaves it running."""
    with own_glance_of.running(lab.state, tmp_path_factory.mktemp("glance") / "etc") as glance:
        yield glance


@pytest.fixture
def through(run_own: RunOwn, tmp_path: Path, own_glance: OwnGlance) -> Iterator[process.Own]:
    """A registry whose only Glance is that one."""
    with run_own(tmp_path, glance=own_glance.url) as own:
        yield own


def test_what_was_uploaded_waits_for_glance(
    own_glance: OwnGlance, through: process.Own, glance_images: Glance, repository: str
) -> None:
    client = Registry(through.target)
    image = content.image(repository)
    push_blobs(client, repository, image)
    own_glance.stop()
    try:
        for answer in (
            client.put_manifest(repository, "v1", image.data, image.media_type),
            client.manifest(repository, "v1"),
        ):
            refused(answer, 503, "UNAVAILABLE")
    finally:
        own_glance.start()
    eventually(lambda: not glance_images(), "nothing left of the push", 240)
    # Only the manifest is sent again.
    ok(client.put_manifest(repository, "v1", image.data, image.media_type), 201)
    assert ok(client.manifest(repository, "v1"), 200).content == image.data
    client.take_away()


def test_glance_that_is_killed_while_it_is_given_an_image(
    run_own: RunOwn, tmp_path: Path, own_glance: OwnGlance, glance_images: Glance, repository: str
) -> None:
    image = image_with(SIZE, repository)
    address = urllib.parse.urlsplit(own_glance.url)
    with (
        relay.running((str(address.hostname), int(address.port or 0))) as glance,
        run_own(tmp_path, glance=glance.url) as own,
    ):
        with under_way(own, glance, repository, image) as push:
            own_glance.stop(signal.SIGKILL)
            try:
                glance.release()
                assert push.result(240) == 503
            finally:
                own_glance.start()
        eventually(lambda: not glance_images(), "nothing left of the push", 240)
        client = Registry(own.target)
        client.push(repository, image, "v1")
        assert ok(client.blob(repository, image.blobs[-1].digest), 200).content == image.blobs[-1].data
        client.take_away()


def test_a_project_that_has_used_up_its_quota_is_told_so(
    lab: Lab, run_own: RunOwn, tmp_path: Path, glance_images: Glance, repository: str
) -> None:
    with (
        own_glance_of.running(lab.state, tmp_path / "glance", {"user_storage_quota": "1B"}) as full,
        run_own(tmp_path, glance=full.url) as own,
    ):
        client = Registry(own.target)
        image = content.image(repository)
        push_blobs(client, repository, image)
        answer = client.put_manifest(repository, "v1", image.data, image.media_type)
        refused(answer, 403, "DENIED")
        assert "quota" in answer.json()["errors"][0]["message"].lower()
        eventually(lambda: not glance_images(), "nothing left of the push", 240)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 72 MiB, of which the registry leaves 64 to others."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_keeps_nobody_from_pulling(
    run_own: RunOwn, tmp_path: Path, small_disk: Path, registry: Registry, repository: str
) -> None:
    """A layer for which there is no room is passed on, and what there is room for is kept."""
    image = image_with(20_000_000, repository)
    registry.push(repository, image, "v1")
    with run_own(tmp_path, {"state_directory": small_disk / "state"}) as own:
        client = Registry(own.target)
        assert ok(client.manifest(repository, "v1"), 200).content == image.data
        for blob in image.blobs:
            assert ok(client.blob(repository, blob.digest), 200).content == blob.data
        big = image.blobs[-1]
        part = ok(client.blob(repository, big.digest, Range="bytes=1000-1999999"), 206)
        assert part.content == big.data[1000:2_000_000]
        names = sorted(blob.digest.partition(":")[2] for blob in image.blobs[:-1])

        def kept() -> list[str]:
            blobs = small_disk / "state" / "cache" / "blobs-2"
            return sorted(path.name for path in blobs.rglob("*") if path.is_file())

        # A blob is kept a moment after its last byte is sent.
        eventually(lambda: kept() == names, "what there is room for kept", 240)
        # Who wants to push is told why it cannot be.
        answer = refused(client.begin(repository), 503, "UNAVAILABLE")
        assert "no room on its disk" in answer.text


def test_a_killed_registry_loses_no_blob_that_it_acknowledged(own: process.Own, repository: str) -> None:
    client = Registry(own.target)
    whole, part = Blob(repository.encode() * 1000), Blob(b"0123456789" * 10_000)
    client.push_blob(repository, whole)
    address = client.upload(repository)
    ok(client.patch(repository, address, part.data[:60_000], "0-59999"), 202)
    own.stop(signal.SIGKILL)
    own.start()
    assert ok(client.blob(repository, whole.digest), 200).content == whole.data
    # The chunk that was acknowledged need not be sent again, and the token is still good.
    status = ok(client.status(repository, address), 204)
    assert status.headers["Range"] == "0-59999"
    ok(client.finish(repository, location(status), part.digest, part.data[60_000:]), 201)
    assert ok(client.blob(repository, part.digest), 200).content == part.data


def test_a_killed_registry_leaves_no_half_made_image(
    held: process.Own, glance: Relay, glance_images: Glance, repository: str
) -> None:
    image = image_with(SIZE, repository)
    with under_way(held, glance, repository, image) as push:
        held.stop(signal.SIGKILL)
        assert isinstance(push.exception(240), OSError), "the push has an answer"
    assert glance_images()
    held.start()
    eventually(lambda: not glance_images(), "the half-made image deleted", 240)
    client = Registry(held.target)
    ok(client.put_manifest(repository, "v1", image.data, image.media_type), 201)
    assert ok(client.manifest(repository, "v1"), 200).content == image.data
    client.take_away()


def test_a_registry_that_is_stopped_ends_what_it_is_doing(
    held: process.Own, glance: Relay, glance_images: Glance, repository: str
) -> None:
    """In ten seconds, which may not be enough on a busy machine: then it says so, and all is done or nothing."""
    image = image_with(SIZE, repository)
    with under_way(held, glance, repository, image) as push, concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(held.stop)
        eventually(lambda: not is_open(held.target), "the door closed", 240)
        glance.release()
        assert stopped.result(240) == 0
        answered = push.exception(240) is None and push.result() == 201
    held.start()
    client = Registry(held.target)
    whole = ok(client.manifest(repository, "v1"), 200, 404)
    if whole.status_code == 200:
        assert whole.content == image.data
        ok(client.delete_manifest(repository, image.digest), 202)
    assert whole.status_code == 200 or not answered
    assert answered or GAVE_UP in held.log.read_text()
    eventually(lambda: not glance_images(), "all or nothing", 240)


def is_open(target: Target) -> bool:
    """Whether it takes connections."""
    host, _, port = target.host.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=240):
        return True
    return False


def test_what_a_stopping_registry_cannot_end_leaves_nothing(
    held: process.Own, glance: Relay, glance_images: Glance, repository: str
) -> None:
    image = image_with(SIZE, repository)
    with under_way(held, glance, repository, image) as push:
        assert held.stop() == 0
        assert push.exception(240) is not None or push.result() >= 500
    assert GAVE_UP in held.log.read_text()
    held.start()
    eventually(lambda: not glance_images(), "nothing left of the push", 240)
    assert Registry(held.target).manifest(repository, "v1").status_code == 404


def test_two_registries_of_one_cloud_serve_the_same(own: process.Own, registry: Registry, repository: str) -> None:
    """Glance is the only store: what one takes the other has."""
    image = content.image(repository)
    registry.push(repository, image, "v1")
    other = Registry(own.target)
    assert ok(other.manifest(repository, "v1"), 200).content == image.data
    for blob in image.blobs:
        assert ok(other.blob(repository, blob.digest), 200).content == blob.data
    ok(other.delete_manifest(repository, "v1"), 202)
    eventually(lambda: registry.manifest(repository, "v1").status_code == 404, "gone at the first too", 240)


@pytest.fixture
def beside(run_own: RunOwn, own: process.Own, tmp_path: Path) -> Iterator[process.Own]:
    """Another process with the same state directory."""
    directory = tmp_path / "beside"
    directory.mkdir()
    with run_own(directory, {"state_directory": tmp_path / "state"}) as beside:
        yield beside


def test_processes_that_share_their_state_make_one_image_of_what_both_are_pushed(
    own: process.Own, beside: process.Own, glance_images: Glance, repository: str
) -> None:
    clients = [Registry(one.target) for one in (own, beside)]
    image = image_with(20_000_000, repository)
    # A blob that is uploaded to one of them is known to the other.
    push_blobs(clients[0], repository, image)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        statuses = list(pool.map(lambda client: put(client, repository, image), clients * 3))
    assert statuses == [201] * 6
    assert [found["name"] for found in glance_images().values()] == [f"{repository.partition('/')[2]}:v1"]
    for client in clients:
        assert ok(client.manifest(repository, "v1"), 200).content == image.data
    clients[0].take_away()


def test_of_images_that_processes_are_pushed_for_one_tag_one_has_it(
    own: process.Own, beside: process.Own, glance_images: Glance, repository: str
) -> None:
    clients = [Registry(one.target) for one in (own, beside)]
    images = [content.image(f"{repository}{number}") for number in range(6)]
    for image in images:
        push_blobs(clients[0], repository, image)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        statuses = list(pool.map(lambda pair: put(pair[0], repository, pair[1]), zip(clients * 3, images, strict=True)))
    assert statuses == [201] * 6
    names = [found["name"] for found in glance_images().values()]
    assert names.count(f"{repository.partition('/')[2]}:v1") == 1, names
    for client in clients:
        client.take_away()
