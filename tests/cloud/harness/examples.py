"""The examples of devstack/examples: their images, and what their users do."""

from __future__ import annotations

import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from harness.compose import Compose
from harness.lab import Lab

EXAMPLES = Path(__file__).parents[3] / "devstack" / "examples"


def make_images(lab: Lab, command: Compose, example: str, *options: str) -> None:
    """Make the images of an example, named as in a directory of fig/: in Glance, unless the options say otherwise."""
    archive = lab.state / "cache" / "debian.tar"
    command.set(BASE=f"docker-archive:{archive}" if archive.exists() else "debootstrap")
    command.run(str(EXAMPLES / "fig" / "images"), example, *options, seconds=1500)


def set_wordpress_up(address: str, title: str) -> None:
    """What a user fills in on WordPress' first page."""
    form: dict[str, Any] = {"weblog_title": title, "user_name": "admin", "admin_email": "admin@example.org"}
    form |= {"admin_password": "pw1", "admin_password2": "pw1", "pw_weak": "1", "blog_public": "0", "Submit": "Install"}
    url = f"http://{address}/wp-admin/install.php?step=2"
    with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), timeout=120) as answer:
        assert "Success!" in answer.read().decode()
