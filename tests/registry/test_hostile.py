"""Clients that mean harm, or are cut off: refused by the specification's codes, and nothing half made is left."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
from harness.waiting import eventually
from oci import content, process
from oci.checks import ok, refused
from oci.client import Registry, location, with_query
from oci.content import Blob, Manifest
from oci.relay import Relay
from oci.target import Target
from openstack.connection import Connection

pytestmark = pytest.mark.cloud

RunOwn = Callable[..., AbstractContextManager[process.Own]]


@contextlib.contextmanager
def connected(target: Target, timeout: float = 240) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to the registry, to say on it whatever one likes."""
    host, _, port = target.host.partition(":")
    context = ssl.create_default_context(cafile=target.ca)
    with (
        socket.create_connection((host, int(port)), timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        yield secure


def dripped_until_closed(secure: ssl.SSLSocket, seconds: float) -> bool:
    """Whether the registry stops listening, within so many seconds, to a client that says one byte a second."""
    end = time.monotonic() + seconds
    secure.settimeout(1)
    while time.monotonic() < end:
        try:
            secure.sendall(b"a")
            if secure.recv(4096) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.fixture
def impatient(run_own: RunOwn, tmp_path: Path) -> Iterator[process.Own]:
    """A registry that waits three seconds for a client to say what it wants, and takes few connections."""
    options = {"request_header_timeout_seconds": 3, "max_connections": 8}
    with run_own(tmp_path, options) as own:
        yield own


def test_a_client_that_never_ends_its_headers_is_left(impatient: process.Own) -> None:
    with connected(impatient.target) as secure:
        secure.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert dripped_until_closed(secure, 240)


def test_a_client_that_never_begins_is_left(impatient: process.Own) -> None:
    host, _, port = impatient.target.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=240) as plain:
        # Not even a TLS handshake.
        assert plain.recv(1) == b""


@pytest.fixture
def restless(run_own: RunOwn, tmp_path: Path) -> Iterator[process.Own]:
    """A registry that waits three seconds for the next part of a body."""
    with run_own(tmp_path, {"idle_timeout_seconds": 3}) as own:
        yield own


def test_an_upload_that_stands_still_is_left_and_can_be_gone_on_with(restless: process.Own, repository: str) -> None:
    client = Registry(restless.target)
    blob = Blob(b"0123456789" * 1000)
    address = client.upload(repository)
    path = urllib.parse.urlsplit(address).path
    authorization = client.authorization(f"repository:{repository}:pull,push")["Authorization"]
    with connected(restless.target, timeout=240) as secure:
        head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: 10000\r\n\r\n"
        secure.sendall(head.encode() + blob.data[:4000])
        try:
            while secure.recv(4096):
                pass
        except ConnectionError:
            pass  # a reset is an end too
    status = ok(client.status(repository, address), 204)
    ok(client.finish(repository, location(status), blob.digest, blob.data[kept(status) :]), 201)


def answers(target: Target) -> requests.Response:
    """What a new client is told."""
    with contextlib.closing(Registry(target, "").session) as session:
        return session.get(f"{target.url}/v2/", timeout=240)


def serves(target: Target) -> bool:
    return answers(target).status_code == 401


def test_so_many_connections_are_served_at_a_time_and_more_are_told_to_come_back(
    run_own: RunOwn, tmp_path: Path
) -> None:
    with (
        run_own(tmp_path, {"max_connections": 4, "request_header_timeout_seconds": 600}) as own,
        contextlib.ExitStack() as stack,
    ):
        served = [Registry(own.target, "") for _ in range(4)]
        for client in served:
            # It keeps its connection, once that of who looked whether the registry runs has gone.
            stack.callback(client.session.close)
            eventually(lambda client=client: client.call("GET", "/v2/").status_code == 401, "the connection is served")
        refusal = refused(answers(own.target), 503, "UNAVAILABLE")
        assert int(refusal.headers["Retry-After"]) > 0
        refused(served[0].call("GET", "/v2/"), 401, "UNAUTHORIZED")
        served[0].session.close()
        eventually(lambda: serves(own.target), "the connection that was closed makes room")


def test_connections_that_say_nothing_make_room_for_others(impatient: process.Own) -> None:
    with contextlib.ExitStack() as stack:
        host, _, port = impatient.target.host.partition(":")
        for _ in range(10):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=240))
        eventually(lambda: serves(impatient.target), "the registry leaves those that say nothing")


@pytest.fixture
def modest(run_own: RunOwn, tmp_path: Path) -> Iterator[process.Own]:
    """A registry that takes little of everything."""
    options = {"max_manifest_kb": 64, "max_blobs": 20, "max_blob_gb": 1, "max_staged_gb_per_project": 1}
    with run_own(tmp_path, options) as own:
        yield own


