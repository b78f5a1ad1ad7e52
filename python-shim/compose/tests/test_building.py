"""`build` and `push`, with builders that only note what they are asked for."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cloud import FakeCloud
from nova_docker_compose.building import Builder, Pusher
from nova_docker_compose.cloud import Api
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
from nova_docker_compose.translation import translate

Read = Callable[[str], Project]

PROGRAM = """#!/bin/sh
echo "$(basename $0) $*" >>NOTES
case "$*" in
    version) exit ANSWERS ;;
    *inspect*missing*) exit 1 ;;
    *context*) echo unix:///of/the/context ;;
    *inspect*) echo sha256:abc ;;
    *bud*broken* | *build*broken*) exit 3 ;;
    *Dockerfile*) sed 's/^/in the file: /' "$(echo "$*" | sed 's/.*--file=\\([^ ]*\\).*/\\1/')" >>NOTES ;;
    save*) echo archive >"$(echo "$*" | sed 's/.*--output=\\([^ ]*\\).*/\\1/')" ;;
    *docker-archive:*) echo archive >"$(echo "$*" | sed 's/.*docker-archive:\\([^:]*\\):.*/\\1/')" ;;
    push*) echo "at $DOCKER_HOST" >>NOTES; cat "${REGISTRY_AUTH_FILE:-/dev/null}" >>NOTES ;;
esac
"""
FILE = """
services:
  web:
    image: IMAGE
    build:
      context: web
      args: {A: b, FROM_HERE: }
      labels: {l: m}
      target: small
      network: host
      cache_from: [x]
  own: {build: {dockerfile_inline: 'FROM scratch'}}
  db: {image: db}
"""


@pytest.fixture(params=["docker", "buildah"])
def builder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two is there; buildah is asked where Docker's daemon does not answer."""
    programs = tmp_path / "bin"
    programs.mkdir()
    text = PROGRAM.replace("NOTES", str(tmp_path / "notes")).replace(
        "ANSWERS", "0" if request.param == "docker" else "1"
    )
    for name in ("docker", "buildah"):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "Dockerfile").write_text("FROM base\n")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return str(request.param)


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[], list[str]]:
    """What the builders were asked for."""
    return lambda: [line for line in (tmp_path / "notes").read_text().splitlines() if line != "docker version"]


def test_an_image_is_built_with_what_the_file_says(
    builder: str, project_of: Read, notes: Callable[[], list[str]], tmp_path: Path
) -> None:
    told: list[str] = []
    project = project_of(FILE.replace("IMAGE", "web:v1"))
    Builder(told.append).build(project, "web", no_cache=True, pull=True)
    verb = "build" if builder == "docker" else "bud --layers"
    options = "--build-arg=A=b --build-arg=FROM_HERE --label=l=m --target=small --network=host --no-cache --pull"
    assert notes() == [
        f"{builder} {verb} --tag=web:v1 --file={tmp_path}/web/Dockerfile {options} {tmp_path}/web",
        "in the file: FROM base",
    ]
    assert told == ["warning: services.web.build.cache_from: it is left out", "web: building web:v1"]


def test_a_service_that_is_only_built_has_compose_s_name_for_its_image(
    builder: str, project_of: Read, notes: Callable[[], list[str]]
) -> None:
    project = project_of(FILE.replace("IMAGE", "web:v1"))
    Builder(lambda _: None).build(project, "own")
    assert "--tag=p-own " in notes()[0]
    assert notes()[1] == "in the file: FROM scratch"
    assert translate(project).wanted["own"].image == "p-own"


def test_a_build_that_fails_says_which(builder: str, project_of: Read) -> None:
    with pytest.raises(ComposeError, match=rf"services.web.build: {builder} .* ended with 3"):
        Builder(lambda _: None).build(project_of(FILE.replace("IMAGE", "broken")), "web")


def test_without_docker_and_buildah_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ComposeError, match="there is no Docker that answers, and no buildah"):
        Builder(lambda _: None)


@pytest.mark.usefixtures("builder")
def test_an_image_without_a_registry_goes_into_glance_once(cloud: FakeCloud) -> None:
    told: list[str] = []
    pusher = Pusher(Api(cloud), Builder(told.append), told.append)
    pusher.push("mine")
    pusher.push("mine")
    made = [each for each in cloud.images if each["name"] == "mine"]
    assert [(each["status"], each["content"], each["container_format"]) for each in made] == [
        ("active", "archive\n", "docker")
    ]
    assert told[-1] == "mine: already in Glance"


@pytest.mark.usefixtures("builder")
def test_an_upload_that_glance_refuses_leaves_no_image(cloud: FakeCloud) -> None:
    cloud.full = True
    with pytest.raises(ComposeError, match="the quota is exceeded"):
        Pusher(Api(cloud), Builder(lambda _: None), lambda _: None).push("mine")
    assert [each for each in cloud.images if each["name"] == "mine"] == []


@pytest.mark.usefixtures("builder")
def test_an_image_that_is_not_here_is_told(cloud: FakeCloud) -> None:
    with pytest.raises(ComposeError, match="has no image missing; build it first"):
        Pusher(Api(cloud), Builder(lambda _: None), lambda _: None).push("missing")


@pytest.mark.parametrize(
    ("login", "word"),
    [
        ({"username": "demo", "password": "a:b", "user_domain_name": "Default"}, b"demo:a:b"),
        ({"username": "demo", "password": "pw", "user_domain_id": "staff"}, b"staff/demo:pw"),
        ({"application_credential_id": "id", "application_credential_secret": "s"}, b"id:s"),
        ({"token": "t"}, None),
    ],
)
def test_an_image_of_a_registry_is_pushed_with_the_user_s_openstack_login(
    builder: str, cloud: FakeCloud, notes: Callable[[], list[str]], login: dict[str, str], word: bytes | None
) -> None:
    cloud.login = login
    name = "registry.example:5000/demo/web:v1"
    Pusher(Api(cloud), Builder(lambda _: None), lambda _: None).push(name)
    more = "" if builder == "docker" else f" docker://{name}"
    push = notes().index(f"{builder} push --quiet {name}{more}")
    assert notes()[push + 1] == ("at unix:///of/the/context" if builder == "docker" and word else "at ")
    auths = {"registry.example:5000": {"auth": base64.b64encode(word).decode()}} if word else None
    # Without a password the builder has its own login.
    assert [json.loads(line)["auths"] for line in notes()[push + 2 :]] == ([auths] if auths else [])
