"""`nova-docker-agent check` for this cloud's host: what an operator of another cloud would see."""

from __future__ import annotations

import json
import os
import subprocess

from minicloud import process
from minicloud.layout import Layout
from minicloud.options import Options
from minicloud.programs import ovs_environment

_PATIENCE = 180
"""Seconds. Every check bounds itself."""


def command(layout: Layout, options: Options) -> list[str]:
    """The command without its output's form."""
    door = ["--serve-driver"] if options.door == "grpc" else []
    config = f"{layout.etc}/nova-docker-agent.conf"
    return [f"{layout.bin}/nova-docker-agent", "check", "--config-file", config, *door]


def troubles(layout: Layout, options: Options) -> list[str]:
    """A line for each thing that is not as it should be."""
    arguments = [*command(layout, options), "--json"]
    try:
        done = subprocess.run(
            arguments, env=_environment(layout), capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        findings = json.loads(done.stdout)["checks"]
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return [f"check: nova-docker-agent check could not tell: {error}"]
    return [
        f"{finding['verdict']}: {finding['check']}: {finding['found']}; {finding['advice']}"
        for finding in findings
        if finding["verdict"] in ("warning", "failed")
    ]


def become(layout: Layout, options: Options) -> None:
    """Replace this process by the check."""
    arguments = command(layout, options)
    os.execve(arguments[0], arguments, _environment(layout))  # noqa: S606


def _environment(layout: Layout) -> dict[str, str]:
    return process.clean_environment(**ovs_environment(layout))