def test_limits_are_options(modest: process.Own, repository: str) -> None:
    client = Registry(modest.target)
    large = content.image(repository, annotations={"padding": "x" * 65_536})
    refused(client.put_manifest(repository, "v1", large.data, large.media_type), (400, 413))
    blob = Blob(b"one")
    client.push_blob(repository, blob)
    document = {**large.document, "layers": [blob.descriptor()] * 30}
    document["annotations"] = {}
    refused(
        client.put_manifest(repository, "v1", content.encode(document), large.media_type),
        (400, 413),
        "MANIFEST_INVALID",
    )
    # Told before the body is sent.
    answer = client.call(
        "PATCH",
        client.upload(repository),
        repositories=(repository,),
        headers={"Content-Length": str(2 * 1024**3), "Expect": "100-continue"},
    )
    refused(answer, (400, 413), "SIZE_INVALID", "BLOB_UPLOAD_INVALID", "DENIED", "TOOMANYREQUESTS")


def test_an_image_of_ten_thousand_layers_is_refused(registry: Registry, repository: str) -> None:
    image = content.image(repository, layers=1)
    for blob in image.blobs:
        registry.push_blob(repository, blob)
    document = {**image.document, "layers": [image.blobs[1].descriptor()] * 10_000}
    answer = registry.put_manifest(repository, "v1", content.encode(document), image.media_type)
    refused(answer, (400, 413), "MANIFEST_INVALID", "SIZE_INVALID")
    assert registry.manifest(repository, "v1").status_code == 404


def test_an_index_of_ten_thousand_manifests_is_refused(registry: Registry, repository: str) -> None:
    child = content.image(repository, layers=1)
    registry.push(repository, child)
    index = content.index([child] * 10_000)
    answer = registry.put_manifest(repository, "v1", index.data, index.media_type)
    refused(answer, (400, 413), "MANIFEST_INVALID", "SIZE_INVALID")


def test_a_truncated_upload_leaves_what_arrived_and_no_blob(
    target: Target, registry: Registry, repository: str
) -> None:
    blob = Blob(repository.encode().ljust(50, b".") * 2000)
    address = registry.upload(repository)
    path = urllib.parse.urlsplit(address).path
    authorization = registry.authorization(f"repository:{repository}:pull,push")["Authorization"]
    with connected(target) as secure:
        where = urllib.parse.urlsplit(with_query(path, digest=blob.digest))
        head = f"PUT {where.path}?{where.query} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n"
        secure.sendall(f"{head}Content-Length: {len(blob.data)}\r\n\r\n".encode() + blob.data[:50_000])
    refused(registry.blob(repository, blob.digest), 404, "BLOB_UNKNOWN", "NAME_UNKNOWN")

    def finished() -> bool:
        """Go on from what is there, which becomes more as long as the registry has not seen that the client went."""
        status = ok(registry.status(repository, address), 204)
        there = kept(status)
        assert there <= 50_000
        span = f"{there}-{len(blob.data) - 1}"
        answer = registry.finish(repository, location(status), blob.digest, blob.data[there:], span)
        return ok(answer, 201, 409, 416).status_code == 201

    eventually(finished, "the rest taken", 240)
    assert ok(registry.blob(repository, blob.digest), 200).content == blob.data


def kept(status: requests.Response) -> int:
    """Bytes that an upload has, by its status: `0-0` is said of none."""
    last = int(status.headers["Range"].partition("-")[2])
    return last + 1 if last else 0


def test_a_client_that_goes_while_its_image_is_made_leaves_all_or_nothing(
    held: process.Own, glance: Relay, repository: str
) -> None:
    registry = Registry(held.target)
    image = content.image(repository)
    with Path("/dev/urandom").open("rb") as noise:
        big = Blob(noise.read(4_000_000), content.OCI_LAYER)
    document = image.document
    document["layers"].append(big.descriptor())
    manifest = content.manifest(document, (*image.blobs, big))
    for blob in manifest.blobs:
        registry.push_blob(repository, blob)
    authorization = registry.authorization(f"repository:{repository}:pull,push")["Authorization"]
    with connected(held.target) as secure:
        head = (
            f"PUT /v2/{repository}/manifests/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n"
            f"Content-Type: {manifest.media_type}\r\nContent-Length: {len(manifest.data)}\r\n\r\n"
        )
        secure.sendall(head.encode() + manifest.data)
        glance.wait_until_it_holds()
    glance.release()
    # All is well afterwards, whichever it was.
    registry.push(repository, manifest, "v1")
    assert ok(registry.manifest(repository, "v1"), 200).content == manifest.data
    assert ok(registry.blob(repository, big.digest), 200).content == big.data
    registry.take_away()


