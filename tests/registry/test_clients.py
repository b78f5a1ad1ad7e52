"""The clients that people use: what they push comes back, from the registry alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci import commands, content, pictures
from oci.checks import ok
from oci.client import Registry
from oci.commands import Command
from oci.target import Target

pytestmark = pytest.mark.clients


@pytest.fixture(autouse=True)
def clear(registry: Registry, repository: str, another: str) -> Iterator[None]:
    """What clients pushed is deleted too."""
    yield
    for name in (repository, another):
        answer = ok(registry.tags(name), 200, 404)
        for tag in (answer.json().get("tags") or []) if answer.status_code == 200 else []:
            found = registry.manifest(name, tag, "HEAD")
            if found.status_code == 200:
                ok(registry.delete_manifest(name, found.headers["Docker-Content-Digest"]), 202, 404)


# ---------------------------------------------------------------- Docker


def test_docker_pushes_and_pulls_what_it_built(
    target: Target, docker: Command, repository: str, tmp_path: Path
) -> None:
    name = f"{target.host}/{repository}"
    docker(
        "build", "-t", f"{name}:v1", pictures.build_context(tmp_path / "context", "built by docker", padding=300_000)
    )
    docker("push", f"{name}:v1")
    digest = docker("inspect", "--format", "{{index .RepoDigests 0}}", f"{name}:v1").partition("@")[2]
    image_id = docker("inspect", "--format", "{{.Id}}", f"{name}:v1")
    for reference in (f"{name}:v1", f"{name}@{digest}"):
        commands.forget_images(docker)
        docker("pull", reference)
        assert docker("inspect", "--format", "{{.Id}}", reference) == image_id
        assert docker("run", "--rm", "--network=none", reference) == "built by docker"


def test_docker_pushes_a_layer_once(
    target: Target, docker: Command, repository: str, another: str, tmp_path: Path
) -> None:
    name = f"{target.host}/{repository}"
    docker("build", "-t", f"{name}:v1", pictures.build_context(tmp_path / "one", "one"))
    docker("push", f"{name}:v1")
    docker("build", "-t", f"{name}:v2", pictures.build_context(tmp_path / "two", "two", base=f"{name}:v1"))
    said = docker("push", f"{name}:v2")
    assert said.count("Layer already exists") == 2, said
    assert said.count("Pushed") == 1, said
    # Into another repository they are mounted, or known already.
    docker("tag", f"{name}:v2", f"{target.host}/{another}:v2")
    said = docker("push", f"{target.host}/{another}:v2")
    assert said.count(f"Mounted from {repository}") + said.count("Layer already exists") == 3, said
    commands.forget_images(docker)
    docker("pull", f"{target.host}/{another}:v2")
    assert docker("run", "--rm", "--network=none", f"{target.host}/{another}:v2") == "two"


@pytest.mark.full
def test_docker_builds_upon_an_image_of_the_registry(
    target: Target, docker: Command, repository: str, tmp_path: Path
) -> None:
    name = f"{target.host}/{repository}"
    docker("build", "-t", f"{name}:base", pictures.build_context(tmp_path / "base", "base"))
    docker("push", f"{name}:base")
    commands.forget_images(docker)
    context = pictures.build_context(tmp_path / "upon", "upon", base=f"{name}:base")
    with (context / "Dockerfile").open("a") as dockerfile:
        dockerfile.write('RUN ["/bin/busybox", "sh", "-c", "echo made while building > /made"]\n')
    docker("build", "--network=none", "-t", f"{name}:upon", context)
    docker("push", f"{name}:upon")
    commands.forget_images(docker)
    docker("pull", f"{name}:upon")
    run = ("run", "--rm", "--network=none", f"{name}:upon")
    assert docker(*run) == "upon"
    assert docker(*run, "/bin/busybox", "cat", "/made") == "made while building"


@pytest.mark.full
def test_docker_moves_a_tag_and_pulls_all_tags(
    target: Target, docker: Command, repository: str, tmp_path: Path
) -> None:
    name = f"{target.host}/{repository}"
    docker("build", "-t", f"{name}:latest", pictures.build_context(tmp_path / "old", "old"))
    docker("tag", f"{name}:latest", f"{name}:old")
    docker("push", "--all-tags", name)
    docker("build", "-t", f"{name}:latest", pictures.build_context(tmp_path / "new", "new"))
    docker("push", f"{name}:latest")
    commands.forget_images(docker)
    docker("pull", "--all-tags", name)
    assert docker("run", "--rm", "--network=none", f"{name}:old") == "old"
    assert docker("run", "--rm", "--network=none", f"{name}:latest") == "new"


def test_docker_tells_what_is_wrong(
    target: Target, engine: Path, docker: Command, repository: str, tmp_path: Path
) -> None:
    name = f"{target.host}/{repository}"
    stranger = commands.docker(engine, tmp_path / "stranger")
    said = stranger.fails("login", "--username", target.user, "--password-stdin", target.host, stdin="wrong")
    assert "unauthorized" in said.lower()
    docker("build", "-t", f"{name}:v1", pictures.build_context(tmp_path / "context", "text"))
    said = stranger.fails("push", f"{name}:v1")
    assert "no basic auth credentials" in said or "denied" in said or "unauthorized" in said
    docker("push", f"{name}:v1")
    assert "not found" in docker.fails("pull", f"{name}:v2") or "unknown" in docker.fails("pull", f"{name}:v2")
    commands.forget_images(docker)
    said = stranger.fails("pull", f"{name}:v1")
    assert "no basic auth credentials" in said or "denied" in said or "not found" in said or "unauthorized" in said
    docker("logout", target.host)
    docker.fails("pull", f"{name}:v1")


def test_docker_pulls_the_image_of_its_architecture_of_an_index(
    target: Target, registry: Registry, docker: Command, repository: str
) -> None:
    ours, others = (content.image(f"{repository}{n}", architecture=n) for n in (content.own_architecture(), "s390x"))
    entries = [
        child.descriptor(platform={"architecture": architecture, "os": "linux"})
        for child, architecture in ((others, "s390x"), (ours, content.own_architecture()))
    ]
    document = {"schemaVersion": 2, "mediaType": content.OCI_INDEX, "manifests": entries}
    registry.push(repository, content.manifest(document, children=(others, ours)), "multi")
    name = f"{target.host}/{repository}:multi"
    docker("pull", name)
    assert docker("inspect", "--format", "{{.Id}}", name) == ours.blobs[0].digest


# ---------------------------------------------------------------- skopeo


@pytest.fixture
def skopeo(target: Target, tmp_path: Path) -> Command:
    """skopeo(1), logged in."""
    return logged_in(target, commands.skopeo(tmp_path), tmp_path)


def test_skopeo_copies_inspects_lists_and_deletes(
    target: Target, skopeo: Command, repository: str, another: str, tmp_path: Path
) -> None:
    name, copy = f"docker://{target.host}/{repository}:v1", f"docker://{target.host}/{another}:v1"
    plain, source, destination = (commands.tls_options(target, tmp_path, prefix) for prefix in ("", "src", "dest"))
    saved = pictures.save_archive(tmp_path / "saved.tar", "saved")
    skopeo("copy", *destination, f"docker-archive:{saved}", name)
    inspected = json.loads(skopeo("inspect", *plain, name))
    assert inspected["RepoTags"] == ["v1"]
    assert len(inspected["Layers"]) == 1
    listed = json.loads(skopeo("list-tags", *plain, name.removesuffix(":v1")))
    assert listed == {"Repository": f"{target.host}/{repository}", "Tags": ["v1"]}
    # By digest, into another repository, to a directory and back.
    digest = inspected["Digest"]
    skopeo("copy", *source, *destination, f"{name.removesuffix(':v1')}@{digest}", copy)
    assert json.loads(skopeo("inspect", *plain, copy))["Digest"] == digest
    skopeo("copy", *source, copy, f"dir:{tmp_path / 'directory'}")
    assert content.digest_of((tmp_path / "directory" / "manifest.json").read_bytes()) == digest
    skopeo("delete", *plain, name)
    assert "unknown" in skopeo.fails("inspect", *plain, name)
    assert json.loads(skopeo("inspect", *plain, copy))["Digest"] == digest


@pytest.mark.full
def test_skopeo_changes_the_form_of_an_image(
    target: Target, skopeo: Command, registry: Registry, repository: str, tmp_path: Path
) -> None:
    name = f"docker://{target.host}/{repository}"
    source, destination = (commands.tls_options(target, tmp_path, prefix) for prefix in ("src", "dest"))
    saved = pictures.save_archive(tmp_path / "saved.tar", "saved")
    skopeo("copy", *destination, "--format=v2s2", f"docker-archive:{saved}", f"{name}:docker")
    skopeo("copy", *source, *destination, "--format=oci", f"{name}:docker", f"{name}:oci")
    types = [ok(registry.manifest(repository, tag), 200).headers["Content-Type"] for tag in ("docker", "oci")]
    assert types == [content.DOCKER_MANIFEST, content.OCI_MANIFEST]


@pytest.mark.parametrize("docker_format", [False, pytest.param(True, marks=pytest.mark.full)])
def test_skopeo_copies_an_index_with_all_its_images(
    target: Target, skopeo: Command, registry: Registry, repository: str, tmp_path: Path, docker_format: bool
) -> None:
    index = content.index([content.image(f"{repository}{n}") for n in range(3)])
    layout = pictures.write_layout(tmp_path / "layout", index, "multi")
    name = f"docker://{target.host}/{repository}:multi"
    source, destination = (commands.tls_options(target, tmp_path, prefix) for prefix in ("src", "dest"))
    form = ["--format=v2s2"] if docker_format else []
    skopeo("copy", "--all", *destination, *form, f"oci:{layout}:multi", name)
    answer = ok(registry.manifest(repository, "multi"), 200)
    assert answer.headers["Content-Type"] == (content.DOCKER_LIST if docker_format else content.OCI_INDEX)
    assert len(answer.json()["manifests"]) == 3
    if not docker_format:
        assert answer.content == index.data
    skopeo("copy", "--all", *source, name, f"dir:{tmp_path / 'directory'}")
    assert (tmp_path / "directory" / "manifest.json").read_bytes() == answer.content


# ---------------------------------------------------------------- podman and buildah


@pytest.fixture
def store() -> Iterator[Path]:
    """A directory for images. podman takes no more than 50 characters for its socket's directory."""
    with commands.storage("store-") as directory:
        yield directory


