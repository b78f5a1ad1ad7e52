"""What is there: tags, referrers, repositories."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from oci import content
from oci.checks import invalid, ok, refused, told
from oci.client import Registry, link_next
from oci.content import Json, Manifest
from oci.people import People
from oci.target import Lack, Target
from openstack.connection import Connection

TAGS = ["1.0", "B", "a", "b", "latest", "v1", "v10", "v2"]
"""In the order of their bytes, which is the specification's lexical one."""


@pytest.fixture
def tagged(registry: Registry, repository: str) -> Manifest:
    image = content.image(repository)
    registry.push(repository, image, *reversed(TAGS))
    return image


def tags_of(target: Target, answer: requests.Response) -> list[str]:
    """The tags of an answer; put in order where the registry does not."""
    tags = ok(answer, 200).json()["tags"]
    return sorted(tags) if target.lacks_any(Lack.TAG_ORDER) else tags


def test_tags_are_listed_in_order(target: Target, registry: Registry, repository: str, tagged: Manifest) -> None:
    answer = ok(registry.tags(repository), 200)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json()["name"] == repository
    assert tags_of(target, answer) == TAGS


def test_so_many_tags(target: Target, registry: Registry, repository: str, tagged: Manifest) -> None:
    answer = registry.tags(repository, n="3")
    assert tags_of(target, answer) == (TAGS if target.lacks_any(Lack.TAG_ORDER) else TAGS[:3])


def test_tags_after_another(target: Target, registry: Registry, repository: str, tagged: Manifest) -> None:
    answer = registry.tags(repository, n="3", last="b")
    assert tags_of(target, answer) == (TAGS if target.lacks_any(Lack.TAG_ORDER) else TAGS[4:7])
    # Where one was deleted meanwhile, the list goes on all the same.
    answer = registry.tags(repository, last="ba")
    assert tags_of(target, answer) == (TAGS if target.lacks_any(Lack.TAG_ORDER) else TAGS[4:])


def test_no_tags_of_many(target: Target, registry: Registry, repository: str, tagged: Manifest) -> None:
    answer = ok(registry.tags(repository, n="0"), 200)
    if not target.lacks_any(Lack.TAG_ORDER):
        assert not answer.json()["tags"]
    assert link_next(answer) is None


def test_the_pages_of_the_tags_make_the_whole(
    target: Target, registry: Registry, repository: str, tagged: Manifest
) -> None:
    answer = registry.tags(repository, n="3")
    found = tags_of(target, answer)
    pages = 1
    while address := link_next(answer):
        answer = registry.call("GET", address, repositories=(repository,))
        found += tags_of(target, answer)
        pages += 1
    assert found == TAGS
    assert pages == (1 if target.lacks_any(Lack.TAG_ORDER) else 3)


@pytest.mark.parametrize("number", ["-1", "many"])
def test_a_number_of_tags_that_is_none(
    target: Target, registry: Registry, repository: str, tagged: Manifest, number: str
) -> None:
    answer = registry.tags(repository, n=number)
    if target.lacks_any(Lack.TAG_ORDER):
        assert tags_of(target, answer) == TAGS
    else:
        # The specification has no code for it; CNCF distribution's is well known.
        ok(answer, 400)


def test_tags_of_a_repository_that_nobody_made(registry: Registry, another: str) -> None:
    refused(registry.tags(another), 404, "NAME_UNKNOWN")


def test_what_was_pushed_by_digest_only_has_no_tag(registry: Registry, repository: str, pushed: Manifest) -> None:
    registry.push(repository, content.image(f"{repository} untagged"))
    assert ok(registry.tags(repository), 200).json()["tags"] == ["v1"]


# ---------------------------------------------------------------- referrers


def descriptors(registry: Registry, repository: str, digest: str, **query: str) -> list[Json]:
    answer = ok(registry.referrers(repository, digest, **query), 200)
    assert answer.headers["Content-Type"] == content.OCI_INDEX, told(answer)
    document = answer.json()
    assert (document["schemaVersion"], document["mediaType"]) == (2, content.OCI_INDEX), told(answer)
    return list(document["manifests"])