def test_two_who_push_the_same_tag_at_once_leave_one_of_the_two(registry: Registry, repository: str) -> None:
    images = [content.image(f"{repository}{n}") for n in range(4)]
    for image in images:
        for blob in image.blobs:
            registry.push_blob(repository, blob)
    answers: list[int] = []

    def push(image: content.Manifest) -> None:
        client = Registry(registry.target)
        answers.append(client.put_manifest(repository, "v1", image.data, image.media_type).status_code)
        registry.manifests.append((repository, image.digest))

    threads = [threading.Thread(target=push, args=(image,)) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {201, 409, 429, 503}
    assert 201 in answers
    found = ok(registry.manifest(repository, "v1"), 200)
    assert found.content in [image.data for image in images]
    assert ok(registry.tags(repository), 200).json()["tags"] == ["v1"]


def test_deeply_nested_json_is_refused_or_kept(registry: Registry, repository: str) -> None:
    image = content.image(repository, layers=0)
    for blob in image.blobs:
        registry.push_blob(repository, blob)
    text = json.dumps(image.document)[:-1] + ', "deep": ' + "[" * 50_000 + "]" * 50_000 + "}"
    answer = registry.put_manifest(repository, "v1", text.encode(), image.media_type)
    if answer.status_code == 201:
        assert ok(registry.manifest(repository, "v1"), 200).content == text.encode()
    else:
        refused(answer, 400, "MANIFEST_INVALID")


NO_REQUESTS: dict[str, tuple[bytes, int | None]] = {
    # It goes by the first, as RFC 9112 (6.1) lets it.
    "two lengths": (
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        401,
    ),
    "a negative length": (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "a header of 1 MB": (b"GET /v2/ HTTP/1.1\r\nX-Large: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
    "a path of 1 MB": (b"GET /v2/" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    "noise": (b"\x00\x01\x02\x03\r\n\r\n", 400),
    "HTTP/9.9": (b"GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
}
"""With the status of the answer; without one the registry hangs up."""


@pytest.mark.parametrize("what", NO_REQUESTS)
def test_what_is_no_request_is_refused(target: Target, what: str) -> None:
    head, status = NO_REQUESTS[what]
    with connected(target, timeout=240) as secure:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            secure.sendall(head)
        answer = http.client.HTTPResponse(secure)
        try:
            answer.begin()
        except (ConnectionError, ssl.SSLError):
            # What the registry leaves unread makes the kernel reset the connection, maybe before the answer is read.
            assert status is None or len(head) > 1_000_000
        else:
            assert answer.status == status
    refused(Registry(target, "").call("GET", "/v2/"), 401, "UNAUTHORIZED")


def test_a_blob_name_that_is_huge(registry: Registry, repository: str) -> None:
    answer = registry.blob(repository, "sha256:" + "a" * 60_000)
    ok(answer, 400, 414, 431)


def test_many_tags_more_than_an_image_may_have(
    registry: Registry, owner: Connection, repository: str, pushed: Manifest
) -> None:
    """Glance gives an image 128 tags; what goes beyond is told, and the others stay."""
    stem = repository.partition("/")[2]
    [image] = [image for image in owner.image.images() if image.name == f"{stem}:v1"]
    tags = [f"t{number:03}" for number in range(127)]
    owner.image.update_image(image.id, tags=[*image.tags, *(f"{stem}:{tag}" for tag in tags)])
    answers = [registry.put_manifest(repository, tag, pushed.data, pushed.media_type) for tag in ("u1", "u2", "u3")]
    assert [answer.status_code for answer in answers][-1] == 403
    refused(answers[-1], 403, "DENIED")
    taken = [tag for tag, answer in zip(("u1", "u2", "u3"), answers, strict=True) if answer.status_code == 201]
    assert ok(registry.tags(repository), 200).json()["tags"] == [*tags, *taken, "v1"]
    assert ok(registry.manifest(repository, "v1"), 200).content == pushed.data


def test_no_memory_is_spent_on_what_is_large(own: process.Own, repository: str) -> None:
    """A layer of 100 MB, more than the process may have, pushed and pulled: it is never in memory as a whole."""
    client = Registry(own.target)
    with Path("/dev/urandom").open("rb") as noise:
        big = Blob(noise.read(100_000_000), content.OCI_LAYER)
    image = content.image(repository, layers=0)
    manifest = content.manifest({**image.document, "layers": [big.descriptor()]}, (*image.blobs, big))
    client.push(repository, manifest, "v1")
    assert ok(client.blob(repository, big.digest), 200).content == big.data
    client.take_away()
    most = own.most_held()
    assert most <= 64 * 1024 * 1024, f"{most / 1024**2:.0f} MiB"
