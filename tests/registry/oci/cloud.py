"""The registry of the cloud that devstack/mini keeps in its state directory."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

from oci.target import Lack, Target

LACKS = frozenset({Lack.BLOB_DELETE})


def target(state: Path, user: str = "demo") -> Target:
    """It, as one of the users of the cloud, in the project of the same name."""
    password = json.loads((state / "passwords.json").read_text())[user]
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(state / "etc" / "registry.conf")
    address = settings["registry"]["public_url"]
    return Target("cloud", address, user, user, password, state / "tls" / "ca.pem", LACKS)
