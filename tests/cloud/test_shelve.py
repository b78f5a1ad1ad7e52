"""Shelve, offload, unshelve: a server leaves its host and comes back from an image of itself."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness import hosts
from harness.archives import Archive
from harness.guest import Guest
from harness.lab import AGENT_PROGRAM, Lab, Side
from harness.logs import Tail
from harness.programs import kill_agent, setting
from harness.servers import Json, Servers, wait_event
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent]


def _held(admin: Connection, server_id: str) -> Json:
    """What Placement holds for a server."""
    return admin.placement.get(f"/allocations/{server_id}").json()["allocations"]


def _shelved_images(user: Connection, server_id: str) -> list[str]:
    images = user.image.images(instance_uuid=server_id)
    return [image.id for image in images if image.name.endswith("-shelved")]


def _host(admin_servers: Servers, server_id: str) -> str | None:
    return admin_servers.get(server_id)["OS-EXT-SRV-ATTR:host"]


def _wait_shelved(servers: Servers, admin_servers: Servers, server_id: str) -> Json:
    """On the shelf and off the host, and the action has ended well."""
    shelved = servers.wait(server_id, "SHELVED_OFFLOADED")
    assert wait_event(admin_servers, server_id, "shelve", "compute_shelve_instance").result == "Success"
    return shelved


@contextlib.contextmanager
def _stopped(process: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


@pytest.mark.both_doors
def test_a_shelved_server_frees_its_host_and_comes_back_as_it_was(
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    admin: Connection,
    user: Connection,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    unique: Callable[[str], str],
    lab: Lab,
    key_name: str,
    add_image: Callable[..., str],
    tiny: Archive,
) -> None:
    image = add_image(tiny.configured(Volumes={"/data": {}}).tar(), "volume")
    port = user.network.create_port(name=unique("port"), network_id=private_network[0]["uuid"])
    try:
        networks = [*private_network, {"port": port.id}]
        server_id = launch("shelved", image=image, networks=networks, key_name=key_name)["id"]
        before = servers.get(server_id)
        held, macs = _held(admin, server_id), {face["mac_addr"] for face in servers.interfaces(server_id)}
        assert held
        guest_of(server_id).wait_ssh().ssh("echo kept > /root/file; echo data > /data/file")

        servers.action(server_id, "shelve")
        shelved = _wait_shelved(servers, admin_servers, server_id)
        assert (shelved["OS-EXT-STS:vm_state"], shelved["OS-EXT-STS:power_state"]) == ("shelved_offloaded", 4)
        assert shelved["addresses"] == before["addresses"]
        assert _held(admin, server_id) == {}
        eventually(lambda: _host(admin_servers, server_id) is None, "a server without a host")
        assert f"nova-{server_id}" not in lab.docker("ps", "-a", "--format", "{{.Names}}")
        assert f"nova-{server_id}" not in lab.run(["ip", "netns", "list"])
        ports = list(admin.network.ports(device_id=server_id))
        assert [port.binding_vif_type for port in ports] == ["unbound", "unbound"]
        [image_id] = _shelved_images(user, server_id)
        assert user.image.get_image(image_id).status == "active"

        servers.action(server_id, "unshelve")
        back = servers.wait(server_id, "ACTIVE")
        assert wait_event(admin_servers, server_id, "unshelve", "compute_unshelve_instance").result == "Success"
        assert back["addresses"] == before["addresses"]
        assert back["image"]["id"] == before["image"]["id"], "it is still of the image that it was launched from"
        assert back["OS-EXT-STS:power_state"] == 1
        assert {face["mac_addr"] for face in servers.interfaces(server_id)} == macs
        assert guest_of(server_id).wait_ssh().ssh("cat /root/file /data/file").split() == ["kept", "data"]
        assert _held(admin, server_id).keys() == held.keys()
        assert _host(admin_servers, server_id) == servers.side.host
        eventually(lambda: _shelved_images(user, server_id) == [], "the image gone")
        servers.delete(server_id)
        servers.wait_gone(server_id)
        assert user.network.get_port(port.id).device_id == "", "the user's port is the user's again"
    finally:
        user.network.delete_port(port, ignore_missing=True)


def test_a_server_that_is_deleted_on_its_way_to_the_shelf_or_on_it_leaves_nothing(
    launch: Launcher, servers: Servers, admin_servers: Servers, user: Connection, private_network: list[Json]
) -> None:
    hasty, patient = launch("hasty")["id"], launch("patient", networks=private_network)["id"]
    servers.action(hasty, "shelve")
    servers.delete(hasty)
    servers.action(patient, "shelve")
    _wait_shelved(servers, admin_servers, patient)
    servers.delete(patient)
    for server_id in (hasty, patient):
        servers.wait_gone(server_id)
        eventually(lambda server_id=server_id: _shelved_images(user, server_id) == [], "no image")  # type: ignore[misc]


@pytest.mark.full
@pytest.mark.amqp  # A stock nova-compute deletes the image once, or never.
def test_an_image_that_could_not_be_deleted_goes_with_the_next_shelving_or_the_server(
    launch: Launcher, servers: Servers, admin_servers: Servers, user: Connection, lab: Lab
) -> None:
    server_id = launch("again")["id"]
    for _ in range(2):
        log = Tail(lab.log(AGENT_PROGRAM))
        servers.action(server_id, "shelve")
        _wait_shelved(servers, admin_servers, server_id)
        [image] = _shelved_images(user, server_id)
        user.image.update_image(image, is_protected=True)
        servers.action(server_id, "unshelve")
        servers.wait(server_id, "ACTIVE")
        eventually(lambda log=log: "stays until the next start" in log.text(), "Glance refuses to delete it")  # type: ignore[misc]
        user.image.update_image(image, is_protected=False)
        assert _shelved_images(user, server_id) == [image], "that of the time before is gone"
    servers.delete(server_id)
    servers.wait_gone(server_id)
    assert _shelved_images(user, server_id) == []


@pytest.mark.full
@pytest.mark.alone
@pytest.mark.amqp  # A stock nova-compute deletes a server only when its unshelving has ended.
def test_a_server_that_is_deleted_on_its_way_back_leaves_nothing(
    launch: Launcher, servers: Servers, admin_servers: Servers, private_network: list[Json], lab: Lab
) -> None:
    server_id = launch("halfway", networks=private_network)["id"]
    servers.action(server_id, "shelve")
    _wait_shelved(servers, admin_servers, server_id)
    # An Open vSwitch that does not answer holds the unshelving where it is.
    with _stopped(lab.pid("ovsdb")):
        servers.action(server_id, "unshelve")
        eventually(lambda: _host(admin_servers, server_id) is not None, "a server of this host")
        servers.delete(server_id)
    servers.wait_gone(server_id)


@pytest.mark.full
@pytest.mark.alone
@pytest.mark.amqp  # A stock nova-compute counts the time by itself.
@pytest.mark.usefixtures("usable_afterwards")
def test_a_shelved_server_stays_on_its_host_for_as_long_as_the_operator_says(
    launch: Launcher, servers: Servers, admin_servers: Servers, user: Connection, lab: Lab
) -> None:
    server_id = launch("kept")["id"]
    configuration = lab.state / "etc" / f"{AGENT_PROGRAM}.conf"

    def restart() -> None:
        log = Tail(lab.log(AGENT_PROGRAM))
        lab.supervisorctl("restart", AGENT_PROGRAM)
        eventually(lambda: "every instance has been looked at" in log.text(), "the agent has looked at the servers")
        hosts.wait_usable(admin_servers)

    def is_here() -> bool:
        return f"nova-{server_id}" in lab.docker("ps", "-a", "--format", "{{.Names}}")

    try:
        with setting(configuration, "DEFAULT", "shelved_offload_time", "-1"):
            restart()
            servers.action(server_id, "shelve")
            shelved = servers.wait(server_id, "SHELVED")
            assert shelved["OS-EXT-STS:power_state"] == 4
            assert _host(admin_servers, server_id) == servers.side.host
            assert is_here()
            # A start, and no more.
            servers.action(server_id, "unshelve")
            servers.wait(server_id, "ACTIVE")
            eventually(lambda: _shelved_images(user, server_id) == [], "the image gone")
            servers.action(server_id, "shelve")
            servers.wait(server_id, "SHELVED")
            admin_servers.action(server_id, "shelveOffload")
            servers.wait(server_id, "SHELVED_OFFLOADED")
            event = wait_event(admin_servers, server_id, "shelveOffload", "compute_shelve_offload_instance")
            assert event.result == "Success"
            assert not is_here()
            servers.action(server_id, "unshelve")
            servers.wait(server_id, "ACTIVE")
        with (
            setting(configuration, "DEFAULT", "shelved_offload_time", "1"),
            setting(configuration, "DEFAULT", "shelved_poll_interval", "1"),
        ):
            restart()
            servers.action(server_id, "shelve")
            servers.wait(server_id, "SHELVED_OFFLOADED")
            assert not is_here()
    finally:
        restart()


@pytest.mark.alone
@pytest.mark.amqp  # What stock nova-compute does when its images are gone is its own.
def test_a_shelving_without_its_image_leaves_the_server_stopped_and_an_unshelving_without_it_leaves_it_shelved(
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    admin: Connection,
    user: Connection,
    lab: Lab,
    side: Side,
) -> None:
    server_id = launch("imageless")["id"]
    with _stopped(lab.pid(side.program)):
        servers.action(server_id, "shelve")
        [image_id] = eventually(lambda: _shelved_images(user, server_id), "the image queued")
        user.image.delete_image(image_id)
    event = wait_event(admin_servers, server_id, "shelve", "compute_shelve_instance")
    assert event.result == "Error"
    # Its container was stopped for the snapshot, and that is what Nova then says.
    servers.wait(server_id, "SHUTOFF")
    servers.action(server_id, "os-start")
    servers.wait(server_id, "ACTIVE")

    servers.action(server_id, "shelve")
    _wait_shelved(servers, admin_servers, server_id)
    with _stopped(lab.pid(side.program)):
        servers.action(server_id, "unshelve")
        # The conductor has found the image, and the scheduler the host.
        eventually(lambda: _held(admin, server_id), "a claim")
        [image_id] = _shelved_images(user, server_id)
        user.image.delete_image(image_id)
    event = wait_event(admin_servers, server_id, "unshelve", "compute_unshelve_instance")
    assert event.result == "Error"
    assert image_id in str(event.details)
    assert servers.wait_idle(server_id)["status"] == "SHELVED_OFFLOADED"
    assert (_host(admin_servers, server_id), _held(admin, server_id)) == (None, {})


@pytest.mark.alone
@pytest.mark.amqp  # nova-compute asks an agent that comes back again.
@pytest.mark.usefixtures("usable_afterwards")
def test_an_agent_that_dies_while_it_shelves_or_unshelves_leaves_a_server_that_can_be_asked_again(
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    admin: Connection,
    user: Connection,
    private_network: list[Json],
    lab: Lab,
) -> None:
    server_id = launch("interrupted", networks=private_network)["id"]
    log = Tail(lab.log(AGENT_PROGRAM))
    # A Docker that does not answer holds the shelving where it is.
    with _stopped(lab.pid("dockerd")):
        servers.action(server_id, "shelve")
        eventually(lambda: f'name="compute_shelve_instance" instance={server_id}' in log.text(), "the agent at work")
        kill_agent(lab)
    event = wait_event(admin_servers, server_id, "shelve", "compute_shelve_instance")
    assert (event.result, "restarted" in str(event.details)) == ("Error", True)
    assert servers.wait_idle(server_id)["status"] in ("ACTIVE", "SHUTOFF")
    assert _shelved_images(user, server_id) == [], "the image that was never filled"
    assert _held(admin, server_id)

    servers.action(server_id, "shelve")
    _wait_shelved(servers, admin_servers, server_id)
    log = Tail(lab.log(AGENT_PROGRAM))
    # An Open vSwitch that does not answer holds the unshelving.
    with _stopped(lab.pid("ovsdb")):
        servers.action(server_id, "unshelve")
        eventually(lambda: f'name="compute_unshelve_instance" instance={server_id}' in log.text(), "the agent at work")
        eventually(lambda: _host(admin_servers, server_id) is not None, "a server of this host")
        kill_agent(lab)
    event = wait_event(admin_servers, server_id, "unshelve", "compute_unshelve_instance")
    assert (event.result, "restarted" in str(event.details)) == ("Error", True)
    assert servers.wait_idle(server_id)["status"] == "SHELVED_OFFLOADED"
    assert (_host(admin_servers, server_id), _held(admin, server_id)) == (None, {})
    assert [port.binding_vif_type for port in admin.network.ports(device_id=server_id)] == ["unbound"]
    assert f"nova-{server_id}" not in lab.docker("ps", "-a", "--format", "{{.Names}}")

    servers.action(server_id, "unshelve")
    servers.wait(server_id, "ACTIVE")
