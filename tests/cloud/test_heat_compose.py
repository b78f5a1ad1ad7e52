"""The template that `openstack container compose convert` writes, on a cloud with Heat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.compose import Compose, page
from harness.lab import Lab, Side
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.heat, pytest.mark.full]

APPLICATION = """
services:
  web:
    image: IMAGE
    entrypoint: [sh, -c]
    command: [mkdir /www && grep -w -e store -e many /etc/hosts >/www/index.html; exec httpd -f -p 80 -h /www]
    links: ["db:store", many]
    ports: ["8080:80"]
    x-openstack: {flavor: FLAVOR}
  db: {image: IMAGE, entrypoint: sleep 9999, x-openstack: {flavor: FLAVOR}}
  many: {image: IMAGE, entrypoint: sleep 9999, scale: 2, x-openstack: {flavor: FLAVOR, metadata: {owner: me}}}
"""


@pytest.fixture
def compose(
    lab: Lab, tenant: Tenant, admin: Connection, unique: Callable[[str], str], tmp_path: Path
) -> Iterator[Compose]:
    command = Compose(lab, tenant, admin, tmp_path, unique("shop").lower())
    yield command
    command("down", "--volumes")


def test_heat_makes_the_same_application_of_the_template_that_compose_writes(
    compose: Compose, side: Side, user: Connection, tmp_path: Path
) -> None:
    compose.write(APPLICATION.replace("IMAGE", side.image).replace("FLAVOR", side.flavor))
    compose("up")
    of_compose = _looks(user, compose, compose("port", "web", "80").strip())
    template = tmp_path / "template.yaml"
    template.write_text(compose("convert", "--format", "heat"))
    compose("down")

    stack = compose.project
    compose.run("openstack", "orchestration", "template", "validate", "-t", str(template), seconds=600)
    compose.run("openstack", "stack", "create", "--wait", "-t", str(template), stack, seconds=600)
    try:
        shown = ("stack", "output", "show", stack, "web-1", "-f", "value", "-c", "output_value")
        address = compose.run("openstack", *shown, seconds=600).strip()
        assert _looks(user, compose, f"{address}:8080") == of_compose
    finally:
        compose.run("openstack", "stack", "delete", "--yes", "--wait", stack, seconds=600)


def _looks(user: Connection, compose: Compose, address: str) -> tuple[list[Any], list[str]]:
    """The project's servers but for where they are, and whom the web server knows, by name and number."""
    there = [each for each in user.compute.servers() if each.name.startswith(compose.project)]
    own = [{key: value for key, value in each.metadata.items() if not key.startswith("compose:")} for each in there]
    servers = [
        (each.name, each.status, each.image.id, each.flavor.name, owned) for each, owned in zip(there, own, strict=True)
    ]
    known = eventually(lambda: page(address), "the page at the floating IP").splitlines()
    addresses = {address["addr"] for each in there for found in each.addresses.values() for address in found}
    assert all(line.split()[0] in addresses for line in known)
    return sorted(servers, key=str), sorted(line.split()[1] for line in known)
