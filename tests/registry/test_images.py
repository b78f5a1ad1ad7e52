"""What a push makes in Glance, what of Glance can be pulled, and what of it runs."""

from __future__ import annotations

import json
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.archives import Archive
from harness.lab import Lab
from harness.servers import Json, Servers
from harness.waiting import eventually
from oci import cloud, content, pictures
from oci.checks import ok
from oci.client import Registry
from oci.cloud import Image
from oci.commands import Command
from oci.content import Blob, Manifest
from oci.target import Target
from openstack.connection import Connection

pytestmark = pytest.mark.cloud

Glance = Callable[[], dict[str, Image]]


def of(glance_images: Glance, repository: str) -> list[Image]:
    """The images of a repository, by their names."""
    stem = repository.partition("/")[2]
    return [image for image in glance_images().values() if (image["name"] or "").startswith(stem)]


@pytest.fixture
def tiny(lab: Lab) -> Archive:
    """The archive of the image `tiny`, which boots."""
    return Archive.read(lab.tiny_archive)


# ---------------------------------------------------------------- from the registry to Glance


def test_a_pushed_image_is_one_image_of_its_project(
    owner: Connection, glance_images: Glance, repository: str, pushed: Manifest
) -> None:
    [image] = of(glance_images, repository)
    assert image["name"] == f"{repository.partition('/')[2]}:v1"
    assert (image["container_format"], image["disk_format"]) == ("docker", "raw")
    assert (image["status"], image["visibility"]) in (("active", "private"), ("active", "shared"))
    assert image["owner"] == owner.current_project_id
    assert not image["os_hidden"]
    assert image["size"] > sum(len(blob.data) for blob in pushed.blobs)


def test_another_tag_of_the_same_manifest_is_no_other_image(
    registry: Registry, glance_images: Glance, repository: str, pushed: Manifest
) -> None:
    ok(registry.put_manifest(repository, "v2", pushed.data, pushed.media_type), 201)
    ok(registry.put_manifest(repository, "v3", pushed.data, pushed.media_type), 201)
    assert len(of(glance_images, repository)) == 1
    assert ok(registry.tags(repository), 200).json()["tags"] == ["v1", "v2", "v3"]


def test_the_last_tag_takes_its_image_along(
    registry: Registry, glance_images: Glance, repository: str, pushed: Manifest
) -> None:
    ok(registry.put_manifest(repository, "v2", pushed.data, pushed.media_type), 201)
    ok(registry.delete_manifest(repository, "v1"), 202)
    assert len(of(glance_images, repository)) == 1
    ok(registry.delete_manifest(repository, "v2"), 202)
    assert of(glance_images, repository) == []


def test_an_index_and_its_manifests_are_one_image(registry: Registry, glance_images: Glance, repository: str) -> None:
    index = content.index([content.image(f"{repository}{n}") for n in range(3)])
    for child in index.children:
        registry.push(repository, child)
    assert of(glance_images, repository) == [], "what nothing names is no image"
    ok(registry.put_manifest(repository, "multi", index.data, index.media_type), 201)
    [image] = of(glance_images, repository)
    assert image["name"].endswith(":multi")
    for child in index.children:
        assert ok(registry.manifest(repository, child.digest), 200).content == child.data


def test_a_signature_is_an_image_when_what_it_signs_is_one(
    registry: Registry, glance_images: Glance, repository: str
) -> None:
    stem, image = repository.partition("/")[2], content.image(repository)
    early, late = (
        content.artifact(f"{repository}{n}", "application/vnd.example.signature", subject=image) for n in "12"
    )
    registry.push(repository, early)
    assert of(glance_images, repository) == []
    registry.push(repository, image, "v1")
    names = [f"{stem}:v1", f"{stem}@{early.digest}"]
    assert sorted(image["name"] for image in of(glance_images, repository)) == names
    registry.push(repository, late)
    hidden = {image["name"]: image["os_hidden"] for image in of(glance_images, repository)}
    assert hidden == {f"{stem}:v1": False, f"{stem}@{early.digest}": True, f"{stem}@{late.digest}": True}
    for signature in (early, late):
        assert ok(registry.manifest(repository, signature.digest), 200).content == signature.data


@pytest.mark.parametrize("as_manifest", [True, False], ids=["manifest", "index of blobs"])
def test_a_cache_of_buildkit_is_not_offered_for_launches(
    registry: Registry, glance_images: Glance, repository: str, as_manifest: bool
) -> None:
    registry.push(repository, content.buildkit_cache(repository, as_manifest=as_manifest), "cache")
    [image] = of(glance_images, repository)
    assert image["os_hidden"]