@pytest.fixture
def referrers(registry: Registry, repository: str, pushed: Manifest) -> list[Manifest]:
    """Two signatures and a document that refer to the image, of whose types one is its configuration's."""
    made = [
        content.artifact("one", "application/vnd.example.signature", subject=pushed, annotations={"signer": "one"}),
        content.artifact("two", "application/vnd.example.signature", subject=pushed),
        content.artifact("three", None, subject=pushed, config_type="application/vnd.example.document+json"),
    ]
    for manifest in made:
        registry.push(repository, manifest)
    return made


def test_referrers_of_an_image(
    target: Target, registry: Registry, repository: str, pushed: Manifest, referrers: list[Manifest]
) -> None:
    if target.lacks_any(Lack.REFERRERS):
        ok(registry.referrers(repository, pushed.digest), 404)
        return
    found = {entry["digest"]: entry for entry in descriptors(registry, repository, pushed.digest)}
    assert set(found) == {manifest.digest for manifest in referrers}
    for manifest in referrers:
        entry = found[manifest.digest]
        assert (entry["mediaType"], entry["size"]) == (content.OCI_MANIFEST, len(manifest.data))
    one, two, three = (found[manifest.digest] for manifest in referrers)
    assert one["artifactType"] == two["artifactType"] == "application/vnd.example.signature"
    assert three["artifactType"] == "application/vnd.example.document+json"
    assert one["annotations"] == {"signer": "one"}


def test_referrers_of_one_type(
    target: Target, registry: Registry, repository: str, pushed: Manifest, referrers: list[Manifest]
) -> None:
    wanted = {"artifactType": "application/vnd.example.signature"}
    if target.lacks_any(Lack.REFERRERS):
        ok(registry.referrers(repository, pushed.digest, **wanted), 404)
        return
    answer = ok(registry.referrers(repository, pushed.digest, **wanted), 200)
    found = {entry["digest"] for entry in answer.json()["manifests"]}
    if "OCI-Filters-Applied" in answer.headers:
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"
        assert found == {manifest.digest for manifest in referrers[:2]}
    else:
        assert found == {manifest.digest for manifest in referrers}


def test_an_image_that_nothing_refers_to(target: Target, registry: Registry, repository: str, pushed: Manifest) -> None:
    for digest in (pushed.digest, content.digest_of(b"never pushed")):
        if target.lacks_any(Lack.REFERRERS):
            ok(registry.referrers(repository, digest), 404)
        else:
            assert descriptors(registry, repository, digest) == []


def test_referrers_of_an_image_that_is_not_there_yet(target: Target, registry: Registry, repository: str) -> None:
    subject = content.image(f"{repository} later")
    early = content.artifact(repository, "application/vnd.example.signature", subject=subject)
    registry.push(repository, early)
    if target.lacks_any(Lack.REFERRERS):
        ok(registry.referrers(repository, subject.digest), 404)
        return
    assert [entry["digest"] for entry in descriptors(registry, repository, subject.digest)] == [early.digest]
    registry.push(repository, subject, "v1")
    assert [entry["digest"] for entry in descriptors(registry, repository, subject.digest)] == [early.digest]


def test_a_referrer_may_be_an_image_or_an_index(
    target: Target, registry: Registry, repository: str, pushed: Manifest
) -> None:
    subject = pushed.descriptor()
    image = content.image(f"{repository} image", subject=subject)
    index = content.index([], subject=subject, artifactType="application/vnd.example.index")
    for manifest in (image, index):
        registry.push(repository, manifest)
    if target.lacks_any(Lack.REFERRERS):
        ok(registry.referrers(repository, pushed.digest), 404)
        return
    found = {entry["digest"]: entry["artifactType"] for entry in descriptors(registry, repository, pushed.digest)}
    assert found == {image.digest: content.OCI_CONFIG, index.digest: "application/vnd.example.index"}


