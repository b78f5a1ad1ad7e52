"""The version of this package, which the repository's Cargo.toml says and the wheel's metadata carries."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("nova-docker-shim")
