"""What Nova does by itself for every compute service: groups, quotas, locks, tags, a host that is forced down."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness import hosts
from harness.lab import AGENT_PROGRAM, Lab
from harness.programs import without
from harness.servers import Refused, Servers
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection


@pytest.fixture
def group(servers: Servers, unique: Callable[[str], str]) -> Iterator[Callable[[str], str]]:
    """Makes a server group of a policy; returns its id."""
    made: list[str] = []

    def make(policy: str) -> str:
        body = {"server_group": {"name": unique(policy), "policy": policy}}
        made.append(servers.request("POST", "/os-server-groups", body)["server_group"]["id"])
        return made[-1]

    yield make
    for group_id in made:
        servers.request("DELETE", f"/os-server-groups/{group_id}")


def test_servers_that_must_not_be_together_are_not_launched_on_one_host(
    group: Callable[[str], str], launch: Launcher, servers: Servers
) -> None:
    group_id = group("anti-affinity")
    first = launch("first", group=group_id)
    second = launch.failing("second", group=group_id)
    assert "No valid host" in second["fault"]["message"]
    members = servers.request("GET", f"/os-server-groups/{group_id}")["server_group"]["members"]
    assert set(members) == {first["id"], second["id"]}


@pytest.mark.full
def test_servers_that_must_be_together_are(
    group: Callable[[str], str], launch: Launcher, admin_servers: Servers
) -> None:
    group_id = group("affinity")
    ids = [launch(stem, group=group_id)["id"] for stem in ("first", "second")]
    assert len({admin_servers.get(server_id)["OS-EXT-SRV-ATTR:host"] for server_id in ids}) == 1


@pytest.mark.agent
@pytest.mark.alone
@pytest.mark.amqp
@pytest.mark.full
@pytest.mark.usefixtures("usable_afterwards")
def test_of_servers_that_must_not_be_together_and_are_launched_at_once_one_is_built(
    lab: Lab, group: Callable[[str], str], launch: Launcher, servers: Servers
) -> None:
    """A scheduler knows nothing of a launch that waits for its host, but of those that it has itself sent there."""
    group_id = group("anti-affinity")
    launched = []
    with without(lab, AGENT_PROGRAM):
        for stem in ("first", "second"):
            server_id = launch.request(stem, group=group_id)
            eventually(lambda uuid=server_id: _is_chosen(lab, uuid), f"a host chosen for {server_id}")
            launched.append(server_id)
            with without(lab, "nova-scheduler"):
                pass
    ended = [servers.wait_settled(server_id) for server_id in launched]
    assert sorted(server["status"] for server in ended) == ["ACTIVE", "ERROR"]
    [failed] = [server for server in ended if server["status"] == "ERROR"]
    assert "Exhausted all hosts available for retrying" in failed["fault"]["message"]


def _is_chosen(lab: Lab, server_id: str) -> bool:
    """Whether the scheduler has claimed resources for the launch."""
    statement = (
        "SELECT c.uuid FROM placement.allocations a JOIN placement.consumers c ON c.uuid = a.consumer_id "
        "WHERE c.uuid = %(uuid)s"
    )
    return bool(lab.sql(statement, {"uuid": server_id}))


@pytest.fixture
def quota_of_one(admin_servers: Servers, tenant: Tenant) -> Iterator[None]:
    """The project may have one server."""
    path = f"/os-quota-sets/{tenant.project_id}"
    admin_servers.request("PUT", path, {"quota_set": {"instances": 1}})
    yield
    admin_servers.request("DELETE", path)


@pytest.mark.usefixtures("quota_of_one")
def test_a_server_beyond_the_quota_is_refused_until_another_one_is_deleted(
    launch: Launcher, servers: Servers, admin_servers: Servers, tenant: Tenant
) -> None:
    # Servers that tests of a module share count as well.
    own = len(servers.request("GET", "/servers")["servers"])
    admin_servers.request("PUT", f"/os-quota-sets/{tenant.project_id}", {"quota_set": {"instances": own + 1}})
    first = launch("first")
    with pytest.raises(Refused) as refusal:
        launch.request("second")
    assert refusal.value.status == 403
    assert "Quota exceeded for instances" in refusal.value.message
    servers.delete(first["id"])
    servers.wait_gone(first["id"])
    launch("second")


@pytest.mark.full
def test_a_locked_server_is_left_alone_until_it_is_unlocked(
    launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    server_id = launch("locked")["id"]
    admin_servers.action(server_id, "lock", {"locked_reason": "a test"})
    for action, arguments in (("os-stop", None), ("reboot", {"type": "HARD"}), ("pause", None)):
        with pytest.raises(Refused) as refusal:
            servers.action(server_id, action, arguments)
        assert refusal.value.status == 409
        assert "is locked" in refusal.value.message
    with pytest.raises(Refused):
        servers.request("DELETE", f"/servers/{server_id}")
    assert servers.get(server_id)["status"] == "ACTIVE"
    admin_servers.action(server_id, "unlock")
    servers.action(server_id, "os-stop")
    servers.wait(server_id, "SHUTOFF")


@pytest.mark.full
def test_servers_are_found_by_their_tags(launch: Launcher, servers: Servers, unique: Callable[[str], str]) -> None:
    tag = unique("tag")
    tagged, _ = launch("tagged")["id"], launch("untagged")["id"]

    def found() -> list[str]:
        return [server["id"] for server in servers.request("GET", f"/servers?tags={tag}")["servers"]]

    servers.request("PUT", f"/servers/{tagged}/tags/{tag}")
    assert servers.get(tagged)["tags"] == [tag]
    assert found() == [tagged]
    servers.request("DELETE", f"/servers/{tagged}/tags/{tag}")
    assert found() == []


@pytest.fixture
def forced_down(admin_servers: Servers) -> Iterator[None]:
    own = hosts.service(admin_servers)["id"]
    admin_servers.request("PUT", f"/os-services/{own}", {"forced_down": True})
    yield
    admin_servers.request("PUT", f"/os-services/{own}", {"forced_down": False})
    hosts.wait_usable(admin_servers)


@pytest.mark.alone
def test_nothing_is_launched_on_a_host_that_is_forced_down(
    forced_down: None, launch: Launcher, admin_servers: Servers
) -> None:
    eventually(lambda: hosts.service(admin_servers)["state"] == "down", "the service down")
    assert "No valid host" in launch.failing("unwanted")["fault"]["message"]
    # It reports as before, which changes nothing.
    before = hosts.service(admin_servers)["updated_at"]
    eventually(lambda: hosts.service(admin_servers)["updated_at"] != before, "another report")
    assert hosts.service(admin_servers)["state"] == "down"


@pytest.mark.agent
def test_a_flavor_that_needs_more_than_the_host_has_finds_no_host(
    launch: Launcher, admin: Connection, unique: Callable[[str], str]
) -> None:
    flavor = admin.compute.create_flavor(name=unique("huge"), vcpus=1, ram=64, disk=10_000_000)
    try:
        assert "No valid host" in launch.failing("huge", flavor=flavor.id)["fault"]["message"]
    finally:
        admin.compute.delete_flavor(flavor)