@pytest.fixture
def podman(target: Target, store: Path) -> Command:
    """podman(1), logged in."""
    return logged_in(target, commands.podman(store), store)


@pytest.fixture
def buildah(target: Target, store: Path) -> Command:
    """buildah(1), logged in."""
    return logged_in(target, commands.buildah(store), store)


def logged_in(target: Target, command: Command, directory: Path) -> Command:
    options = commands.tls_options(target, directory)
    command("login", *options, "--username", target.user, "--password-stdin", target.host, stdin=target.password)
    return command


def test_podman_pushes_and_pulls_what_it_built(
    target: Target, podman: Command, repository: str, tmp_path: Path
) -> None:
    options = commands.tls_options(target, tmp_path)
    name = f"{target.host}/{repository}"
    podman("build", "--isolation=chroot", "-t", f"{name}:v1", pictures.build_context(tmp_path / "context", "by podman"))
    digest_file = tmp_path / "digest"
    podman("push", *options, f"--digestfile={digest_file}", f"{name}:v1")
    image_id = podman("inspect", "--format", "{{.Id}}", f"{name}:v1")
    for reference in (f"{name}:v1", f"{name}@{digest_file.read_text()}"):
        podman("rmi", "--all", "--force")
        podman("pull", *options, reference)
        assert podman("inspect", "--format", "{{.Id}}", reference) == image_id
    container = podman("create", f"{name}@{digest_file.read_text()}")
    podman("cp", f"{container}:/text", tmp_path / "text")
    assert (tmp_path / "text").read_text() == "by podman"
    said = podman.fails("pull", *options, f"{name}:v2")
    assert "unknown" in said or "not found" in said


