"""The registry of the cloud that devstack/mini keeps in its state directory, and the Glance behind it."""

from __future__ import annotations

import configparser
import json
import urllib.parse
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from oci.target import Lack, Target

Image = dict[str, Any]

LACKS = frozenset({Lack.BLOB_DELETE, Lack.STAGED_BY_REPOSITORY})

CONFIGURATION = "etc/registry.conf"
"""The registry's configuration file in the state directory."""


def target(state: Path, user: str = "demo", password: str | None = None) -> Target:
    """It, as a user whose project has the user's name. Passwords of the cloud's own users are known."""
    password = password or json.loads((state / "passwords.json").read_text())[user]
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(state / CONFIGURATION)
    address = settings["registry"]["public_url"]
    return Target("cloud", address, user, user, password, state / "tls" / "ca.pem", LACKS)


def glance(state: Path) -> tuple[str, int]:
    """The address of the cloud's Glance: host and port."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(state / CONFIGURATION)
    address = urllib.parse.urlsplit(settings["glance"]["endpoint_override"])
    return address.hostname or "", address.port or 80


def reads(glance_log: Path, image_id: str) -> int:
    """How often an image's data was asked of Glance, by Glance's own log."""
    return glance_log.read_text(errors="replace").count(f'"GET /v2/images/{image_id}/file')


def images(connection: Connection) -> dict[str, Image]:
    """The images that a connection sees, by id: those for everybody, and those that listings leave out, too."""
    found: dict[str, Image] = {}
    for hidden in ("false", "true"):
        address = f"/images?limit=200&visibility=all&os_hidden={hidden}"
        while address:
            page = connection.image.get(address).json()
            found |= {image["id"]: image for image in page["images"]}
            address = page.get("next", "").removeprefix("/v2")
    return found