def test_what_cannot_run_is_not_offered_for_launches(
    registry: Registry, owner: Connection, glance_images: Glance, repository: str
) -> None:
    artifact = content.artifact(repository, "application/vnd.example.thing")
    registry.push(repository, artifact, "thing")
    [image] = of(glance_images, repository)
    assert image["os_hidden"]
    assert image["id"] not in {shown.id for shown in owner.image.images()}
    assert ok(registry.manifest(repository, "thing"), 200).content == artifact.data


def test_what_others_change_in_glance_is_seen(
    registry: Registry, owner: Connection, glance_images: Glance, repository: str, pushed: Manifest
) -> None:
    """Glance is the only store: users may rename, tag and delete there."""
    [image] = of(glance_images, repository)
    stem = repository.partition("/")[2]
    owner.image.add_tag(image["id"], f"{stem}:alias")
    eventually(lambda: registry.manifest(repository, "alias").status_code == 200, "the alias", 240)
    assert ok(registry.tags(repository), 200).json()["tags"] == ["alias", "v1"]
    owner.image.update_image(image["id"], name=f"{stem}:renamed")
    eventually(lambda: registry.manifest(repository, "v1").status_code == 404, "v1 gone", 240)
    assert ok(registry.manifest(repository, "renamed"), 200).content == pushed.data
    owner.image.delete_image(image["id"])
    eventually(lambda: registry.manifest(repository, "renamed").status_code == 404, "renamed gone", 240)


def test_the_stored_archive_is_an_oci_layout_that_docker_loads(
    owner: Connection, glance_images: Glance, docker: Command, repository: str, pushed: Manifest, tmp_path: Path
) -> None:
    [image] = of(glance_images, repository)
    archive_file = tmp_path / "image.tar"
    archive_file.write_bytes(owner.image.get(f"/images/{image['id']}/file").content)
    with tarfile.open(archive_file) as archive:
        names = archive.getnames()
        layout = json.load(archive.extractfile("oci-layout"))  # type: ignore[arg-type]
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    assert layout["imageLayoutVersion"] == "1.0.0"
    assert index["manifests"][0]["digest"] == pushed.digest
    blobs = [name for name in names if name.startswith("blobs/sha256/") and name != "blobs/sha256/"]
    assert sorted(blobs) == sorted("blobs/sha256/" + blob.digest.partition(":")[2] for blob in (pushed, *pushed.blobs))
    assert "Loaded image" in docker("load", "--input", archive_file)
    assert docker("images", "--quiet", "--no-trunc") == pushed.blobs[0].digest


def test_what_was_just_pushed_is_pulled_without_being_read_from_glance(
    lab: Lab, registry: Registry, owner: Connection, glance_images: Glance, repository: str, pushed: Manifest
) -> None:
    [image] = of(glance_images, repository)
    log = lab.log("glance")
    ok(registry.manifest(repository, "v1"), 200)
    # Glance writes a line after its answer.
    before = eventually(lambda: cloud.reads(log, image["id"]), "the line of the read for the manifest", 240)
    for blob in pushed.blobs:
        assert ok(registry.blob(repository, blob.digest), 200).content == blob.data
    # The line of a last read comes last.
    request_id = f"req-{uuid.uuid4()}"
    last = owner.image.get(f"/images/{image['id']}/file", headers={"X-OpenStack-Request-Id": request_id})
    assert last.status_code == 200
    eventually(lambda: f"rid={request_id}" in log.read_text(errors="replace"), "the line of the last read", 240)
    assert cloud.reads(log, image["id"]) == before + 1


@pytest.mark.parametrize("query", ["name=eq:{stem}:v1", "tag={stem}:v2", "oci_repository={stem}"])
def test_an_image_is_looked_up_in_glance_as_the_readme_says(
    registry: Registry, owner: Connection, repository: str, another: str, query: str
) -> None:
    stem = repository.partition("/")[2]
    registry.push(repository, content.image(repository), "v1", "v2")
    registry.push(another, content.image(another), "v1", "v2")
    found = ok(owner.image.get(f"/images?{query.format(stem=stem)}"), 200).json()["images"]
    assert [image["name"] for image in found] == [f"{stem}:v1"]


# ---------------------------------------------------------------- from Glance to the registry


