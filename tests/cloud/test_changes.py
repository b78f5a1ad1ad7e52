"""What a flavor lets users choose, what a hard reboot takes of changed metadata, and scripts of user data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness.lab import Lab, Side
from harness.servers import Servers, wait_failure
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.both_doors, pytest.mark.full]

SAY = """sh -c '
echo "level $LEVEL, devices $(ls -d /dev/fuse 2>/dev/null), capabilities $(grep CapBnd /proc/1/status | cut -f 2)"
echo "runs: $(echo x >>/runs; wc -l </runs)"
exec sleep 9999'"""
SCRIPT = """#!/bin/sh
echo "a script of $(id -u) at $LEVEL"
exit 3
"""


@pytest.fixture
def flavor(admin: Connection, side: Side, unique: Callable[[str], str]) -> Iterator[str]:
    """The usual flavor, which lets its users choose."""
    usual = admin.compute.find_flavor(side.flavor, ignore_missing=False)
    specs = admin.compute.fetch_flavor_extra_specs(usual).extra_specs
    name = unique("choice")
    made = admin.compute.create_flavor(name=name, vcpus=usual.vcpus, ram=usual.ram, disk=usual.disk)
    allow = "devices:/dev/fuse, cap_add:NET_ADMIN, runtime, host_mount"
    admin.compute.create_flavor_extra_specs(made, {**specs, "docker:allow": allow})
    yield name
    admin.compute.delete_flavor(made)


def test_users_choose_what_the_flavor_allows_and_a_hard_reboot_takes_what_has_changed(
    launch: Launcher, servers: Servers, admin_servers: Servers, lab: Lab, flavor: str
) -> None:
    greedy = {"docker:cap_add": "SYS_ADMIN", "docker:privileged": "true"}
    message = launch.failing("greedy", flavor=flavor, metadata=greedy)["fault"]["message"]
    assert "docker:cap_add: this flavor lets users choose only devices:/dev/fuse, cap_add:NET_ADMIN" in message
    metadata = {
        "docker:entrypoint": SAY,
        "docker:env:LEVEL": "one",
        "docker:devices": "/dev/fuse",
        "docker:cap_add": "net_admin",
    }
    server = launch("choosing", flavor=flavor, metadata=metadata)
    server_id = server["id"]
    console = servers.wait_console(server_id, "runs: 1")
    assert "level one, devices /dev/fuse" in console
    addresses = servers.addresses(server_id)

    def change(**values: str) -> None:
        said = {f"docker:{key.replace('__', ':')}": value for key, value in values.items()}
        servers.request("POST", f"/servers/{server_id}/metadata", {"metadata": said})
        servers.action(server_id, "reboot", {"type": "HARD"})

    change(env__LEVEL="two")
    console = servers.wait_console(server_id, "runs: 2")
    assert "level two, devices /dev/fuse" in console, "the files are kept"
    servers.wait_idle(server_id)
    assert servers.get(server_id)["status"] == "ACTIVE"
    assert servers.addresses(server_id) == addresses

    change(tty="perhaps")
    if lab.door == "amqp":
        # nova-compute counts a reboot as done after which the server runs.
        assert "reboot" in wait_failure(admin_servers, server_id).name
    servers.wait_idle(server_id)
    assert servers.get(server_id)["status"] == "ACTIVE"
    assert "runs: 3" not in servers.console(server_id), "it runs as it ran"

    change(tty="false")
    servers.wait_console(server_id, "runs: 3")
    servers.wait_idle(server_id)


def test_a_script_runs_once_and_its_failure_is_seen(launch: Launcher, servers: Servers) -> None:
    metadata = {"docker:run_user_data": "true", "docker:env:LEVEL": "one", "docker:entrypoint": SAY}
    server_id = launch("scripted", metadata=metadata, user_data=SCRIPT)["id"]
    servers.wait_console(server_id, "a script of 0 at one")
    servers.wait_console(server_id, "the script of the user data has ended with exit code 3")
    eventually(lambda: "user_data:3" in servers.get(server_id)["tags"], "the tag of the script")
    assert servers.get(server_id)["status"] == "ACTIVE"
    servers.action(server_id, "reboot", {"type": "HARD"})
    servers.wait_console(server_id, "runs: 2")
    servers.wait_idle(server_id)
    assert servers.console(server_id).count("a script of 0") == 1
