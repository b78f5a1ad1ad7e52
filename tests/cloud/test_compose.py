"""`openstack container compose`, as a user types it, from an application's first `up` to its `down`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.compose import Compose, page
from harness.lab import Lab, Side
from harness.servers import Servers
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.long]

FILE = """
services:
  web:
    image: IMAGE
    entrypoint: [sh, -c]
    command:
      - mkdir /www && grep -w store /etc/hosts >/www/index.html && echo $$GREETING >>/www/index.html &&
        echo ready && exec httpd -f -p 80 -h /www
    environment: {GREETING: good morning}
    links: ["db:store"]
    ports: [80]
    x-openstack: {flavor: FLAVOR}
  db:
    image: IMAGE
    command: sleep 9999
    volumes: ["data:/data"]
    x-openstack: {flavor: FLAVOR}
volumes: {data: }
"""


@pytest.fixture
def compose(lab: Lab, tenant: Tenant, admin: Connection, tmp_path: Path, unique: Any) -> Iterator[Compose]:
    """The command for a project of its own, of which nothing is left."""
    command = Compose(lab, tenant, admin, tmp_path, unique("app").lower())
    yield command
    command("down", "--volumes")


def test_an_application_is_brought_up_and_entered(compose: Compose, side: Side) -> None:
    compose.write(FILE.replace("IMAGE", side.image).replace("FLAVOR", side.flavor))
    compose("up", "-d")
    shown = compose.ps()
    assert {name: server["Status"] for name, server in shown.items()} == {"db-1": "ACTIVE", "web-1": "ACTIVE"}
    text = eventually(lambda: page(shown["web-1"]["Floating IPs"]), "the page at the floating IP")
    assert text.split()[0] == shown["db-1"]["Addresses"], "it knows the other service by its link"
    assert "good morning" in text
    tell = compose.begin("exec", "web", "sh", "-c", "echo $GREETING; exit 7")
    assert compose.end(tell, 7) == "good morning\n"


@pytest.mark.full
def test_an_application_is_brought_up_scaled_changed_and_taken_down(
    compose: Compose, side: Side, servers: Servers
) -> None:
    text = FILE.replace("IMAGE", side.image).replace("FLAVOR", side.flavor)
    compose.write(text)
    # Two at once, as of two people: each service is there once.
    both = [compose.begin("up", "-d"), compose.begin("up", "-d")]
    for running in both:
        compose.end(running)
    first = compose.ps()
    assert {name: server["Status"] for name, server in first.items()} == {"db-1": "ACTIVE", "web-1": "ACTIVE"}

    address = first["web-1"]["Floating IPs"]
    shown = eventually(lambda: page(address), "the page at the floating IP")
    assert shown.split()[0] == first["db-1"]["Addresses"], "it knows the other service by its link"
    assert "good morning" in shown
    assert compose("port", "web", "80").strip() == f"{address}:80"
    assert "web-1  | ready" in compose("logs", "web")

    following = compose.begin("logs", "-f", "--tail", "1", "web")
    assert following.stdout is not None
    assert following.stdout.readline() == f"{compose.project}-web-1  | ready\n"
    tell = compose.begin("exec", "web", "sh", "-c", "cat >/proc/1/fd/1; echo $0 $A; exit 7", "-v")
    assert compose.end(tell, 7, "through the proxy\n") == "-v\n"
    assert following.stdout.readline() == f"{compose.project}-web-1  | through the proxy\n"
    following.send_signal(signal.SIGINT)
    compose.end(following, 130)
    assert "httpd -f" in compose("top", "web")

    compose("scale", "web==2")
    scaled = compose.ps()
    assert {name: server["Status"] for name, server in scaled.items()} == dict.fromkeys(
        ("db-1", "web-1", "web-2"), "ACTIVE"
    )

    # The file says one, and another greeting.
    compose.write(text.replace("good morning", "good night"))
    compose("up", "-d")
    changed = compose.ps()
    assert {name: server["ID"] for name, server in changed.items()} == {
        name: each["ID"] for name, each in first.items()
    }
    assert changed["web-1"]["Floating IPs"] == address
    eventually(lambda: "good night" in page(address), "the changed page")
    actions = servers.request("GET", f"/servers/{first['db-1']['ID']}/os-instance-actions")["instanceActions"]
    assert [action["action"] for action in actions] == ["create"], "what has not changed is left alone"


COMMANDS = """
services:
  job:
    image: IMAGE
    entrypoint: [sh, -c]
    depends_on: [db]
    x-openstack: {flavor: FLAVOR}
  db:
    image: IMAGE
    entrypoint: [sleep, "9999"]
    x-openstack: {flavor: FLAVOR}
"""
UNTIL_TOLD = "grep -w db /etc/hosts; echo ready; until [ -e /go ]; do sleep 0.1; done; echo $WHO >&2; exit 7"


@pytest.mark.full
def test_one_command_is_run_shown_and_gone_again(compose: Compose, side: Side) -> None:
    compose.write(COMMANDS.replace("IMAGE", side.image).replace("FLAVOR", side.flavor))
    job = compose.begin("run", "-e", "WHO=me", "--name", "slow", "job", UNTIL_TOLD)
    assert job.stdout is not None
    # While it runs; what it needs has been brought up.
    found = job.stdout.readline().split()
    assert found == [compose.ps()["db-1"]["Addresses"], *found[1:]]
    assert job.stdout.readline() == "ready\n"
    listed = compose.ps()
    assert (listed["slow"]["Service"], listed["slow"]["Status"]) == ("job", "ACTIVE")
    assert "until [" in compose("top", "job")
    compose.run("openstack", "container", "exec", "-T", listed["slow"]["ID"], "touch", "/go", seconds=600)
    assert compose.end(job, 7) == ""
    assert eventually(lambda: compose.ps()["slow"]["Exit Code"] == 7, "the tag of its end")

    # Those that end before anybody can look.
    assert compose("run", "--rm", "job", "echo hello") == "hello\n"
    failed = compose.begin("run", "--rm", "job", "echo no such table; exit 3")
    # By the fault or by the log, as the launch has seen it end or not.
    shown = "".join(failed.communicate(timeout=600))
    assert (failed.returncode, "no such table" in shown) == (3, True), shown

    # Ctrl-C.
    job = compose.begin("run", "--rm", "job", "echo ready; exec sleep 9999")
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n"
    job.send_signal(signal.SIGINT)
    compose.end(job, 130)
    assert set(compose.ps()) == {"db-1", "slow"}

    name = compose("run", "-d", "job", "sleep 9999").strip()
    assert compose.ps()[name.removeprefix(f"{compose.project}-")]["Status"] == "ACTIVE"
    compose("exec", "-d", "db", "sh", "-c", "echo begun >/it; exec sleep 4321")
    eventually(lambda: compose("exec", "-T", "db", "sh", "-c", "cat /it || true") == "begun\n", "the command")
    assert "sleep 4321" in compose("top", "db")
    compose("rm")
    assert "slow" not in compose.ps()
