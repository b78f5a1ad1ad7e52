"""Images of a compose file that are built here and pushed, and an application that two people bring up at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.compose import Compose, page
from harness.lab import Lab, Side
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.long, pytest.mark.full]

BUILT = """
services:
  web:
    image: IMAGE
    build:
      context: .
      args: {BASE: "docker-archive:ARCHIVE"}
      network: host
      dockerfile_inline: |
        ARG BASE
        FROM $${BASE}
        COPY page /www/index.html
        RUN echo and built >>/www/index.html
        ENTRYPOINT ["httpd", "-f", "-p", "80", "-h", "/www"]
    ports: [80]
    x-openstack: {flavor: FLAVOR}
"""
SCALED = """
services:
  web:
    image: IMAGE
    entrypoint: [sleep, "9999"]
    environment: {A: b}
    scale: 2
    ports: [80]
    x-openstack: {flavor: FLAVOR}
  db: {image: IMAGE, entrypoint: [sleep, "9999"], x-openstack: {flavor: FLAVOR}}
"""


@pytest.fixture
def compose(
    lab: Lab, tenant: Tenant, admin: Connection, user: Connection, tmp_path: Path, unique: Any
) -> Iterator[Compose]:
    """The command for a project of its own, of which nothing is left."""
    command = Compose(lab, tenant, admin, tmp_path, unique("app").lower())
    yield command
    command("down", "--volumes")
    for image in user.image.images(owner=tenant.project_id):
        user.image.delete_image(image)


@pytest.fixture
def local(unique: Callable[[str], str]) -> Iterator[Callable[[str], str]]:
    """Names of images that buildah is to make; it keeps none of them."""
    names: list[str] = []

    def named(place: str) -> str:
        names.append(f"{place}{unique('built').lower()}:v1")
        return names[-1]

    yield named
    for name in names:
        subprocess.run(["buildah", "rmi", "--force", name], check=False, capture_output=True)


def _in_glance(user: Connection, tenant: Tenant) -> list[str]:
    return sorted(image.name for image in user.image.images(owner=tenant.project_id))


def _is_built(compose: Compose, lab: Lab, side: Side, tmp_path: Path, image: str, text: str) -> None:
    # No Docker of the machine's own: buildah builds, and knows the authority of the cloud's registry.
    compose.set(
        DOCKER_HOST=f"unix://{tmp_path}/none", BUILDAH_ISOLATION="chroot", SSL_CERT_FILE=f"{lab.state}/tls/ca.pem"
    )
    (tmp_path / "page").write_text(f"{text}\n")
    file = BUILT.replace("IMAGE", image).replace("ARCHIVE", str(lab.tiny_archive)).replace("FLAVOR", side.flavor)
    compose.write(file)


def test_an_image_is_built_and_pushed_into_glance(
    compose: Compose,
    lab: Lab,
    side: Side,
    user: Connection,
    tenant: Tenant,
    tmp_path: Path,
    local: Callable[[str], str],
) -> None:
    image = local("")
    _is_built(compose, lab, side, tmp_path, image, "written")
    compose("build")
    assert _in_glance(user, tenant) == []
    compose("push")
    compose("push")
    assert _in_glance(user, tenant) == [image], "what is there is not pushed again"
    compose("up")
    address = compose("port", "web", "80").strip()
    eventually(lambda: page(address) == "written\nand built\n", "the page of the image")
    first = compose.ps()["web-1"]["ID"]
    (tmp_path / "page").write_text("changed\n")
    compose("up", "--build")
    eventually(lambda: page(address) == "changed\nand built\n", "the page of the image that was built anew")
    assert compose.ps()["web-1"]["ID"] == first


def test_an_image_is_pushed_to_the_registry_that_its_name_begins_with(
    compose: Compose,
    lab: Lab,
    side: Side,
    user: Connection,
    tenant: Tenant,
    tmp_path: Path,
    local: Callable[[str], str],
) -> None:
    image = local(f"127.0.0.1:5043/{tenant.name}/")
    _is_built(compose, lab, side, tmp_path, image, "pushed")
    # Nothing is there: up builds and pushes by itself.
    compose("up")
    assert _in_glance(user, tenant) == [image.partition("/")[2].partition("/")[2]]
    address = compose("port", "web", "80").strip()
    eventually(lambda: page(address) == "pushed\nand built\n", "the page of the image")
    compose("push")


def test_two_who_bring_an_application_up_at_once_make_and_change_each_server_once(
    compose: Compose, side: Side, user: Connection, tenant: Tenant
) -> None:
    text = SCALED.replace("IMAGE", side.image).replace("FLAVOR", side.flavor)
    for content in (text, text.replace("A: b", "A: c")):
        compose.write(content)
        for running in [compose.begin("up", "-d") for _ in range(2)]:
            compose.end(running)
        names = [f"{compose.project}-{name}" for name in ("db-1", "web-1", "web-2")]
        # By name several could hide behind one.
        there = [each for each in user.compute.servers() if each.name.startswith(compose.project)]
        assert sorted(each.name for each in there) == names
        assert {each.status for each in there} == {"ACTIVE"}
        mine = f"compose:{compose.project}"
        ports = [each.name for each in user.network.ports(project_id=tenant.project_id) if each.description == mine]
        assert sorted(ports) == names
        addresses = [each for each in user.network.ips(project_id=tenant.project_id) if each.description == mine]
        assert len({each.port_id for each in addresses}) == len(addresses) == 2
        for kind in (user.network.networks, user.network.routers, user.network.subnets):
            assert len([each for each in kind(project_id=tenant.project_id) if each.description == mine]) == 1
    for number in (1, 2):
        assert compose("exec", "-T", "--index", str(number), "web", "sh", "-c", "echo $A") == "c\n"
