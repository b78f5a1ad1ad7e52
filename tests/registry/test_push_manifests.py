"""Manifests as they are pushed: images, indexes, artifacts, and what is none of them."""

from __future__ import annotations

import json

import pytest
from oci import content
from oci.checks import invalid, ok, refused
from oci.client import Registry, location
from oci.content import Blob, Manifest
from oci.target import Lack, Target


def assert_kept(registry: Registry, repository: str, reference: str, manifest: Manifest) -> None:
    answer = ok(registry.manifest(repository, reference), 200)
    assert (answer.headers["Content-Type"], answer.content) == (manifest.media_type, manifest.data)
    assert answer.headers["Docker-Content-Digest"] == manifest.digest


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_pushed_manifest_is_where_the_answer_says(registry: Registry, repository: str, by: str) -> None:
    image = content.image(repository)
    answer = registry.push(repository, image, "v1" if by == "tag" else image.digest)
    assert answer.headers["Docker-Content-Digest"] == image.digest
    accept = {"Accept": content.ANY_MANIFEST}
    found = ok(registry.call("GET", location(answer), repositories=(repository,), headers=accept), 200)
    assert found.content == image.data


def test_a_manifest_under_several_tags(registry: Registry, repository: str) -> None:
    image = content.image(repository)
    tags = ("v1", "v1.0", "latest")
    registry.push(repository, image, *tags)
    for tag in tags:
        assert_kept(registry, repository, tag, image)


def test_a_tag_moves_and_the_old_manifest_stays(registry: Registry, repository: str, pushed: Manifest) -> None:
    newer = content.image(f"{repository} newer")
    registry.push(repository, newer, "v1")
    assert_kept(registry, repository, "v1", newer)
    assert_kept(registry, repository, pushed.digest, pushed)
    for blob in pushed.blobs:
        ok(registry.blob(repository, blob.digest, "HEAD"), 200)


def test_a_tag_moves_back(registry: Registry, repository: str, pushed: Manifest) -> None:
    registry.push(repository, content.image(f"{repository} newer"), "v1")
    registry.push(repository, pushed, "v1")
    assert_kept(registry, repository, "v1", pushed)


def test_the_same_manifest_again(registry: Registry, repository: str, pushed: Manifest) -> None:
    ok(registry.put_manifest(repository, "v1", pushed.data, pushed.media_type), 201)
    assert_kept(registry, repository, "v1", pushed)


def test_the_same_manifest_in_another_repository(
    registry: Registry, repository: str, another: str, pushed: Manifest
) -> None:
    for blob in pushed.blobs:
        ok(registry.begin(another, sources=(repository,), mount=blob.digest, from_=repository), 201)
    ok(registry.put_manifest(another, "v1", pushed.data, pushed.media_type), 201)
    assert_kept(registry, another, "v1", pushed)
    for blob in pushed.blobs:
        assert ok(registry.blob(another, blob.digest), 200).content == blob.data


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_layer_that_nobody_pushed(registry: Registry, repository: str, by: str) -> None:
    image = content.image(repository)
    for blob in image.blobs[:-1]:
        registry.push_blob(repository, blob)
    answer = registry.put_manifest(repository, "v1" if by == "tag" else image.digest, image.data, image.media_type)
    refused(answer, (400, 404), "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN")
    refused(registry.manifest(repository, "v1"), 404, "MANIFEST_UNKNOWN", "NAME_UNKNOWN")


def test_a_configuration_that_nobody_pushed(registry: Registry, repository: str) -> None:
    image = content.image(repository)
    for blob in image.blobs[1:]:
        registry.push_blob(repository, blob)
    answer = registry.put_manifest(repository, "v1", image.data, image.media_type)
    refused(answer, (400, 404), "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN")