@pytest.mark.full
def test_podman_pushes_a_manifest_list(
    target: Target, podman: Command, registry: Registry, repository: str, tmp_path: Path
) -> None:
    options = commands.tls_options(target, tmp_path)
    name = f"{target.host}/{repository}:multi"
    for architecture in ("amd64", "arm64"):
        context = pictures.build_context(tmp_path / architecture, architecture)
        podman("build", "--isolation=chroot", f"--arch={architecture}", "--manifest", name, context)
    podman("manifest", "push", *options, "--all", name, f"docker://{name}")
    answer = ok(registry.manifest(repository, "multi"), 200)
    assert {entry["platform"]["architecture"] for entry in answer.json()["manifests"]} == {"amd64", "arm64"}
    podman("manifest", "rm", name)
    podman("rmi", "--all", "--force")
    podman("pull", *options, "--arch=arm64", name)
    assert podman("inspect", "--format", "{{.Architecture}}", name) == "arm64"


def test_buildah_pushes_and_pulls_what_it_made(
    target: Target, buildah: Command, repository: str, tmp_path: Path
) -> None:
    options = commands.tls_options(target, tmp_path)
    name = f"{target.host}/{repository}:v1"
    (tmp_path / "text").write_text("by buildah")
    container = buildah("from", "scratch")
    buildah("copy", container, tmp_path / "text", "/text")
    buildah("config", "--cmd", "/text", "--label", "made=by-hand", container)
    buildah("commit", "--rm", container, name)
    buildah("push", *options, name)
    image_id = buildah("inspect", "--format", "{{.FromImageID}}", name)
    buildah("rmi", "--all", "--force")
    buildah("pull", *options, name)
    assert buildah("inspect", "--format", "{{.FromImageID}}", name) == image_id
    container = buildah("from", "--pull-never", name)
    assert (Path(buildah("mount", container)) / "text").read_text() == "by buildah"
    buildah("umount", container)
