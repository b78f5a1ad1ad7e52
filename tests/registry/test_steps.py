"""A registry that is killed (SIGKILL) before each step of a change, one by one.

Each time its next start has what was there before, or what was to come, and the client that tries again has it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
from harness.steps import Steps
from harness.waiting import eventually
from oci import content, process
from oci.checks import ok
from oci.client import Registry
from oci.cloud import Image
from oci.content import Manifest

pytestmark = [pytest.mark.cloud, pytest.mark.full]

Glance = Callable[[], dict[str, Image]]
RunOwn = Callable[..., AbstractContextManager[process.Own]]


@dataclasses.dataclass
class Round:
    """One repository, in which one change is cut off at one step."""

    client: Registry
    repository: str
    glance_images: Glance

    def image(self, seed: str) -> Manifest:
        return content.image(f"{self.repository} {seed}", layers=1)

    def put(self, reference: str, manifest: Manifest) -> requests.Response:
        return self.client.put_manifest(self.repository, reference, manifest.data, manifest.media_type)

    def push_blobs(self, manifest: Manifest) -> None:
        for blob in manifest.blobs:
            self.client.push_blob(self.repository, blob)

    def is_whole(self, reference: str, *manifests: Manifest) -> bool:
        """Whether a pull gets one of these, with all its blobs; False where it gets nothing."""
        answer = ok(self.client.manifest(self.repository, reference), 200, 404)
        if answer.status_code == 404:
            return False
        [manifest] = [manifest for manifest in manifests if manifest.data == answer.content]
        for blob in manifest.blobs:
            assert ok(self.client.blob(self.repository, blob.digest), 200).content == blob.data
        return True

    def images(self) -> list[Image]:
        """The repository's images in Glance."""
        stem = self.repository.partition("/")[2]
        names = (f"{stem}:", f"{stem}@")
        return [image for image in self.glance_images().values() if (image["name"] or "").startswith(names)]

    def with_tag(self, tag: str) -> int:
        """How many images have the tag."""
        name = f"{self.repository.partition('/')[2]}:{tag}"
        return sum(name in (image["name"], *image["tags"]) for image in self.images())

    def settles(self, tags: range) -> None:
        """Every image is complete, and so many have the tag `v1`: the registry sees to it when it has started."""
        eventually(
            lambda: all(image["status"] == "active" for image in self.images()) and self.with_tag("v1") in tags,
            f"whole images, of which {tags} have the tag",
            240,
        )


class FirstPush:
    """An image, by a tag that nothing has."""

    def prepare(self, round_: Round) -> None:
        self.new = round_.image("new")
        round_.push_blobs(self.new)

    def change(self, round_: Round) -> requests.Response:
        return round_.put("v1", self.new)

    def check(self, round_: Round) -> None:
        round_.settles(range(2))
        assert round_.is_whole("v1", self.new) == (round_.with_tag("v1") == 1)

    def check_done(self, round_: Round) -> None:
        assert round_.is_whole("v1", self.new)
        assert round_.with_tag("v1") == 1


class PushByDigest(FirstPush):
    """An image that nothing names."""

    def change(self, round_: Round) -> requests.Response:
        return round_.put(self.new.digest, self.new)

    def check(self, round_: Round) -> None:
        round_.is_whole(self.new.digest, self.new)
        assert round_.images() == []

    def check_done(self, round_: Round) -> None:
        assert round_.is_whole(self.new.digest, self.new)
        assert round_.images() == []


class Retag(FirstPush):
    """An image, by the tag of another one."""

    def prepare(self, round_: Round) -> None:
        self.old = round_.image("old")
        round_.client.push(round_.repository, self.old, "v1")
        super().prepare(round_)

    def check(self, round_: Round) -> None:
        assert round_.is_whole("v1", self.old, self.new), "nothing has the tag"
        round_.settles(range(1, 2))
        assert round_.is_whole("v1", self.old, self.new)
        assert round_.is_whole(self.old.digest, self.old), "the old image is lost"

    def check_done(self, round_: Round) -> None:
        super().check_done(round_)
        assert round_.is_whole(self.old.digest, self.old), "the old image is lost"


class RetagOfAnImage(Retag):
    """The tag of an image, for another one that is there already."""

    def prepare(self, round_: Round) -> None:
        super().prepare(round_)
        ok(round_.put("v2", self.new), 201)


class IndexPush(FirstPush):
    """An index and its images, of which the client has pushed all but the index."""

    def prepare(self, round_: Round) -> None:
        self.children = [round_.image(seed) for seed in ("one", "two")]
        for child in self.children:
            round_.client.push(round_.repository, child)
        self.new = content.index(self.children)

    def check(self, round_: Round) -> None:
        for child in self.children:
            assert round_.is_whole(child.digest, child), "an image of the index is lost"
        super().check(round_)

    def check_done(self, round_: Round) -> None:
        super().check_done(round_)
        assert [image["name"].partition(":")[2] for image in round_.images()] == ["v1"]
        for child in self.children:
            assert round_.is_whole(child.digest, child)


