"""Manifests as they are pulled, by tag and by digest."""

from __future__ import annotations

import pytest
from oci import content
from oci.checks import invalid, ok, refused
from oci.client import Registry
from oci.content import Manifest
from oci.target import Lack, Target


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_manifest_is_what_was_pushed(registry: Registry, repository: str, pushed: Manifest, by: str) -> None:
    answer = ok(registry.manifest(repository, "v1" if by == "tag" else pushed.digest), 200)
    assert answer.content == pushed.data
    assert answer.headers["Content-Type"] == pushed.media_type
    assert answer.headers["Docker-Content-Digest"] == pushed.digest


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_head_of_a_manifest_tells_its_size_digest_and_type(
    registry: Registry, repository: str, pushed: Manifest, by: str
) -> None:
    answer = ok(registry.manifest(repository, "v1" if by == "tag" else pushed.digest, "HEAD"), 200)
    assert answer.content == b""
    assert answer.headers["Content-Length"] == str(len(pushed.data))
    assert answer.headers["Content-Type"] == pushed.media_type
    assert answer.headers["Docker-Content-Digest"] == pushed.digest


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("reference", ["v2", content.digest_of(b"never pushed")])
def test_a_manifest_that_nobody_pushed_is_unknown(
    registry: Registry, repository: str, pushed: Manifest, reference: str, method: str
) -> None:
    refused(registry.manifest(repository, reference, method), 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_repository_that_nobody_pushed_to_is_unknown(registry: Registry, another: str, method: str) -> None:
    refused(registry.manifest(another, "latest", method), 404, "MANIFEST_UNKNOWN", "NAME_UNKNOWN")


def test_a_manifest_is_of_its_repository_only(registry: Registry, another: str, pushed: Manifest) -> None:
    refused(registry.manifest(another, pushed.digest), 404, "MANIFEST_UNKNOWN", "NAME_UNKNOWN")


def test_a_layer_is_no_manifest(target: Target, registry: Registry, repository: str, pushed: Manifest) -> None:
    answer = registry.manifest(repository, pushed.blobs[-1].digest)
    if not target.lacks_any(Lack.VALIDATION):
        refused(answer, 404, "MANIFEST_UNKNOWN")
    else:
        ok(answer, 404, 500)


@pytest.mark.parametrize("reference", ["-v1", ".v1", "v1:v2", "a" * 129, "sha256:12", "v%201"])
def test_what_is_neither_tag_nor_digest_is_refused(
    target: Target, registry: Registry, repository: str, pushed: Manifest, reference: str
) -> None:
    answer = registry.manifest(repository, reference)
    if answer.status_code == 404 and answer.headers.get("Content-Type", "").startswith("application/json"):
        refused(answer, 404, "MANIFEST_UNKNOWN")
    else:
        invalid(target, answer, "MANIFEST_INVALID", "DIGEST_INVALID", "TAG_INVALID", "NAME_INVALID")


def test_a_manifest_that_the_client_has_is_not_sent_again(
    registry: Registry, repository: str, pushed: Manifest
) -> None:
    tag = ok(registry.manifest(repository, "v1"), 200).headers["ETag"]
    assert ok(registry.manifest(repository, "v1", If_None_Match=tag), 304).content == b""
    ok(registry.manifest(repository, "v1", If_None_Match='"another"'), 200)


def test_docker_s_own_manifests_keep_their_type(registry: Registry, repository: str) -> None:
    image = content.image(repository, docker=True)
    registry.push(repository, image, "docker")
    answer = ok(registry.manifest(repository, "docker"), 200)
    assert (answer.headers["Content-Type"], answer.content) == (content.DOCKER_MANIFEST, image.data)


@pytest.mark.parametrize("docker", [False, True])
def test_an_index_is_pulled_with_its_manifests(registry: Registry, repository: str, docker: bool) -> None:
    index = content.index([content.image(f"{repository}{n}", docker=docker) for n in range(2)], docker=docker)
    registry.push(repository, index, "multi")
    for reference in ("multi", index.digest):
        answer = ok(registry.manifest(repository, reference), 200)
        assert (answer.headers["Content-Type"], answer.content) == (index.media_type, index.data)
    for child in index.children:
        assert ok(registry.manifest(repository, child.digest), 200).content == child.data
        for blob in child.blobs:
            assert ok(registry.blob(repository, blob.digest), 200).content == blob.data
