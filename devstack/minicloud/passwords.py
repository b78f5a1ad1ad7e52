"""The cloud's secrets: made once, kept in one file that only root can read."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from minicloud.files import write_file

# Hexadecimal only: a value is safe in INI files, URLs, SQL and shell without escaping.
_NAMES: Mapping[str, int] = {
    "admin": 8,
    "demo": 8,
    "service": 16,
    "database": 16,
    "rabbitmq": 16,
    "metadata": 16,
    "horizon": 32,
    "heat_domain": 16,
    # Heat takes exactly 32 characters.
    "heat_encryption": 16,
}


class Passwords(dict[str, str]):
    """Secrets by name. repr hides them, so no log or traceback holds them."""

    def __repr__(self) -> str:
        return f"Passwords({', '.join(sorted(self))})"


def load(path: Path) -> Passwords:
    """Read the secrets in `path`. Raises FileNotFoundError when there is no cloud yet."""
    return Passwords(json.loads(path.read_text()))


def load_or_create(path: Path) -> Passwords:
    """Read the secrets, adding those that are missing; the ones that exist never change."""
    try:
        known = load(path)
    except FileNotFoundError:
        known = Passwords()
    missing = {name: secrets.token_hex(size) for name, size in _NAMES.items() if name not in known}
    if missing:
        known.update(missing)
        write_file(path, json.dumps(known, indent=1, sort_keys=True) + "\n", mode=0o600)
    path.chmod(0o600)
    return known