class SignedPush(FirstPush):
    """An image whose signature came first, and becomes one with it."""

    def prepare(self, round_: Round) -> None:
        super().prepare(round_)
        self.signature = content.artifact(round_.repository, "application/vnd.example.signature", subject=self.new)
        round_.client.push(round_.repository, self.signature)

    def check(self, round_: Round) -> None:
        assert round_.is_whole(self.signature.digest, self.signature), "the signature is lost"
        super().check(round_)

    def check_done(self, round_: Round) -> None:
        super().check_done(round_)
        assert round_.is_whole(self.signature.digest, self.signature)
        assert len(round_.images()) == 2


class Delete:
    """An image, by its last tag or by its digest."""

    def __init__(self, *tags: str, by_digest: bool = False) -> None:
        self.tags, self.by_digest = tags, by_digest

    def prepare(self, round_: Round) -> None:
        self.image = round_.image("doomed")
        round_.client.push(round_.repository, self.image, *self.tags)

    def change(self, round_: Round) -> requests.Response:
        reference = self.image.digest if self.by_digest else "v1"
        return round_.client.delete_manifest(round_.repository, reference)

    def check(self, round_: Round) -> None:
        round_.settles(range(2))
        assert round_.is_whole("v1", self.image) == (round_.with_tag("v1") == 1)

    def check_done(self, round_: Round) -> None:
        assert not round_.is_whole("v1", self.image)
        others = self.tags[1:] if not self.by_digest else ()
        assert [round_.is_whole(tag, self.image) for tag in others] == [True] * len(others)
        assert len(round_.images()) == bool(others)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return Steps(tmp_path_factory.mktemp("steps"))


@pytest.mark.parametrize(
    ("make", "least"),
    [
        pytest.param(FirstPush, 8, id="first"),
        pytest.param(PushByDigest, 1, id="by-digest"),
        pytest.param(Retag, 8, id="retag"),
        pytest.param(RetagOfAnImage, 4, id="retag-of-an-image"),
        pytest.param(IndexPush, 8, id="index"),
        pytest.param(SignedPush, 12, id="signed"),
        pytest.param(lambda: Delete("v1"), 1, id="delete-last-tag"),
        pytest.param(lambda: Delete("v1", "v2"), 1, id="delete-tag"),
        pytest.param(lambda: Delete("v1", by_digest=True), 1, id="delete-digest"),
    ],
)
def test_a_registry_that_is_killed_before_any_step_has_the_old_or_the_new(
    run_own: RunOwn,
    tmp_path: Path,
    glance_images: Glance,
    repository: str,
    steps: Steps,
    make: Callable[[], FirstPush | Delete],
    least: int,
) -> None:
    with run_own(tmp_path, steps=steps) as own:
        client = Registry(own.target)
        try:
            for number in itertools.count(1):
                change, round_ = make(), Round(client, f"{repository}-{number}", glance_images)
                change.prepare(round_)
                if not is_killed(own, steps, number, functools.partial(change.change, round_)):
                    change.check_done(round_)
                    break
                own.start()
                change.check(round_)
                ok(change.change(round_), 201, 202, 404)
                change.check_done(round_)
                client.take_away()
        finally:
            client.take_away()
        assert number > least, "the steps are not seen"


def test_a_manifest_that_the_disk_has_not_taken_is_not_acknowledged(
    tmp_path: Path, run_own: RunOwn, repository: str, steps: Steps
) -> None:
    with run_own(tmp_path, steps=steps) as own:
        client = Registry(own.target)
        manifest = content.image(repository, layers=1)
        for blob in manifest.blobs:
            client.push_blob(repository, blob)
        put = functools.partial(client.put_manifest, repository, manifest.digest, manifest.data, manifest.media_type)
        steps.keep_nothing()
        refused = put()
        steps.kill_at(0)
        ok(refused, 500, 503)
        ok(client.manifest(repository, manifest.digest), 404)
        ok(put(), 201)
        ok(client.manifest(repository, manifest.digest), 200)
        client.take_away()


def is_killed(own: process.Own, steps: Steps, number: int, change: Callable[[], requests.Response]) -> bool:
    """Makes the change, without the step of this number. Whether it has so many steps: then the registry is killed."""
    steps.kill_at(number)
    try:
        ok(change(), 201, 202)
    except OSError:
        assert own.process is not None
        own.process.wait(240)
        return True
    steps.kill_at(0)
    return False