def test_a_saved_image_is_pulled_by_its_name_and_by_its_id(
    target: Target,
    registry: Registry,
    upload: Callable[..., str],
    tiny: Archive,
    docker: Command,
    name_of: Callable[[str], str],
) -> None:
    stem = name_of("saved")
    image_id = upload(stem, tiny.running("/bin/sh", "-c", "echo saved").tar())
    assert ok(registry.tags(f"{target.namespace}/{stem}"), 200).json()["tags"] == ["latest"]
    for name in (stem, image_id):
        docker("pull", f"{target.host}/{target.namespace}/{name}")
        assert docker("run", "--rm", "--network=none", f"{target.host}/{target.namespace}/{name}") == "saved"


def test_the_newest_of_several_images_with_one_name_is_pulled(
    target: Target,
    registry: Registry,
    upload: Callable[..., str],
    tiny: Archive,
    name_of: Callable[[str], str],
    lab: Lab,
) -> None:
    stem = name_of("twice")
    name = f"{target.namespace}/{stem}"
    older = upload(stem, tiny.running("/old").tar())
    old = ok(registry.manifest(name, "latest"), 200)
    # Glance's time has whole seconds, and the next image comes within this one.
    lab.sql("UPDATE glance.images SET created_at = created_at - INTERVAL 1 MINUTE WHERE id = %(id)s", {"id": older})
    upload(stem, tiny.running("/new").tar())
    eventually(lambda: registry.manifest(name, "latest").content != old.content, "the newer image", 240)
    new = ok(registry.manifest(name, "latest"), 200)
    config = ok(registry.blob(name, new.json()["config"]["digest"]), 200).json()
    assert config["config"]["Cmd"] == ["/new"]
    # The older one is still there by its digest.
    assert ok(registry.manifest(name, old.headers["Docker-Content-Digest"]), 200).content == old.content


