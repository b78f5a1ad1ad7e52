"""Named volumes of a project on a host: shared, kept, removed with the last server that names them."""

from __future__ import annotations

import json

import pytest
from conftest import Launcher
from harness.lab import Lab
from harness.servers import Json, Servers
from harness.tenant import Tenant
from harness.waiting import eventually

pytestmark = pytest.mark.agent

WRITE = """sh -c 'echo "by the first" >/srv/data/file; echo "it has written"; exec sleep 9999'"""
READ = """sh -c 'echo "it reads: $(cat /mnt/file)"; touch /mnt/x || echo "and cannot write"; exec sleep 9999'"""


def _metadata(volume: str, place: str, command: str) -> Json:
    return {f"docker:volume:{volume}": place, "docker:entrypoint": command, "docker:remove_volumes": "true"}


def _volumes(lab: Lab, tenant: Tenant) -> list[str]:
    """Names of the project's volumes on the host."""
    label = f"label=org.openstack.nova.volume-project-id={tenant.project_id}"
    names = lab.docker("volume", "ls", "--quiet", "--filter", label).split()
    return [name.removeprefix(f"nova-volume.{tenant.project_id}.") for name in names]


@pytest.mark.both_doors
def test_servers_of_a_project_share_a_volume_that_the_delete_of_the_last_one_removes(
    lab: Lab, launch: Launcher, servers: Servers, tenant: Tenant
) -> None:
    first = launch("writer", metadata=_metadata("shared", "/srv/data", WRITE))["id"]
    servers.wait_console(first, "it has written")
    second = launch("reader", metadata=_metadata("shared", "/mnt:ro", READ))["id"]
    log = servers.wait_console(second, "and cannot write")
    assert "it reads: by the first" in log
    assert _volumes(lab, tenant) == ["shared"]

    servers.action(first, "reboot", {"type": "HARD"})
    servers.wait(first, "ACTIVE")
    servers.delete(first)
    servers.wait_gone(first)
    assert _volumes(lab, tenant) == ["shared"], "another server names it"

    # What counts is the metadata at the delete.
    servers.request("POST", f"/servers/{second}/metadata", {"metadata": {"docker:remove_volumes": "false"}})
    servers.delete(second)
    servers.wait_gone(second)
    assert _volumes(lab, tenant) == ["shared"], "nobody asked for its removal"

    third = launch("later", metadata=_metadata("shared", "/mnt:ro", READ))["id"]
    assert "it reads: by the first" in servers.wait_console(third, "and cannot write")
    servers.delete(third)
    servers.wait_gone(third)
    eventually(lambda: not _volumes(lab, tenant), "no volume of the project")


@pytest.mark.full
def test_a_path_or_a_name_that_is_no_volumes_ends_the_launch_with_no_volume_made(
    lab: Lab, launch: Launcher, tenant: Tenant
) -> None:
    metadata = {"docker:volume:.a": "/a", "docker:volume:b": "/proc/s3cret", "docker:volume:c": "/c"}
    server = launch.failing("wrong", metadata=metadata)
    fault = json.dumps(server["fault"])
    assert "docker:volume:.a: the name has characters" in fault
    assert "s3cret" not in fault
    assert _volumes(lab, tenant) == []