def test_another_digest_than_the_manifest_s(registry: Registry, repository: str, pushed: Manifest) -> None:
    wrong = content.digest_of(b"something else")
    refused(registry.put_manifest(repository, wrong, pushed.data, pushed.media_type), 400, "DIGEST_INVALID")
    refused(registry.manifest(repository, wrong), 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'"text"', b"{}", b'{"schemaVersion": 2}', b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_no_manifest_is_refused(target: Target, registry: Registry, repository: str, data: bytes) -> None:
    answer = registry.put_manifest(repository, "v1", data, content.OCI_MANIFEST)
    invalid(target, answer, "MANIFEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "DIGEST_INVALID")
    refused(registry.manifest(repository, "v1"), 404, "MANIFEST_UNKNOWN", "NAME_UNKNOWN")


def test_a_manifest_of_another_type_than_its_header_says(registry: Registry, repository: str, pushed: Manifest) -> None:
    answer = registry.put_manifest(repository, "v2", pushed.data, content.OCI_INDEX)
    refused(answer, 400, "MANIFEST_INVALID")


@pytest.mark.parametrize("change", ["digest", "negative size", "no size"])
def test_a_descriptor_that_cannot_be(
    target: Target, registry: Registry, repository: str, pushed: Manifest, change: str
) -> None:
    document = pushed.document
    descriptor = document["layers"][0]
    if change == "digest":
        descriptor["digest"] = "sha256:short"
    elif change == "negative size":
        descriptor["size"] = -1
    else:
        descriptor["size"] = "many"
    answer = registry.put_manifest(repository, "v2", content.encode(document), pushed.media_type)
    if target.lacks_any(Lack.VALIDATION) and answer.status_code == 201:
        return  # It looks only whether there is such a blob, and stores whatever else is said of it.
    invalid(target, answer, "MANIFEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "DIGEST_INVALID", "SIZE_INVALID")


@pytest.mark.parametrize("tag", ["-v1", ".v1", "v1:v2", "a" * 129])
def test_what_is_no_tag_is_refused(
    target: Target, registry: Registry, repository: str, pushed: Manifest, tag: str
) -> None:
    answer = registry.put_manifest(repository, tag, pushed.data, pushed.media_type)
    invalid(target, answer, "MANIFEST_INVALID", "NAME_INVALID", "TAG_INVALID", "DIGEST_INVALID")


def test_the_longest_tag(registry: Registry, repository: str) -> None:
    image = content.image(repository)
    tag = "V" + "1.2-3_" * 21 + "x"
    assert len(tag) == 128
    registry.push(repository, image, tag)
    assert_kept(registry, repository, tag, image)


def test_an_image_without_layers(registry: Registry, repository: str) -> None:
    image = content.image(repository, layers=0)
    registry.push(repository, image, "none")
    assert_kept(registry, repository, "none", image)


def test_an_image_that_has_a_layer_twice(registry: Registry, repository: str) -> None:
    once = content.image(repository, layers=1)
    layer = once.blobs[1]
    diff_id = json.loads(once.blobs[0].data)["rootfs"]["diff_ids"][0]
    config = content.config([diff_id, diff_id])
    document = {**once.document, "config": config.descriptor(), "layers": [layer.descriptor()] * 2}
    twice = content.manifest(document, (config, layer))
    registry.push(repository, twice, "twice")
    assert_kept(registry, repository, "twice", twice)
    assert ok(registry.blob(repository, layer.digest), 200).content == layer.data


def test_what_the_registry_does_not_know_is_kept(registry: Registry, repository: str) -> None:
    image = content.image(repository, annotations={"org.example.key": "Ä \u2603"}, custom={"nested": [1, 2.50]})
    registry.push(repository, image, "custom")
    assert_kept(registry, repository, "custom", image)


def test_data_within_a_descriptor_is_kept(registry: Registry, repository: str) -> None:
    image = content.image(repository, layers=1)
    document = image.document
    document["config"]["data"] = "e30="
    changed = content.manifest(document, image.blobs)
    registry.push(repository, changed, "data")
    assert_kept(registry, repository, "data", changed)


def test_a_layer_that_is_had_elsewhere_need_not_be_pushed(registry: Registry, repository: str) -> None:
    image = content.image(repository, layers=1)
    elsewhere = Blob(b"never pushed", content.OCI_FOREIGN_LAYER)
    document = image.document
    document["layers"].append(elsewhere.descriptor(urls=["https://layers.example/one"]))
    foreign = content.manifest(document, image.blobs)
    registry.push(repository, foreign, "foreign")
    assert_kept(registry, repository, "foreign", foreign)


def test_an_index_in_an_index(registry: Registry, repository: str) -> None:
    inner = content.index([content.image(f"{repository} inner")])
    outer = content.index([inner, content.image(f"{repository} outer")])
    registry.push(repository, outer, "nested")
    assert_kept(registry, repository, "nested", outer)
    assert_kept(registry, repository, inner.digest, inner)
    assert_kept(registry, repository, inner.children[0].digest, inner.children[0])


def test_an_index_of_manifests_that_nobody_pushed(registry: Registry, repository: str) -> None:
    """The specification leaves it to the registry whether an index may be sparse."""
    present, absent = content.image(f"{repository} present"), content.image(f"{repository} absent")
    registry.push(repository, present)
    index = content.index([present, absent])
    answer = registry.put_manifest(repository, "sparse", index.data, index.media_type)
    if answer.status_code == 201:
        assert_kept(registry, repository, "sparse", index)
    else:
        refused(answer, (400, 404), "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "MANIFEST_INVALID")


def test_an_index_of_nothing(registry: Registry, repository: str) -> None:
    index = content.index([])
    registry.push(repository, index, "empty")
    assert_kept(registry, repository, "empty", index)


def test_two_indexes_share_an_image(registry: Registry, repository: str) -> None:
    shared = content.image(f"{repository} shared")
    first = content.index([shared, content.image(f"{repository} first")])
    second = content.index([shared, content.image(f"{repository} second")])
    registry.push(repository, first, "first")
    # It is there already; clients ask, and do not push it again.
    ok(registry.manifest(repository, shared.digest, "HEAD"), 200)
    registry.push(repository, second.children[1])
    ok(registry.put_manifest(repository, "second", second.data, second.media_type), 201)
    assert_kept(registry, repository, "first", first)
    assert_kept(registry, repository, "second", second)
    assert_kept(registry, repository, shared.digest, shared)


def test_an_artifact(registry: Registry, repository: str) -> None:
    artifact = content.artifact(repository, "application/vnd.example.thing")
    registry.push(repository, artifact, "thing")
    assert_kept(registry, repository, "thing", artifact)
    assert ok(registry.blob(repository, artifact.blobs[1].digest), 200).content == artifact.blobs[1].data


@pytest.mark.parametrize("as_manifest", [True, False], ids=["manifest", "index of blobs"])
def test_a_cache_of_buildkit(registry: Registry, repository: str, as_manifest: bool) -> None:
    cache = content.buildkit_cache(repository, as_manifest=as_manifest)
    for _ in range(2):
        registry.push(repository, cache, "cache")
        assert_kept(registry, repository, "cache", cache)
        for blob in cache.blobs:
            assert ok(registry.blob(repository, blob.digest), 200).content == blob.data


def test_an_index_of_blobs_that_nobody_pushed(registry: Registry, repository: str) -> None:
    cache = content.buildkit_cache(repository, as_manifest=False)
    for blob in cache.blobs[1:]:
        registry.push_blob(repository, blob)
    answer = registry.put_manifest(repository, "cache", cache.data, cache.media_type)
    refused(answer, (400, 404), "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN")


def test_what_was_pushed_by_its_digest_is_pulled_by_who_only_pulls(registry: Registry, repository: str) -> None:
    """As `docker pull NAME@DIGEST` after a build that pushes by digest, before anything has a tag."""
    image = content.image(repository)
    registry.push(repository, image)
    pull, accept = (f"repository:{repository}:pull",), {"Accept": content.ANY_MANIFEST}
    found = ok(registry.call("GET", f"/v2/{repository}/manifests/{image.digest}", scopes=pull, headers=accept), 200)
    assert found.content == image.data
    for blob in image.blobs:
        assert ok(registry.call("GET", f"/v2/{repository}/blobs/{blob.digest}", scopes=pull), 200).content == blob.data


@pytest.mark.parametrize("present", [True, False])
def test_a_manifest_with_a_subject(target: Target, registry: Registry, repository: str, present: bool) -> None:
    subject = content.image(f"{repository} subject")
    if present:
        registry.push(repository, subject, "subject")
    artifact = content.artifact(repository, "application/vnd.example.signature", subject=subject)
    answer = registry.push(repository, artifact)
    if target.lacks_any(Lack.REFERRERS):
        assert "OCI-Subject" not in answer.headers
    else:
        assert answer.headers["OCI-Subject"] == subject.digest
    assert_kept(registry, repository, artifact.digest, artifact)


def test_a_manifest_of_nearly_4_mib(registry: Registry, repository: str) -> None:
    image = content.image(repository, annotations={"padding": "x" * 4_100_000})
    assert len(image.data) < 4 * 1024 * 1024
    registry.push(repository, image, "large")
    assert_kept(registry, repository, "large", image)


def test_a_manifest_beyond_4_mib_is_refused(registry: Registry, repository: str, pushed: Manifest) -> None:
    document = {**pushed.document, "annotations": {"padding": "x" * (4 * 1024 * 1024)}}
    answer = registry.put_manifest(repository, "v2", content.encode(document), pushed.media_type)
    refused(answer, (400, 413), "MANIFEST_INVALID", "SIZE_INVALID")
    refused(registry.manifest(repository, "v2"), 404, "MANIFEST_UNKNOWN")
