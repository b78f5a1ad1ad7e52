"""Suspend and resume: the processes rest on disk where the host has CRIU, else in memory, frozen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Launcher
from harness import hosts
from harness.guest import Guest
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import agent_with, kill_agent
from harness.servers import Json, Refused, Servers, wait_event
from harness.waiting import eventually

pytestmark = [
    pytest.mark.agent,
    pytest.mark.alone,
    pytest.mark.usefixtures("usable_afterwards"),
]


def _is_frozen(lab: Lab, server_id: str) -> bool:
    return lab.docker("inspect", "--format", "{{.State.Paused}}", f"nova-{server_id}") == "true"


def _rests(lab: Lab, server_id: str) -> bool:
    """On disk where the agent has a CRIU, which `mini up` fetches where it can: then nothing of it is in memory."""
    if not (lab.state / "criu/criu").exists():
        return _is_frozen(lab, server_id)
    pid, container = lab.docker("inspect", "--format", "{{.State.Pid}} {{.Id}}", f"nova-{server_id}").split()
    return pid == "0" and (lab.state / "agent/docker-checkpoints" / container / "whole").exists()


_COUNTING = 'n=0; while read word; do n=$((n + 1)); echo "$n $word"; done'
"""Counts in memory what comes over its connection."""


def _suspend(servers: Servers, admin_servers: Servers, server_id: str) -> Json:
    servers.action(server_id, "suspend")
    server = servers.wait(server_id, "SUSPENDED")
    assert wait_event(admin_servers, server_id, "suspend", "compute_suspend_instance").result == "Success"
    return server


def _resume(servers: Servers, admin_servers: Servers, server_id: str) -> None:
    servers.action(server_id, "resume")
    assert servers.wait(server_id, "ACTIVE")["OS-EXT-STS:power_state"] == 1
    assert wait_event(admin_servers, server_id, "resume", "compute_resume_instance").result == "Success"


@pytest.mark.both_doors
def test_a_suspended_server_rests_until_it_is_resumed(
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
    lab: Lab,
) -> None:
    server_id = launch("resting", networks=private_network, key_name=key_name)["id"]
    with guest_of(server_id).wait_ssh().talk(_COUNTING) as tell:
        assert tell("before") == "1 before"
        suspended = _suspend(servers, admin_servers, server_id)
        assert (suspended["OS-EXT-STS:power_state"], suspended["OS-EXT-STS:vm_state"]) == (7, "suspended")
        assert _rests(lab, server_id)
        for action in ("suspend", "os-start", "os-stop", "pause", "unpause"):
            with pytest.raises(Refused) as refusal:
                servers.action(server_id, action)
            assert refusal.value.status == 409, action

        # Neither a restart nor the comparison of power states wakes it up.
        log = Tail(lab.log(AGENT_PROGRAM))
        kill_agent(lab)
        hosts.wait_usable(admin_servers)
        if lab.door == "amqp":
            eventually(lambda: "every instance has been looked at" in log.text(), "the agent has looked at the servers")
        seen = servers.get(server_id)
        assert (seen["status"], seen["OS-EXT-STS:power_state"]) == ("SUSPENDED", 7)
        assert _rests(lab, server_id)

        _resume(servers, admin_servers, server_id)
        assert tell("after") == "2 after", "the connection, or what was in memory, is lost"

    # Nova lets a hard reboot wake it up too; a deletion asks nobody.
    _suspend(servers, admin_servers, server_id)
    servers.action(server_id, "reboot", {"type": "HARD"})
    servers.wait(server_id, "ACTIVE")
    assert not _rests(lab, server_id)
    _suspend(servers, admin_servers, server_id)
    servers.delete(server_id)
    servers.wait_gone(server_id)
    assert not list((lab.state / "agent/docker-checkpoints").glob("*")), "what was in memory stays on disk"


@pytest.mark.full
def test_a_deletion_ends_a_suspension_that_does_not_come_to_its_end(
    launch: Launcher, servers: Servers, admin_servers: Servers, lab: Lab, tmp_path: Path
) -> None:
    endless, begun = _endless_criu(lab, tmp_path)
    server_id = launch("hurried")["id"]
    with agent_with(lab, admin_servers, criu=str(endless)):
        servers.action(server_id, "suspend")
        eventually(begun.exists, "its way to disk begun")
        servers.delete(server_id)
        seen = _states_until_gone(lab, server_id)
    # Nova writes both of the latter at once, and then that the row has gone.
    assert seen <= {"active deleting", "deleted None"}, "its deletion is forgotten for a while"
    if lab.door == "amqp":  # nova-compute notes one of whatever a deletion overtakes.
        faults = "SELECT message FROM nova.instance_faults WHERE instance_uuid = %(id)s"
        assert lab.sql(faults, {"id": server_id}) == "", "its suspension has failed to a user who deletes it"
    assert not list((lab.state / "agent/docker-checkpoints").glob("*")), "what was in memory stays on disk"


@pytest.mark.full
@pytest.mark.amqp  # nova-compute never goes on with a suspension that a restart cut short.
def test_what_an_agent_before_this_one_began_to_suspend_is_not_suspended_yet_and_a_deletion_ends_it(
    launch: Launcher, servers: Servers, admin_servers: Servers, lab: Lab, tmp_path: Path
) -> None:
    endless, begun = _endless_criu(lab, tmp_path)
    server_id = launch("left")["id"]
    with agent_with(lab, admin_servers, criu=str(endless)):
        servers.action(server_id, "suspend")
        eventually(begun.exists, "its way to disk begun")
        log = Tail(lab.log(AGENT_PROGRAM))
        kill_agent(lab)
        hosts.wait_usable(admin_servers)
        eventually(lambda: "recovering" in log.text(), "the agent looks at the server")
        launch("beside")
        assert servers.get(server_id)["OS-EXT-STS:task_state"] == "suspending", "its dump is not over"
        servers.delete(server_id)
        servers.wait_gone(server_id)
    assert not list((lab.state / "agent/docker-checkpoints").glob("*")), "what was in memory stays on disk"


def _endless_criu(lab: Lab, directory: Path) -> tuple[Path, Path]:
    """A CRIU that stops as soon as it has begun to write, and a file that is there then."""
    real, begun = lab.state / "criu/criu", directory / "begun"
    assert real.exists(), "this cloud has no CRIU"
    images = lab.state / "agent/docker-checkpoints/*/images/*.img"
    endless = directory / "criu"
    # It is asked for its version first. Nobody hears of a dump's end that was not met before.
    endless.write_text(
        f'#!/bin/sh\n[ "$1" = swrk ] || exec {real} "$@"\nnice -n 19 {real} "$@" <&0 & criu=$!\n'
        f'while set -- {images}; [ ! -e "$1" ]; do\n[ -e /proc/$criu/exe ] || {{ wait $criu; exit $?; }}\ndone\n'
        f"kill -STOP $criu\n: >{begun}\nexec sleep 100000\n"
    )
    endless.chmod(0o755)
    return endless, begun


def _states_until_gone(lab: Lab, server_id: str) -> set[str]:
    """What Nova says of a server, its vm_state and its task, until it is deleted."""
    states, seen = "SELECT deleted, vm_state, task_state FROM nova.instances WHERE uuid = %(id)s", set[str]()

    def gone() -> bool:
        deleted, vm_state, task = lab.sql(states, {"id": server_id}).split("\t")
        seen.add(f"{vm_state} {task}")
        return deleted != "0"

    eventually(gone, f"server {server_id} deleted", interval=0.02)
    return seen


@pytest.mark.full
def test_what_was_frozen_and_has_ended_with_docker_is_started_afresh(
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    private_network: list[Json],
    guest_of: Callable[[str], Guest],
    key_name: str,
    lab: Lab,
) -> None:
    server_id = launch("frozen", networks=private_network, key_name=key_name)["id"]
    inside = guest_of(server_id).wait_ssh()
    inside.ssh("echo kept > /root/file")
    with agent_with(lab, admin_servers, suspend="freeze"):
        _end_frozen(servers, admin_servers, server_id, lab)
    assert inside.wait_ssh().ssh("cat /root/file") == "kept"


def _end_frozen(servers: Servers, admin_servers: Servers, server_id: str, lab: Lab) -> None:
    """Suspend it, end its container as a restart of Docker or of the host does, and resume it."""
    _suspend(servers, admin_servers, server_id)
    assert _is_frozen(lab, server_id)
    log = Tail(lab.log(AGENT_PROGRAM))
    lab.docker("kill", f"nova-{server_id}")
    servers.until(server_id, lambda: servers.get(server_id)["OS-EXT-STS:power_state"] == 4, "the end seen")
    assert servers.get(server_id)["status"] == "SUSPENDED"
    _resume(servers, admin_servers, server_id)
    assert "starting it afresh" in log.text()


@pytest.mark.full
def test_where_it_is_switched_off_a_suspension_is_refused_with_words_and_changes_nothing(
    launch: Launcher, servers: Servers, admin_servers: Servers, lab: Lab
) -> None:
    server_id = launch("restless")["id"]
    with agent_with(lab, admin_servers, suspend="refuse"):
        servers.action(server_id, "suspend")
        event = wait_event(admin_servers, server_id, "suspend", "compute_suspend_instance")
        assert event.result == "Error"
        assert "suspend = refuse" in str(event.details)
        assert servers.wait_idle(server_id)["status"] == "ACTIVE"
        assert not _is_frozen(lab, server_id)
