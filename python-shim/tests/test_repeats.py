"""Every change is asked for again when the agent goes away before its answer, and only for so long."""

import base64
import threading
from types import SimpleNamespace

import frames
import pytest
from conftest import IMAGE
from nova import exception
from nova.compute import task_states
from nova_docker import agent as service
from nova_docker.agent import Agent
from nova_docker.rpc import Address, CallError, Code
from nova_docker.shim import status_pb2
from nova_docker.v1 import driver_pb2 as api

CHANGES = {
    "DeleteGuest": lambda d, c, i, v: d.destroy(c, i, None),
    "StartGuest": lambda d, c, i, v: d.power_on(c, i, [v]),
    "StopGuest": lambda d, c, i, v: d.power_off(i, 10),
    "RebootGuest": lambda d, c, i, v: d.reboot(c, i, [v], "SOFT"),
    "PauseGuest": lambda d, c, i, v: d.pause(i),
    "UnpauseGuest": lambda d, c, i, v: d.unpause(i),
    "SettleGuest": lambda d, c, i, v: d.confirm_migration(c, None, i, [v]),
    "RestoreGuest": lambda d, c, i, v: d.finish_revert_migration(c, i, [v], None, None, False),
    "SuspendGuest": lambda d, c, i, v: d.suspend(c, i),
    "ResumeGuest": lambda d, c, i, v: d.resume(c, i, [v]),
    "PlugGuest": lambda d, c, i, v: d.plug_vifs(i, [v]),
    "UnplugGuest": lambda d, c, i, v: d.unplug_vifs(i, [v]),
    "AttachInterface": lambda d, c, i, v: d.attach_interface(c, i, None, v),
    "DetachInterface": lambda d, c, i, v: d.detach_interface(c, i, v),
}


def stopping():
    """The trailers of an agent that takes no more calls."""
    info = status_pb2.ErrorInfo(reason="STOPPING", domain="nova-docker-agent")
    status = status_pb2.Status(code=14, message="the agent is stopping")
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString())
    details = base64.b64encode(status.SerializeToString()).decode()
    return frames.block(("grpc-status", "14"), ("grpc-status-details-bin", details))


STOPPING = stopping()


class Scripts:
    """What the agent says to one call after the other, and what it was asked."""

    def __init__(self):
        self.asked = []

    def lost(self, *messages):
        """Says so much, and goes away."""

        def script(peer):
            self.asked.append(peer.request())
            if messages:
                peer.send(frames.headers(frames.RESPONSE), *(frames.data(frames.message(text)) for text in messages))

        return script

    def stopping(self, peer):
        self.asked.append(peer.request())
        peer.send(frames.trailers(frames.RESPONSE + STOPPING))

    def answered(self, *messages):
        def script(peer):
            self.asked.append(peer.request())
            peer.send(frames.answer(*(messages or (b"",))))

        return script


@pytest.fixture
def scripts():
    return Scripts()


@pytest.fixture
def clock(monkeypatch):
    """Time that goes on only while the client pauses, four seconds each time."""
    now = [1000.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(service, "_PAUSE", 4.0)


@pytest.mark.parametrize("method", CHANGES)
def test_a_change_that_loses_its_agent_is_asked_for_again(driver, context, instance, network_info, scripts, method):
    gone = scripts.lost()
    with frames.serving(gone, scripts.stopping, gone, scripts.answered()) as address:
        driver._agent.address, driver._agent._restart_timeout = address, 600
        CHANGES[method](driver, context, instance, network_info[0])
    assert len(scripts.asked) == 4
    assert len(set(scripts.asked)) == 1


def test_a_change_is_not_repeated_when_the_agent_answers_that_it_failed(fake_agent, driver, instance):
    driver._agent._restart_timeout = 600
    fake_agent.fail("PauseGuest", "UNAVAILABLE", "DOCKER_UNAVAILABLE", "Docker is down")
    with pytest.raises(exception.HypervisorUnavailable, match="Docker is down"):
        driver.pause(instance)
    assert fake_agent.methods() == ["PauseGuest"]


def test_a_change_is_repeated_for_restart_timeout_only(clock, monkeypatch):
    attempts = []

    def lose(*arguments, timeout, **options):
        attempts.append(timeout)
        raise CallError(Code.UNAVAILABLE, "lost the connection")

    monkeypatch.setattr(service, "Call", lose)
    client = Agent(Address("unix:///nowhere"), 3600, 3600, restart_timeout=10)
    with pytest.raises(CallError, match="lost the connection") as caught:
        client.call(service.PAUSE_GUEST, api.PauseGuestRequest(guest_id="a"))
    assert attempts == [3600, 3596, 3592]
    assert caught.value.lost_before and not caught.value.settled


def test_an_answer_is_waited_for_no_longer_than_the_call_may_take_with_its_repetitions(scripts, clock):
    request = api.GetHostResourcesRequest()
    with frames.serving(*[scripts.lost()] * 2) as address, pytest.raises(CallError):
        Agent(address, 7, 3600, restart_timeout=10).call(service.GET_HOST_RESOURCES, request)
    assert len(scripts.asked) == 2


def captured(stage):
    return api.SnapshotGuestResponse(stage=stage).SerializeToString()


def test_a_snapshot_that_is_begun_anew_takes_its_server_forward_only(driver, context, instance, scripts):
    stages = [captured(stage) for stage in (api.SNAPSHOT_STAGE_CAPTURED, api.SNAPSHOT_STAGE_UPLOADING)]
    states = []

    def update_task_state(task_state, expected_state=None):
        states.append(task_state)

    with frames.serving(scripts.lost(*stages), scripts.answered(*stages, captured(3))) as address:
        driver._agent.address, driver._agent._restart_timeout = address, 600
        driver.snapshot(context, instance, IMAGE, update_task_state)
    assert states == [task_states.IMAGE_PENDING_UPLOAD, task_states.IMAGE_UPLOADING]


def test_a_console_that_broke_off_is_not_told_twice(driver, context, instance, scripts):
    part = api.GetConsoleOutputResponse(chunk=b"a").SerializeToString()
    with frames.serving(scripts.lost(part)) as address:
        driver._agent.address, driver._agent._restart_timeout = address, 600
        with pytest.raises(exception.HypervisorUnavailable):
            driver.get_console_output(context, instance)


def test_a_delete_outlives_the_death_of_a_real_agent(mortal_agent, driver, context, instance):
    driver._agent.address, driver._agent._restart_timeout = mortal_agent.address, 600
    driver._agent._operation_timeout = 600
    mortal_agent.plan("DeleteGuest", die=True)

    def restart():
        mortal_agent.process.wait()
        mortal_agent.stop()
        mortal_agent.start()

    thread = threading.Thread(target=restart)
    thread.start()
    driver.destroy(context, instance, None)
    thread.join()
    assert mortal_agent.methods() == ["DeleteGuest"]
