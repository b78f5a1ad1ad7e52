"""Blobs as they are pushed: at once, in chunks, as a stream, from another repository, and not to the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from oci.checks import invalid, ok, refused
from oci.client import Registry, location, with_query
from oci.content import Blob, digest_of
from oci.target import Lack, Target

UNKNOWN_UPLOAD = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def blob(repository: str) -> Blob:
    return Blob(repository.encode() * 500)


def thirds(data: bytes) -> list[tuple[str, bytes]]:
    """The data in three chunks, each with its Content-Range."""
    size = len(data) // 3
    bounds = [(0, size), (size, 2 * size), (2 * size, len(data))]
    return [(f"{first}-{end - 1}", data[first:end]) for first, end in bounds]


def assert_there(registry: Registry, repository: str, blob: Blob) -> None:
    answer = ok(registry.blob(repository, blob.digest), 200)
    assert answer.content == blob.data


def assert_absent(registry: Registry, repository: str, digest: str) -> None:
    refused(registry.blob(repository, digest), 404, "BLOB_UNKNOWN", "NAME_UNKNOWN")


def test_a_blob_in_two_requests(registry: Registry, repository: str, blob: Blob) -> None:
    begun = ok(registry.begin(repository), 202)
    answer = ok(registry.finish(repository, location(begun), blob.digest, blob.data), 201)
    assert answer.headers["Docker-Content-Digest"] == blob.digest
    assert ok(registry.call("GET", location(answer), repositories=(repository,)), 200).content == blob.data


def test_a_blob_in_one_request(target: Target, registry: Registry, repository: str, blob: Blob) -> None:
    answer = registry.begin(repository, data=blob.data, digest=blob.digest)
    if target.lacks_any(Lack.SINGLE_POST):
        ok(registry.finish(repository, location(ok(answer, 202)), blob.digest, blob.data), 201)
    else:
        ok(answer, 201)
        assert ok(registry.call("GET", location(answer), repositories=(repository,)), 200).content == blob.data
    assert_there(registry, repository, blob)


def test_a_blob_in_one_request_with_a_wrong_digest(
    target: Target, registry: Registry, repository: str, blob: Blob
) -> None:
    wrong = digest_of(b"something else")
    answer = registry.begin(repository, data=blob.data, digest=wrong)
    if target.lacks_any(Lack.SINGLE_POST):
        answer = registry.finish(repository, location(ok(answer, 202)), wrong, blob.data)
    refused(answer, 400, "DIGEST_INVALID")
    assert_absent(registry, repository, wrong)


@pytest.mark.parametrize("last_chunk_in", ["PATCH", "PUT"])
def test_a_blob_in_chunks(registry: Registry, repository: str, blob: Blob, last_chunk_in: str) -> None:
    chunks = thirds(blob.data)
    address = registry.upload(repository)
    sent = 0
    for span, data in chunks if last_chunk_in == "PATCH" else chunks[:-1]:
        answer = ok(registry.patch(repository, address, data, span), 202)
        sent += len(data)
        assert answer.headers["Range"] == f"0-{sent - 1}"
        address = location(answer)
    if last_chunk_in == "PATCH":
        ok(registry.finish(repository, address, blob.digest), 201)
    else:
        span, data = chunks[-1]
        ok(registry.finish(repository, address, blob.digest, data, span), 201)
    assert_there(registry, repository, blob)


def test_how_far_an_upload_is(registry: Registry, repository: str, blob: Blob) -> None:
    span, data = thirds(blob.data)[0]
    begun = ok(registry.begin(repository), 202)
    # Nothing can be said of nothing in this header, so clients read both as nothing.
    assert begun.headers.get("Range", "0-0") in ("0-0", "0--1")
    answer = ok(registry.patch(repository, location(begun), data, span), 202)
    answer = ok(registry.status(repository, location(answer)), 204)
    assert answer.headers["Range"] == f"0-{len(data) - 1}"
    ok(registry.finish(repository, location(answer), blob.digest, blob.data[len(data) :]), 201)
    assert_there(registry, repository, blob)


@pytest.mark.parametrize("which", ["one too far", "again", "before the first"])
def test_chunks_come_in_order(target: Target, registry: Registry, repository: str, blob: Blob, which: str) -> None:
    first, second, third = thirds(blob.data)
    address = registry.upload(repository)
    if which != "before the first":
        address = location(ok(registry.patch(repository, address, first[1], first[0]), 202))
    wrong = {"one too far": third, "again": first, "before the first": second}[which]
    answer = registry.patch(repository, address, wrong[1], wrong[0])
    if target.lacks_any(Lack.CHUNK_ORDER):
        # It is found by the digest in the end.
        answer = ok(answer, 202)
        refused(registry.finish(repository, location(answer), blob.digest), 400, "DIGEST_INVALID")
        return
    ok(answer, 416)
    # The upload is as it was, and goes on.
    status = ok(registry.status(repository, address), 204)
    rest = [first, second, third] if which == "before the first" else [second, third]
    address = location(status)
    for span, data in rest:
        address = location(ok(registry.patch(repository, address, data, span), 202))
    ok(registry.finish(repository, address, blob.digest), 201)
    assert_there(registry, repository, blob)


@pytest.mark.parametrize("span", ["0", "9-0", "a-b", "-"])
def test_a_chunk_s_range_is_two_numbers(
    target: Target, registry: Registry, repository: str, blob: Blob, span: str
) -> None:
    answer = registry.patch(repository, registry.upload(repository), blob.data[:10], span)
    ok(answer, *((202,) if target.lacks_any(Lack.CHUNK_ORDER) else (400, 416)))


def test_a_chunk_is_as_long_as_its_range(target: Target, registry: Registry, repository: str, blob: Blob) -> None:
    answer = registry.patch(repository, registry.upload(repository), blob.data[:10], "0-99")
    ok(answer, *((202,) if target.lacks_any(Lack.CHUNK_ORDER) else (400, 416)))


def test_a_blob_as_a_stream(registry: Registry, repository: str, blob: Blob) -> None:
    answer = ok(registry.patch(repository, registry.upload(repository), stream(blob.data)), 202)
    assert answer.headers["Range"] == f"0-{len(blob.data) - 1}"
    ok(registry.finish(repository, location(answer), blob.digest), 201)
    assert_there(registry, repository, blob)


def test_a_stream_that_ends_the_upload(registry: Registry, repository: str, blob: Blob) -> None:
    ok(registry.finish(repository, registry.upload(repository), blob.digest, stream(blob.data)), 201)
    assert_there(registry, repository, blob)


def stream(data: bytes, size: int = 1000) -> Iterator[bytes]:
    """Without a length beforehand: chunked transfer."""
    yield from (data[start : start + size] for start in range(0, len(data), size))


def test_an_empty_blob(registry: Registry, repository: str) -> None:
    empty = Blob(b"")
    ok(registry.finish(repository, registry.upload(repository), empty.digest), 201)
    answer = ok(registry.blob(repository, empty.digest), 200)
    assert answer.content == b""
    assert ok(registry.blob(repository, empty.digest, "HEAD"), 200).headers["Content-Length"] == "0"


def test_a_blob_can_be_pushed_again(registry: Registry, repository: str, blob: Blob) -> None:
    registry.push_blob(repository, blob)
    registry.push_blob(repository, blob)
    assert_there(registry, repository, blob)


def test_a_blob_by_sha512(target: Target, registry: Registry, repository: str) -> None:
    blob = Blob(repository.encode() * 300, algorithm="sha512")
    begun = ok(registry.begin(repository, digest_algorithm="sha512"), 202)
    answer = ok(registry.finish(repository, location(begun), blob.digest, blob.data), 201)
    if target.lacks_any(Lack.SHA512):
        assert answer.headers["Docker-Content-Digest"] == digest_of(blob.data)
        assert_there(registry, repository, Blob(blob.data))
    else:
        assert_there(registry, repository, blob)


def test_a_wrong_sha512_is_found(registry: Registry, repository: str, blob: Blob) -> None:
    begun = ok(registry.begin(repository, digest_algorithm="sha512"), 202)
    wrong = digest_of(b"something else", "sha512")
    refused(registry.finish(repository, location(begun), wrong, blob.data), 400, "DIGEST_INVALID")


def test_a_cancelled_upload_is_gone(registry: Registry, repository: str, blob: Blob) -> None:
    answer = ok(registry.patch(repository, registry.upload(repository), blob.data[:100], "0-99"), 202)
    address = location(answer)
    ok(registry.cancel(repository, address), 204)
    refused(registry.status(repository, address), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(registry.finish(repository, address, blob.digest, blob.data), 404, "BLOB_UPLOAD_UNKNOWN")
    assert_absent(registry, repository, blob.digest)


def test_a_finished_upload_is_gone(registry: Registry, repository: str, blob: Blob) -> None:
    address = registry.upload(repository)
    ok(registry.finish(repository, address, blob.digest, blob.data), 201)
    refused(registry.status(repository, address), 404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
def test_an_upload_that_nobody_began_is_unknown(registry: Registry, repository: str, blob: Blob, method: str) -> None:
    address = f"/v2/{repository}/blobs/uploads/{UNKNOWN_UPLOAD}"
    if method == "PUT":
        address = with_query(address, digest=blob.digest)
    answer = registry.call(method, address, repositories=(repository,), data=blob.data if method != "GET" else None)
    refused(answer, 404, "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")


def test_an_upload_is_of_its_repository(
    target: Target, registry: Registry, repository: str, another: str, blob: Blob
) -> None:
    address = registry.upload(repository).replace(repository, another)
    answer = registry.finish(another, address, blob.digest, blob.data)
    if target.lacks_any(Lack.SESSION_REPOSITORY):
        ok(answer, 201)
    else:
        refused(answer, (400, 404), "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")
        assert_absent(registry, another, blob.digest)


def test_a_wrong_digest_is_found(registry: Registry, repository: str, blob: Blob) -> None:
    wrong = digest_of(b"something else")
    refused(registry.finish(repository, registry.upload(repository), wrong, blob.data), 400, "DIGEST_INVALID")
    assert_absent(registry, repository, wrong)
    assert_absent(registry, repository, blob.digest)


@pytest.mark.parametrize("digest", [None, "", "sha256:12", "nonsense", "md5:" + "0" * 32])
def test_an_upload_ends_with_a_digest(registry: Registry, repository: str, blob: Blob, digest: str | None) -> None:
    answer = registry.finish(repository, registry.upload(repository), digest, blob.data)
    refused(answer, 400, "DIGEST_INVALID")


def test_a_blob_from_another_repository(registry: Registry, repository: str, another: str, blob: Blob) -> None:
    registry.push_blob(repository, blob)
    answer = ok(registry.begin(another, sources=(repository,), mount=blob.digest, from_=repository), 201)
    assert answer.headers["Docker-Content-Digest"] == blob.digest
    assert ok(registry.call("GET", location(answer), repositories=(another,)), 200).content == blob.data


@pytest.mark.parametrize("absent", ["blob", "repository"])
def test_what_cannot_be_mounted_is_uploaded(
    registry: Registry, repository: str, another: str, blob: Blob, absent: str
) -> None:
    source = repository
    if absent == "blob":
        registry.push_blob(repository, Blob(b"another blob"))
    else:
        source = f"{repository}-that-nobody-made"
    answer = ok(registry.begin(another, sources=(source,), mount=blob.digest, from_=source), 202)
    ok(registry.finish(another, location(answer), blob.digest, blob.data), 201)
    assert_there(registry, another, blob)


def test_a_mount_that_says_not_from_where(registry: Registry, repository: str, another: str, blob: Blob) -> None:
    """A registry may look for it, or ask for the upload."""
    registry.push_blob(repository, blob)
    answer = ok(registry.begin(another, sources=(repository,), mount=blob.digest), 201, 202)
    if answer.status_code == 202:
        ok(registry.finish(another, location(answer), blob.digest, blob.data), 201)
    assert_there(registry, another, blob)


@pytest.mark.parametrize("digest", ["nonsense", "sha256:12"])
def test_a_mount_of_what_is_no_digest(
    target: Target, registry: Registry, repository: str, another: str, digest: str
) -> None:
    """An upload instead, or a refusal."""
    answer = registry.begin(another, sources=(repository,), mount=digest, from_=repository)
    if answer.status_code != 202:
        invalid(target, answer, "DIGEST_INVALID")
