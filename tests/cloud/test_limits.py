"""What a server may use, seen from inside and in Docker's records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.lab import Lab, Side
from harness.servers import Json, Servers
from openstack.connection import Connection

pytestmark = pytest.mark.agent

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(module_launch: Launcher) -> Json:
    return module_launch("limited")


@pytest.fixture(scope="module")
def boot_log(server: Json, servers: Servers) -> str:
    return servers.wait_console(server["id"], "ready after")


@pytest.fixture(scope="module")
def host_config(server: Json, lab: Lab) -> Json:
    return json.loads(lab.docker("inspect", f"nova-{server['id']}"))[0]["HostConfig"]


@pytest.fixture(scope="module")
def flavor(user: Connection, side: Side) -> object:
    return user.compute.find_flavor(side.flavor)


def _said(log: str, what: str) -> str:
    match = re.search(rf"^\[\d+\] {re.escape(what)}: *(.*)$", log, re.MULTILINE)
    assert match, f"the boot log does not say {what!r}"
    return match.group(1)


@pytest.mark.both_doors
def test_the_memory_is_the_flavors(boot_log: str, host_config: Json, flavor: object) -> None:
    assert _said(boot_log, "memory limit") == f"{flavor.ram * MIB} bytes"  # type: ignore[attr-defined]
    # Regression: a predecessor set no limit to swap, which doubles what a container may take.
    assert host_config["MemorySwap"] == host_config["Memory"]


@pytest.mark.both_doors
def test_the_processors_are_the_flavors(host_config: Json, flavor: object) -> None:
    quota = (
        host_config["NanoCpus"] / 1e9 if host_config["NanoCpus"] else host_config["CpuQuota"] / host_config["CpuPeriod"]
    )
    assert quota == flavor.vcpus  # type: ignore[attr-defined]


def test_processes_are_limited(boot_log: str) -> None:
    assert _said(boot_log, "process limit") == "4096"


def test_the_log_is_bounded(host_config: Json) -> None:
    """Docker keeps logs of any length by default."""
    assert host_config["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "2"}


def test_privileges_are_dropped(boot_log: str, host_config: Json) -> None:
    assert _said(boot_log, "no new privileges") == "1"
    assert _said(boot_log, "seccomp mode") == "2"
    capabilities = int(_said(boot_log, "capabilities"), 16)
    forbidden = {
        "CAP_SYS_ADMIN": 21,
        "CAP_SYS_MODULE": 16,
        "CAP_SYS_PTRACE": 19,
        "CAP_SYS_RAWIO": 17,
        "CAP_SYS_TIME": 25,
    }
    assert [name for name, bit in forbidden.items() if capabilities >> bit & 1] == []
    assert not host_config["Privileged"]


def test_nothing_of_the_host_is_mounted(server: Json, lab: Lab) -> None:
    mounts = json.loads(lab.docker("inspect", f"nova-{server['id']}"))[0]["Mounts"]
    own = str(lab.state / "agent")
    assert [mount for mount in mounts if mount["Type"] == "bind" and not mount["Source"].startswith(own)] == []


def test_a_server_that_takes_too_much_memory_is_ended(
    launch: Launcher, servers: Servers, add_image: Callable[..., str], tiny: Archive, lab: Lab
) -> None:
    command = """
        trap 'go=1' USR1; echo waiting
        while [ -z "$go" ]; do sleep 1; done
        s=xxxxxxxxxxxxxxxx; while :; do s=$s$s; done
    """
    image = add_image(tiny.running("sh", "-c", command).tar(), "greedy")
    server = launch("greedy", image=image)
    servers.wait_console(server["id"], "waiting")
    lab.docker("kill", "--signal", "USR1", f"nova-{server['id']}")
    servers.wait(server["id"], "SHUTOFF")
