"""What a service of a compose file asks for beyond its containers: forwarded ports, commands at its start and its end,
and that somebody answers while it changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.compose import Compose, page
from harness.lab import Lab, Side
from harness.load import Load
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.long, pytest.mark.full]

FILE = """
services:
  web:
    image: IMAGE
    entrypoint: [sh, -c]
    command: [mkdir -p /www && echo $$GREETING >/www/index.html; exec httpd -f -p 80 -h /www]
    environment: {GREETING: good morning}
    x-openstack: {flavor: FLAVOR}
"""


@pytest.fixture
def compose(lab: Lab, tenant: Tenant, admin: Connection, tmp_path: Path, unique: Any) -> Iterator[Compose]:
    """The command for a project of its own, of which nothing is left."""
    command = Compose(lab, tenant, admin, tmp_path, unique("app").lower())
    yield command
    command("down", "--volumes")


@pytest.fixture
def text(side: Side) -> str:
    return FILE.replace("IMAGE", side.image).replace("FLAVOR", side.flavor)


def test_ports_are_forwarded_where_they_are_published_otherwise(compose: Compose, text: str) -> None:
    compose.write(text + "    ports: ['8080:80', '2222:22']\n")
    compose("up")
    address = compose("port", "web", "80").strip()
    assert address.endswith(":8080")
    assert f"{address}->80/tcp" in compose.ps()["web-1"]["Floating IPs"]
    eventually(lambda: page(address) == "good morning\n", "the page at the forwarded port")
    host = address.partition(":")[0]
    assert page(host) == "", "the container's own port is nobody's"

    # The address stays, whichever way it leads.
    compose.write(text + "    ports: [80]\n")
    compose("up")
    assert compose("port", "web", "80").strip() == f"{host}:80"
    eventually(lambda: page(host) == "good morning\n", "the page at the container's own port")
    compose.write(text + "    ports: ['8081:80']\n")
    compose("up")
    assert compose("port", "web", "80").strip() == f"{host}:8081"
    eventually(lambda: page(f"{host}:8081") == "good morning\n", "the page at another port")


def test_commands_are_run_when_a_server_has_come_up_and_before_it_stops(compose: Compose, text: str) -> None:
    hooks = """\
    ports: [80]
    volumes: ["said:/said"]
    post_start: [{command: [sh, -c, 'echo $$WHO >>/said/log; echo begun'], environment: [WHO=started]}]
    pre_stop: [{command: [sh, -c, 'echo stopping >>/said/log']}]
volumes: {said: }
"""
    compose.write(text + hooks)
    running = compose.begin("up")
    _, told = running.communicate(timeout=600)
    assert (running.returncode, "web-1: post_start: begun" in told) == (0, True), told
    compose("restart")
    compose("stop")
    compose("start")
    compose.write((text + hooks).replace("good morning", "good night"))
    compose("up")
    said = compose("exec", "-T", "web", "cat", "/said/log").split()
    assert said == ["started", *["stopping", "started"] * 3]

    compose.write((text + hooks).replace("begun'", "begun; exit 3'"))
    failing = compose.begin("up")
    _, told = failing.communicate(timeout=600)
    assert (failing.returncode, "post_start[0] has ended with exit code 3" in told) == (1, True), told


def test_somebody_answers_while_two_change_a_service_at_once(compose: Compose, text: str) -> None:
    more = """\
    ports: [80]
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, http://127.0.0.1/], interval: 1s}
    deploy: {update_config: {order: start-first}}
"""
    compose.write(text + more)
    compose("up", "--wait")
    address = compose("port", "web", "80").strip()
    eventually(lambda: page(address), "the page")
    load = Load(address)
    with load.going_on():
        compose.write((text + more).replace("good morning", "good night"))
        for running in [compose.begin("up") for _ in range(2)]:
            compose.end(running)
        eventually(lambda: load.seen_since() == {"good night"}, "the changed page", interval=3)
    assert set(compose.ps()) == {"web-1"}
    assert compose("port", "web", "80").strip() == address
    assert load.failures == []
