"""Blobs as they are pulled: whole, in parts, and not at all."""

from __future__ import annotations

import pytest
from oci.checks import invalid, ok, refused
from oci.client import Registry
from oci.content import Blob, Manifest, digest_of
from oci.target import Lack, Target

DATA = bytes(range(256)) * 64


@pytest.fixture
def blob(registry: Registry, repository: str) -> Blob:
    made = Blob(DATA + repository.encode())
    registry.push_blob(repository, made)
    return made


def test_a_blob_is_what_was_pushed(registry: Registry, repository: str, blob: Blob) -> None:
    answer = ok(registry.blob(repository, blob.digest), 200)
    assert answer.content == blob.data
    assert answer.headers["Content-Length"] == str(len(blob.data))
    assert answer.headers["Docker-Content-Digest"] == blob.digest


def test_head_of_a_blob_tells_size_and_digest(registry: Registry, repository: str, blob: Blob) -> None:
    answer = ok(registry.blob(repository, blob.digest, "HEAD"), 200)
    assert answer.content == b""
    assert answer.headers["Content-Length"] == str(len(blob.data))
    assert answer.headers["Docker-Content-Digest"] == blob.digest


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_that_nobody_pushed_is_unknown(registry: Registry, repository: str, blob: Blob, method: str) -> None:
    refused(registry.blob(repository, digest_of(b"never pushed"), method), 404, "BLOB_UNKNOWN")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_of_another_repository_is_unknown(
    target: Target, registry: Registry, another: str, blob: Blob, method: str
) -> None:
    answer = registry.blob(another, blob.digest, method)
    if target.lacks_any(Lack.STAGED_BY_REPOSITORY):
        ok(answer, 200)
    else:
        refused(answer, 404, "BLOB_UNKNOWN", "NAME_UNKNOWN")


@pytest.mark.parametrize(
    "digest", ["sha256:0", "sha256:" + "g" * 64, "sha256:" + "A" * 64, "sha256", "md5:" + "0" * 32, "latest"]
)
def test_what_is_no_digest_is_refused(target: Target, registry: Registry, repository: str, digest: str) -> None:
    answer = registry.blob(repository, digest)
    if answer.status_code == 404 and answer.headers.get("Content-Type", "").startswith("application/json"):
        # A digest of an algorithm that the registry does not know can be told from no digest, or not.
        refused(answer, 404, "BLOB_UNKNOWN", "DIGEST_INVALID")
    else:
        invalid(target, answer, "DIGEST_INVALID")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=1000-1999", 1000, 1999),
        ("bytes=16000-", 16000, None),
        ("bytes=-7", -7, None),
        ("bytes=100-99999999", 100, None),
    ],
)
def test_a_part_of_a_blob(
    registry: Registry, repository: str, blob: Blob, asked: str, first: int, last: int | None
) -> None:
    size = len(blob.data)
    first = first % size
    last = size - 1 if last is None else last
    answer = ok(registry.blob(repository, blob.digest, Range=asked), 206)
    assert answer.content == blob.data[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    assert answer.headers["Content-Length"] == str(last + 1 - first)


def test_a_part_beyond_the_end_cannot_be_had(registry: Registry, repository: str, blob: Blob) -> None:
    size = len(blob.data)
    # Its body is nobody's business: CNCF distribution's is shorter than its length says.
    asked = {"Range": f"bytes={size}-"}
    address = f"/v2/{repository}/blobs/{blob.digest}"
    with registry.call("GET", address, repositories=(repository,), headers=asked, stream=True) as answer:
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_a_blob_that_the_client_has_is_not_sent_again(registry: Registry, repository: str, blob: Blob) -> None:
    tag = ok(registry.blob(repository, blob.digest), 200).headers["ETag"]
    answer = ok(registry.blob(repository, blob.digest, If_None_Match=tag), 304)
    assert answer.content == b""
    ok(registry.blob(repository, blob.digest, If_None_Match='"another"'), 200)


def test_blobs_of_an_image_are_in_its_repository(registry: Registry, repository: str, pushed: Manifest) -> None:
    for blob in pushed.blobs:
        answer = ok(registry.blob(repository, blob.digest), 200)
        assert answer.content == blob.data