def test_an_image_that_is_no_archive_fails_by_itself(
    target: Target, registry: Registry, upload: Callable[..., str], tiny: Archive, name_of: Callable[[str], str]
) -> None:
    stem = name_of("bad")
    good = tiny.running("/good").tar()
    bad: dict[str, bytes] = {
        "noise": b"this is no archive" * 1000,
        "truncated": good[: len(good) // 2],
        "wrong": tiny.with_wrong_digest().tar(),
        "missing": tiny.with_missing_layer().tar(),
        "zeros": bytes(100_000),
    }
    for kind, data in bad.items():
        upload(f"{stem}:{kind}", data)
    upload(f"{stem}:good", good)
    name = f"{target.namespace}/{stem}"
    for kind in bad:
        answer = registry.manifest(name, kind)
        if answer.status_code == 200:
            # What is wrong is found when the layer is read, and not served.
            layers = [layer["digest"] for layer in answer.json()["layers"]]
            whole = []
            for digest in layers:
                try:
                    part = registry.blob(name, digest)
                    whole.append(part.status_code == 200 and content.digest_of(part.content) == digest)
                except OSError:
                    whole.append(False)
            assert not all(whole), kind
        else:
            assert answer.status_code in (400, 404, 422, 500, 502, 503), kind
            assert answer.headers["Content-Type"].startswith("application/json")
    answer = ok(registry.manifest(name, "good"), 200)
    for layer in answer.json()["layers"]:
        assert content.digest_of(ok(registry.blob(name, layer["digest"]), 200).content) == layer["digest"]


def test_properties_that_lie_harm_their_own_image_only(
    target: Target,
    registry: Registry,
    upload: Callable[..., str],
    tiny: Archive,
    name_of: Callable[[str], str],
    repository: str,
    pushed: Manifest,
) -> None:
    stem = repository.partition("/")[2]
    victim = pushed.blobs[-1].digest
    lies = {
        "oci_repository": stem,
        "oci_digest": pushed.digest,
        "oci_media_type": "text/html",
        "oci_subject": "nonsense",
        "oci_blobs": json.dumps({victim: [0, 1_000_000_000_000], pushed.digest: [-1, 5], "x": 1}),
    }
    upload(f"{stem}:lie", tiny.running("/lie").tar(), **lies)
    upload(f"{stem}:junk", tiny.running("/junk").tar(), oci_blobs="[" * 60_000, oci_digest="\u2603")
    assert ok(registry.manifest(repository, "v1"), 200).content == pushed.data
    assert ok(registry.manifest(repository, pushed.digest), 200).content == pushed.data
    for blob in pushed.blobs:
        assert ok(registry.blob(repository, blob.digest), 200).content == blob.data
    for tag in ("lie", "junk"):
        answer = registry.manifest(repository, tag)
        if answer.status_code == 200:
            assert content.digest_of(answer.content) == answer.headers["Docker-Content-Digest"]


# ---------------------------------------------------------------- and to run


@pytest.fixture
def servers(lab: Lab, owner: Connection) -> Servers:
    return Servers(owner, lab.side("agent"), lab)


@pytest.fixture
def launch(servers: Servers, name_of: Callable[[str], str]) -> Iterator[Callable[[str], Json]]:
    """A server that is ACTIVE, until the end of the test."""
    made: list[str] = []

    def one(image_id: str) -> Json:
        made.append(servers.create(name_of("server"), image=image_id)["id"])
        return servers.wait(made[-1], "ACTIVE", 240)

    yield one
    for server_id in made:
        servers.delete(server_id)
        servers.wait_gone(server_id)


def test_a_pushed_image_is_launched_as_a_server(
    target: Target,
    registry: Registry,
    glance_images: Glance,
    servers: Servers,
    launch: Callable[[str], Json],
    docker: Command,
    repository: str,
    tmp_path: Path,
) -> None:
    context = pictures.build_context(tmp_path / "context", "said by a pushed image\n")
    with (context / "Dockerfile").open("a") as dockerfile:
        dockerfile.write('CMD ["/bin/busybox", "sh", "-c", "/bin/busybox cat /text; exec /bin/busybox sleep 3600"]\n')
    name = f"{target.host}/{repository}:v1"
    docker("build", "-t", name, context)
    docker("push", name)
    registry.manifests.append(
        (repository, docker("inspect", "--format", "{{index .RepoDigests 0}}", name).partition("@")[2])
    )
    [image] = of(glance_images, repository)
    server = launch(image["id"])
    eventually(lambda: "said by a pushed image" in servers.console(server["id"]), "its console log", 240)


def test_an_index_for_several_levels_of_a_processor_with_zstd_layers_is_launched(
    registry: Registry,
    glance_images: Glance,
    servers: Servers,
    launch: Callable[[str], Json],
    tiny: Archive,
    repository: str,
) -> None:
    layers = [Blob(_zstd(layer), "application/vnd.oci.image.layer.v1.tar+zstd") for layer in tiny.layers.values()]
    children, entries = [], []
    for variant in ("", "v1", "v999"):
        config = tiny.running("sh", "-c", f"echo level=[{variant}]; exec sleep 9999").config
        configuration = Blob(json.dumps(config).encode(), content.OCI_CONFIG)
        document = {
            "schemaVersion": 2,
            "mediaType": content.OCI_MANIFEST,
            "config": configuration.descriptor(),
            "layers": [layer.descriptor() for layer in layers],
        }
        child = content.manifest(document, (configuration, *layers))
        platform = {"os": "linux", "architecture": content.own_architecture(), "variant": variant}
        entries.append(child.descriptor(platform=platform))
        children.append(child)
    index = {"schemaVersion": 2, "mediaType": content.OCI_INDEX, "manifests": entries}
    registry.push(repository, content.manifest(index, children=tuple(children)), "levels")
    [image] = of(glance_images, repository)
    server = launch(image["id"])
    eventually(lambda: "level=[]" in servers.console(server["id"]), "its console log", 240)


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


def test_a_snapshot_of_a_server_is_pulled_with_docker(
    target: Target,
    lab: Lab,
    owner: Connection,
    servers: Servers,
    launch: Callable[[str], Json],
    docker: Command,
    name_of: Callable[[str], str],
) -> None:
    server = launch("tiny")
    lab.docker("exec", f"nova-{server['id']}", "/bin/sh", "-c", "echo written in the server > /root/note")
    stem = name_of("snapshot")
    image_id = servers.action(server["id"], "createImage", {"name": stem})["image_id"]
    try:
        eventually(lambda: owner.image.get_image(image_id).status == "active", "the snapshot active", 240)
        servers.wait_idle(server["id"])
        name = f"{target.host}/{target.namespace}/{stem}"
        docker("pull", name)
        shown = docker("run", "--rm", "--network=none", "--entrypoint=/bin/cat", name, "/root/note")
        assert shown == "written in the server"
    finally:
        owner.image.delete_image(image_id, ignore_missing=True)
