from __future__ import annotations

import json
from pathlib import Path

from minicloud import check
from minicloud.layout import Layout
from minicloud.options import Options

FINDINGS = [
    {"check": "docker", "verdict": "ok", "found": "Docker 26.1"},
    {"check": "clock", "verdict": "warning", "found": "7 s behind", "advice": "start chrony"},
    {"check": "broker", "verdict": "failed", "found": "refused", "advice": "see transport_url"},
    {"check": "conductor", "verdict": "left_out", "found": "no broker"},
]


def _layout(directory: Path) -> Layout:
    # Whatever pytest calls its directory.
    return Layout(directory)


def _agent(layout: Layout, script: str) -> None:
    layout.bin.mkdir(parents=True)
    program = layout.bin / "nova-docker-agent"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_what_is_not_ok_is_told_with_what_to_do(tmp_path: Path) -> None:
    layout = _layout(tmp_path)
    _agent(layout, f"echo '{json.dumps({'checks': FINDINGS})}'; exit 1")
    assert check.troubles(layout, Options(host="vm")) == [
        "warning: clock: 7 s behind; start chrony",
        "failed: broker: refused; see transport_url",
    ]


def test_a_check_that_says_nothing_is_told_too(tmp_path: Path) -> None:
    layout = _layout(tmp_path)
    assert "could not tell" in check.troubles(layout, Options(host="vm"))[0]
    _agent(layout, "exit 2")
    assert "could not tell" in check.troubles(layout, Options(host="vm"))[0]


def test_behind_the_second_door_less_is_checked(tmp_path: Path) -> None:
    layout = _layout(tmp_path)
    assert "--serve-driver" in check.command(layout, Options(host="vm", door="grpc"))
    assert "--serve-driver" not in check.command(layout, Options(host="vm", door="amqp"))