def test_a_referrer_within_an_index_is_found_and_outlives_the_index(
    target: Target, registry: Registry, repository: str, pushed: Manifest
) -> None:
    referrer = content.artifact(repository, "application/vnd.example.signature", subject=pushed)
    index = content.index([referrer, content.image(f"{repository} beside")])
    registry.push(repository, index, "multi")
    if target.lacks_any(Lack.REFERRERS):
        ok(registry.referrers(repository, pushed.digest), 404)
        return
    assert [entry["digest"] for entry in descriptors(registry, repository, pushed.digest)] == [referrer.digest]
    ok(registry.delete_manifest(repository, index.digest), 202)
    assert [entry["digest"] for entry in descriptors(registry, repository, pushed.digest)] == [referrer.digest]
    assert ok(registry.manifest(repository, referrer.digest), 200).content == referrer.data


def test_a_deleted_referrer_is_no_longer_listed(
    target: Target, registry: Registry, repository: str, pushed: Manifest, referrers: list[Manifest]
) -> None:
    ok(registry.delete_manifest(repository, referrers[0].digest), 202)
    if target.lacks_any(Lack.REFERRERS):
        ok(registry.referrers(repository, pushed.digest), 404)
        return
    found = {entry["digest"] for entry in descriptors(registry, repository, pushed.digest)}
    assert found == {manifest.digest for manifest in referrers[1:]}


def test_referrers_of_what_is_no_digest(target: Target, registry: Registry, repository: str, pushed: Manifest) -> None:
    answer = registry.referrers(repository, "sha256:12")
    if target.lacks_any(Lack.REFERRERS):
        ok(answer, 404)
    else:
        invalid(target, answer, "DIGEST_INVALID", "MANIFEST_INVALID")


def test_clients_may_keep_a_list_of_referrers_under_the_fallback_tag(
    registry: Registry, repository: str, pushed: Manifest
) -> None:
    """What clients do where an answer has no OCI-Subject, and what old lists look like."""
    referrer = content.artifact(repository, "application/vnd.example.signature", subject=pushed)
    registry.push(repository, referrer)
    entry = referrer.descriptor(artifactType="application/vnd.example.signature")
    document = {"schemaVersion": 2, "mediaType": content.OCI_INDEX, "manifests": [entry]}
    fallback = content.manifest(document)
    tag = pushed.digest.replace(":", "-")
    ok(registry.put_manifest(repository, tag, fallback.data, fallback.media_type), 201)
    assert ok(registry.manifest(repository, tag), 200).content == fallback.data
    ok(registry.manifest(repository, referrer.digest), 200)


# ---------------------------------------------------------------- repositories


def catalog(client: Registry, length: int) -> list[str]:
    """All of it, in pages of this length."""
    found, address = [], f"/v2/_catalog?n={length}"
    for _ in range(1000):
        answer = ok(client.call("GET", address, scopes=("registry:catalog:*",)), 200)
        page = answer.json()["repositories"]
        assert len(page) <= length
        found += page
        if (following := link_next(answer)) is None:
            break
        address = following
    return found


def test_the_catalog_lists_the_repository(registry: Registry, repository: str, pushed: Manifest) -> None:
    """It is not of the specification, but clients know it."""
    found = catalog(registry, 50)
    assert repository in found
    assert len(found) == len(set(found))


@pytest.mark.cloud
def test_the_catalog_has_all_projects_of_a_user(
    target: Target, people: People, owner: Connection, name_of: Callable[[str], str], repository: str, pushed: Manifest
) -> None:
    """However many: a token has room for the Keystone tokens of a few."""
    user = people.make(name_of("busy"))
    other = people.make(name_of("other"))
    more = {name: people.make_project(name) for name in (name_of("more") for _ in range(9))}
    for project_id in (owner.current_project_id, other.project_id, *more.values()):
        people.admit(user.user_id, project_id)
    client = user.at(target)
    names = [f"{project}/mine" for project in (user.name, other.name, *more)]
    for name in names:
        client.push(name, content.image(name), "v1")
    for length in (1000, 3):
        found = catalog(client, length)
        assert found == sorted(set(found))
        assert {*names, repository} <= set(found)
    # Who has one of these projects only sees that one.
    found = catalog(other.at(target), 1000)
    assert names[1] in found
    assert not {names[0], *names[2:], repository} & set(found)
    client.take_away()
