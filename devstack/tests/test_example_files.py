"""The scripts of devstack/examples; the tests of the cloud run them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(
    path
    for path in EXAMPLES.rglob("*")
    if path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash"))
)


def test_shellcheck_finds_nothing_in_the_examples() -> None:
    assert len(SCRIPTS) >= 6
    # SC1091: Debian's files are in the images. SC2317: it does not see that a trap calls a function.
    command = ["shellcheck", "--exclude=SC1091,SC2317", *SCRIPTS]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_scripts_of_the_examples_can_be_run() -> None:
    assert [path for path in SCRIPTS if not os.access(path, os.X_OK)] == []
