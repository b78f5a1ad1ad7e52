"""Images of services: built here, by Docker or buildah, and brought into Glance, or into a registry in front of it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nova_docker_compose.choosing import registry_of
from nova_docker_compose.cloud import Api, Json
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project, image_of

_TAKEN = ("context", "dockerfile", "dockerfile_inline", "args", "labels", "target", "network", "no_cache", "pull")
_LOCAL_ID = "compose_image_id"
"""A property of images in Glance that came from here: what their local twin was."""


class Builder:
    """The program that builds: Docker where its daemon answers, else buildah."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.program = _program()

    def build(self, project: Project, name: str, no_cache: bool = False, pull: bool = False) -> None:
        """Builds the image of a service. Raises ComposeError."""
        service = project.services[name]
        said: dict[str, Any] = service["build"]
        for key in sorted(set(said) - set(_TAKEN)):
            self._tell(f"warning: services.{name}.build.{key}: it is left out")
        with tempfile.TemporaryDirectory() as directory:
            words = [f"--tag={image_of(project, name)}", f"--file={_dockerfile(said, Path(directory))}"]
            for option, key in (("build-arg", "args"), ("label", "labels")):
                words += [f"--{option}={each}" for each in _pairs(said.get(key, {}))]
            words += [f"--{key}={said[key]}" for key in ("target", "network") if key in said]
            words += ["--no-cache"] if no_cache or said.get("no_cache") else []
            words += ["--pull"] if pull or said.get("pull") else []
            verb = ["build"] if self.program == "docker" else ["bud", "--layers"]
            self._tell(f"{name}: building {image_of(project, name)}")
            _run(f"services.{name}.build", [self.program, *verb, *words, said["context"]], to_screen=True)

    def identity(self, reference: str) -> str:
        """What tells a local image from others of its name."""
        command = ["docker", "image", "inspect", "--format={{.Id}}"]
        if self.program == "buildah":
            command = ["buildah", "inspect", "--type=image", "--format={{.FromImageID}}"]
        done = subprocess.run([*command, reference], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ComposeError(f"{self.program} has no image {reference}; build it first")
        return done.stdout.strip().removeprefix("sha256:")

    def has(self, reference: str) -> bool:
        """Whether there is a local image of that name."""
        try:
            self.identity(reference)
        except ComposeError:
            return False
        return True

    def save(self, reference: str, target: Path) -> None:
        """Writes an image as `docker save` does."""
        tagged = reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"
        command = ["docker", "save", f"--output={target}", tagged]
        if self.program == "buildah":
            command = ["buildah", "push", "--quiet", reference, f"docker-archive:{target}:{tagged}"]
        _run(reference, command)

    def push(self, reference: str, login: tuple[str, str] | None) -> None:
        """Pushes an image to the registry in its name, as a user."""
        with _authentication(registry_of(reference) or "", login) as directory:
            command = ["docker", "push", "--quiet", reference]
            if self.program == "buildah":
                command = ["buildah", "push", "--quiet", reference, f"docker://{reference}"]
            more = {}
            if directory is not None:
                more = {"DOCKER_CONFIG": directory, "REGISTRY_AUTH_FILE": f"{directory}/config.json", **self._daemon()}
            _run(reference, command, environment=more)

    def _daemon(self) -> dict[str, str]:
        """Where Docker's daemon is: with another configuration the user's contexts are not there."""
        if self.program != "docker" or os.environ.get("DOCKER_HOST"):
            return {}
        command = ["docker", "context", "inspect", "--format={{.Endpoints.docker.Host}}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return {"DOCKER_HOST": done.stdout.strip()} if done.returncode == 0 and done.stdout.strip() else {}


class Pusher:
    """Brings images to where Nova finds them."""

    def __init__(self, api: Api, builder: Builder, tell: Callable[[str], None]) -> None:
        self._api = api
        self._builder = builder
        self._tell = tell

    def push(self, reference: str) -> None:
        """Pushes an image to the registry that its name says, else into Glance. Raises ComposeError."""
        identity = self._builder.identity(reference)
        if registry_of(reference):
            self._tell(f"{reference}: pushing")
            self._builder.push(reference, self._api.login())
            return
        found = self._api.listed("image", "/images", "images", name=f"eq:{reference}", status="active")
        mine = [each for each in found if each.get("owner") == self._api.project_id()]
        if any(each.get(_LOCAL_ID) == identity for each in mine):
            self._tell(f"{reference}: already in Glance")
            return
        with tempfile.TemporaryDirectory() as directory:
            archive = Path(directory) / "image.tar"
            self._builder.save(reference, archive)
            self._upload(reference, archive, identity)

    def _upload(self, reference: str, archive: Path, identity: str) -> None:
        body: Json = {"name": reference, "container_format": "docker", "disk_format": "raw", _LOCAL_ID: identity}
        body["img_hv_type"] = "docker"
        self._tell(f"{reference}: uploading {archive.stat().st_size >> 20} MiB into Glance")
        image = self._api.request("image", "POST", "/images", body)
        try:
            with archive.open("rb") as content:
                kind = {"Content-Type": "application/octet-stream"}
                self._api.request("image", "PUT", f"/images/{image['id']}/file", data=content, headers=kind)
        except BaseException:
            # Half an image is of no use, also where the user has stopped the command.
            self._api.request("image", "DELETE", f"/images/{image['id']}")
            raise


def _program() -> str:
    if shutil.which("docker"):
        done = subprocess.run(["docker", "version"], capture_output=True, check=False)
        if done.returncode == 0:
            return "docker"
    if shutil.which("buildah"):
        return "buildah"
    raise ComposeError("images are built by Docker or buildah: there is no Docker that answers, and no buildah")


def _dockerfile(said: dict[str, Any], directory: Path) -> Path:
    if "dockerfile_inline" in said:
        written = directory / "Dockerfile"
        written.write_text(said["dockerfile_inline"])
        return written
    return Path(said["context"]) / str(said["dockerfile"])


def _pairs(values: dict[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        # Both builders take a variable without a value from their environment.
        yield key if value is None else f"{key}={value}"


@contextmanager
def _authentication(registry: str, login: tuple[str, str] | None) -> Iterator[str | None]:
    """A directory with a login that nobody else sees; None leaves it to the builder."""
    if login is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        word = base64.b64encode(":".join(login).encode()).decode()
        (Path(directory) / "config.json").write_text(json.dumps({"auths": {registry: {"auth": word}}}))
        yield directory


def _run(what: str, command: list[str], to_screen: bool = False, environment: dict[str, str] | None = None) -> None:
    """What a builder prints goes to standard error, as all progress does."""
    stream = None if to_screen else subprocess.PIPE
    done = subprocess.run(
        command,
        stdout=2 if to_screen else subprocess.PIPE,
        stderr=stream,
        env={**os.environ, **(environment or {})},
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = "" if to_screen else f": {(done.stderr or done.stdout or '').strip()[-500:]}"
        raise ComposeError(f"{what}: {command[0]} {command[1]} ended with {done.returncode}{said}")


def buildable(project: Project, names: list[str]) -> list[str]:
    """The services among these that say how their image is built."""
    return [name for name in names if project.services[name].get("build")]
