"""What is deleted: tags, manifests, blobs."""

from __future__ import annotations

from oci import content
from oci.checks import ok, refused
from oci.client import Registry
from oci.content import Blob, Manifest
from oci.target import Lack, Target


def test_a_deleted_manifest_is_gone_with_its_tags(registry: Registry, repository: str, pushed: Manifest) -> None:
    other = content.image(f"{repository} other")
    registry.push(repository, other, "other")
    registry.push(repository, pushed, "v1", "v2")
    ok(registry.delete_manifest(repository, pushed.digest), 202)
    for reference in (pushed.digest, "v1", "v2"):
        refused(registry.manifest(repository, reference), 404, "MANIFEST_UNKNOWN")
    assert ok(registry.tags(repository), 200).json()["tags"] == ["other"]
    assert ok(registry.manifest(repository, "other"), 200).content == other.data


def test_a_manifest_is_deleted_once(registry: Registry, repository: str, pushed: Manifest) -> None:
    ok(registry.delete_manifest(repository, pushed.digest), 202)
    refused(registry.delete_manifest(repository, pushed.digest), 404, "MANIFEST_UNKNOWN", "NAME_UNKNOWN")


def test_a_manifest_that_nothing_names_is_deleted_by_its_digest(registry: Registry, repository: str) -> None:
    image = content.image(repository)
    registry.push(repository, image)
    ok(registry.delete_manifest(repository, image.digest), 202)
    refused(registry.manifest(repository, image.digest), 404, "MANIFEST_UNKNOWN", "NAME_UNKNOWN")


def test_a_deleted_manifest_can_be_pushed_again(registry: Registry, repository: str, pushed: Manifest) -> None:
    ok(registry.delete_manifest(repository, pushed.digest), 202)
    registry.push(repository, pushed, "v1")
    assert ok(registry.manifest(repository, "v1"), 200).content == pushed.data


def test_a_deleted_tag_is_gone_and_others_stay(
    target: Target, registry: Registry, repository: str, pushed: Manifest
) -> None:
    registry.push(repository, pushed, "v2")
    answer = registry.delete_manifest(repository, "v1")
    if target.lacks_any(Lack.TAG_DELETE):
        refused(answer, (400, 405), "UNSUPPORTED", "DIGEST_INVALID")
        return
    ok(answer, 202)
    refused(registry.manifest(repository, "v1"), 404, "MANIFEST_UNKNOWN")
    assert ok(registry.tags(repository), 200).json()["tags"] == ["v2"]
    for reference in ("v2", pushed.digest):
        assert ok(registry.manifest(repository, reference), 200).content == pushed.data


def test_a_tag_that_is_not_there_is_not_deleted(
    target: Target, registry: Registry, repository: str, pushed: Manifest
) -> None:
    answer = registry.delete_manifest(repository, "never-pushed")
    if target.lacks_any(Lack.TAG_DELETE):
        refused(answer, (400, 405), "UNSUPPORTED", "DIGEST_INVALID")
    else:
        refused(answer, 404, "MANIFEST_UNKNOWN")


def test_a_manifest_of_another_repository_is_not_deleted(
    registry: Registry, repository: str, another: str, pushed: Manifest
) -> None:
    registry.push(another, content.image(another), "v1")
    refused(registry.delete_manifest(another, pushed.digest), 404, "MANIFEST_UNKNOWN", "NAME_UNKNOWN")
    ok(registry.manifest(repository, pushed.digest), 200)


def test_a_blob_that_no_image_has_is_deleted(registry: Registry, repository: str) -> None:
    blob = Blob(repository.encode())
    registry.push_blob(repository, blob)
    ok(registry.delete_blob(repository, blob.digest), 202)
    refused(registry.blob(repository, blob.digest), 404, "BLOB_UNKNOWN", "NAME_UNKNOWN")


def test_a_blob_that_an_image_has(target: Target, registry: Registry, repository: str, pushed: Manifest) -> None:
    digest = pushed.blobs[-1].digest
    answer = registry.delete_blob(repository, digest)
    if target.lacks_any(Lack.BLOB_DELETE):
        refused(answer, 405, "UNSUPPORTED")
        ok(registry.blob(repository, digest), 200)
    else:
        ok(answer, 202)
        refused(registry.blob(repository, digest), 404, "BLOB_UNKNOWN")


def test_a_blob_that_nobody_pushed_is_not_deleted(registry: Registry, repository: str, pushed: Manifest) -> None:
    refused(registry.delete_blob(repository, content.digest_of(b"never pushed")), 404, "BLOB_UNKNOWN")


def test_the_blobs_of_other_images_stay(registry: Registry, repository: str, pushed: Manifest) -> None:
    """Two images that share all but their annotations."""
    similar = content.manifest({**pushed.document, "annotations": {"another": "one"}}, pushed.blobs)
    registry.push(repository, similar, "similar")
    ok(registry.delete_manifest(repository, pushed.digest), 202)
    assert ok(registry.manifest(repository, "similar"), 200).content == similar.data
    for blob in similar.blobs:
        assert ok(registry.blob(repository, blob.digest), 200).content == blob.data
