"""From the start of nova-compute on: waiting for the agent, following its events, the record of the compute service."""

import logging
import os
import threading
import time
from types import SimpleNamespace

import pytest
from conftest import INSTANCE, eventually
from nova import exception, objects
from nova.compute import power_state
from nova.virt import event as virt_event
from nova.virt import fake
from nova_docker import watch
from nova_docker.agent import REVISION
from nova_docker.driver import DockerDriver
from nova_docker.rpc import Address
from nova_docker.version import VERSION

OTHER = "0f6b1c5e-8a56-4c5b-b0cd-41a7f9a4f6aa"
END = "11111111-8a56-4c5b-b0cd-41a7f9a4f6aa"
STARTED, STOPPED = virt_event.EVENT_LIFECYCLE_STARTED, virt_event.EVENT_LIFECYCLE_STOPPED
PAUSED, RESUMED = virt_event.EVENT_LIFECYCLE_PAUSED, virt_event.EVENT_LIFECYCLE_RESUMED


class Record(SimpleNamespace):
    """The record of the compute service in Nova's database."""

    def save(self):
        self.saved += 1


@pytest.fixture
def record(monkeypatch):
    record = Record(disabled=False, disabled_reason=None, saved=0, compute_node=SimpleNamespace(uuid="node"))
    monkeypatch.setattr(objects.Service, "get_by_compute_host", lambda context, host: record)
    return record


@pytest.fixture
def status(monkeypatch):
    """What Placement was told of the node's status."""
    told = []
    monkeypatch.setattr(
        fake.FakeVirtAPI,
        "update_compute_provider_status",
        lambda self, context, rp_uuid, enabled: told.append((rp_uuid, enabled)),
    )
    return told


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(watch, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(watch, "_LONGEST_PAUSE", 0.1)


@pytest.fixture
def no_servers(monkeypatch):
    """Nova's database is empty."""

    def find(context, uuid, expected_attrs=None):
        raise exception.InstanceNotFound(instance_id=uuid)

    monkeypatch.setattr(objects.Instance, "get_by_uuid", find)


@pytest.fixture
def started(driver, record, status, quick, no_servers):
    """The driver after init_host, and the events that the manager got of it."""
    events = []
    driver.register_event_listener(lambda event: events.append((event.get_instance_uuid(), event.get_transition())))

    def start(agent):
        driver._agent.address = agent.address
        driver.init_host("compute1")
        assert eventually(lambda: driver._watcher._states is not None)
        return events

    yield start
    driver.cleanup_host("compute1")


def guest_event(kind, guest=INSTANCE):
    return {"guest": {"guestId": guest, "kind": f"GUEST_EVENT_KIND_{kind}"}}


def test_what_happens_to_guests_reaches_the_manager(started, fake_agent):
    events = started(fake_agent)
    kinds = ("STARTED", "PAUSED", "RESUMED", "STOPPED")
    fake_agent.control(events=[guest_event(kind) for kind in kinds])
    expected = [(INSTANCE, transition) for transition in (STARTED, PAUSED, RESUMED, STOPPED)]
    assert eventually(lambda: len(events) == 4)
    assert events == expected


def test_what_happens_to_guests_is_looked_at_afterwards_and_tags_are_up_to_the_agent(started, driver, fake_agent):
    asked = []
    driver._looks.soon = lambda guest_id, ended=False: asked.append((guest_id, ended))
    driver._looks.now_and_then = asked.append
    fake_agent.plan(
        "GetServerInfo", answer={"agentVersion": "1", "revision": 5, "oldestRevision": 1, "stateTags": True}
    )
    fake_agent.control(guests={OTHER: "RUNNING"})
    started(fake_agent)
    assert driver._looks.writes_tags
    assert eventually(lambda: asked == [(OTHER, False)])
    kinds = ("STARTED", "HEALTH_CHANGED", "STOPPED", "DELETED")
    fake_agent.control(events=[guest_event(kind) for kind in kinds])
    assert eventually(lambda: len(asked) == 5)
    assert asked[1:] == [(INSTANCE, False), INSTANCE, (INSTANCE, True), (INSTANCE, False)]


def test_kinds_of_events_that_nova_has_no_word_for_are_left_out(started, fake_agent):
    events = started(fake_agent)
    fake_agent.control(events=[guest_event("DELETED"), {"guest": {"guestId": INSTANCE, "kind": 99}}])
    fake_agent.control(events=[guest_event("STARTED")])
    assert eventually(lambda: events)
    assert events == [(INSTANCE, STARTED)]


def test_a_guest_that_crashed_is_shut_down_for_as_long_as_nova_looks_at_its_end(driver, fake_agent, instance):
    fake_agent.control(guests={INSTANCE: "CRASHED"})
    seen = []
    driver.register_event_listener(lambda event: seen.append(driver.get_info(instance).state))
    driver._emit(INSTANCE, STOPPED)
    assert seen == [power_state.SHUTDOWN]
    assert driver.get_info(instance).state == power_state.CRASHED


def test_the_driver_says_who_it_is(started, fake_agent):
    started(fake_agent)
    hello = fake_agent.calls("GetServerInfo")[0]["request"]
    assert hello == {"client": f"nova-docker-shim/{VERSION}", "revision": REVISION, "oldest_revision": 1}


def test_what_was_missed_while_the_agent_was_away_is_told_when_it_is_back(started, mortal_agent):
    mortal_agent.control(guests={INSTANCE: "RUNNING", OTHER: "RUNNING"})
    events = started(mortal_agent)
    mortal_agent.stop()
    mortal_agent.start()
    mortal_agent.control(guests={INSTANCE: "STOPPED", OTHER: "RUNNING"})
    # The driver may have come back before the guests were there, and was told of nothing then.
    mortal_agent.control(events=[{"host": {"kind": "HOST_EVENT_KIND_DOCKER_BACK"}}])
    assert eventually(lambda: (INSTANCE, STOPPED) in events)
    mortal_agent.control(events=[guest_event("STARTED", OTHER)])
    assert eventually(lambda: events[-1] == (OTHER, STARTED))


def back(**guests):
    """Docker is back, and the guests do what is said."""
    return {
        "guests": guests,
        "events": [{"host": {"kind": "HOST_EVENT_KIND_DOCKER_BACK"}}, guest_event("RESUMED", END)],
    }


def test_a_removal_that_hangs_does_not_keep_events_back(started, driver, fake_agent):
    events = started(fake_agent)
    driver._builder.remains.add(OTHER)
    fake_agent.hold("DeleteGuest")
    fake_agent.control(events=[{"host": {"kind": "HOST_EVENT_KIND_DOCKER_BACK"}}, guest_event("PAUSED")])
    assert eventually(lambda: fake_agent.calls("DeleteGuest"))
    assert eventually(lambda: events == [(INSTANCE, PAUSED)])
    fake_agent.release()


def test_only_what_has_changed_is_told_after_a_gap(started, fake_agent):
    fake_agent.control(guests={INSTANCE: "RUNNING", OTHER: "RUNNING"})
    events = started(fake_agent)
    fake_agent.control(**back(**{INSTANCE: "STOPPED", OTHER: "RUNNING"}))
    assert eventually(lambda: (END, RESUMED) in events)
    assert events == [(INSTANCE, STOPPED), (END, RESUMED)]


def test_a_guest_that_is_again_what_it_was_before_its_last_event_is_told(started, fake_agent):
    fake_agent.control(guests={INSTANCE: "RUNNING"})
    events = started(fake_agent)
    fake_agent.control(events=[guest_event("STOPPED")])
    fake_agent.control(**back(**{INSTANCE: "RUNNING"}))
    assert eventually(lambda: (END, RESUMED) in events)
    assert events == [(INSTANCE, STOPPED), (INSTANCE, STARTED), (END, RESUMED)]


def test_an_agent_that_is_only_restarted_does_not_disable_the_host(started, mortal_agent, record, conf):
    conf.set_override("restart_timeout", 600, group="docker_grpc")
    started(mortal_agent)
    for _ in range(2):
        mortal_agent.stop()
        mortal_agent.start()
        assert eventually(lambda: mortal_agent.calls("WatchEvents"))
    assert record.saved == 0


def test_capabilities_are_asked_again_when_the_agent_comes_back(started, driver, mortal_agent, fake_agent):
    started(mortal_agent)
    assert driver.capabilities["supports_attach_interface"]
    fake_agent.plan("GetServerInfo", answer={"revision": 1, "oldestRevision": 1, "agentVersion": "0.2.0"})
    driver._agent.address = fake_agent.address
    mortal_agent.stop()
    assert eventually(lambda: not driver.capabilities["supports_attach_interface"])


def test_a_docker_that_is_lost_disables_the_host_until_it_is_back(started, fake_agent, record, status):
    started(fake_agent)
    fake_agent.control(events=[{"host": {"kind": "HOST_EVENT_KIND_DOCKER_LOST", "message": "Docker is down"}}])
    assert eventually(lambda: record.disabled_reason == "AUTO: Docker is down")
    assert record.disabled
    fake_agent.control(events=[{"host": {"kind": "HOST_EVENT_KIND_DOCKER_BACK"}}])
    assert eventually(lambda: record.disabled_reason is None)
    assert not record.disabled
    assert eventually(lambda: status == [("node", False), ("node", True)])


def test_a_host_that_an_operator_has_disabled_stays_as_it_is(started, fake_agent, record, status):
    record.disabled, record.disabled_reason = True, "memory is being replaced"
    events = started(fake_agent)
    fake_agent.control(
        events=[{"host": {"kind": f"HOST_EVENT_KIND_DOCKER_{what}"}} for what in ("LOST", "BACK")]
        + [guest_event("STARTED")]
    )
    assert eventually(lambda: events)
    assert (record.disabled, record.disabled_reason) == (True, "memory is being replaced")
    assert (record.saved, status) == (0, [])


def test_a_host_that_was_left_disabled_is_enabled_when_all_is_well(started, fake_agent, record):
    record.disabled, record.disabled_reason = True, "AUTO: Docker is down"
    started(fake_agent)
    assert eventually(lambda: not record.disabled)


def test_a_docker_that_is_down_when_the_agent_comes_back_disables_the_host(started, mortal_agent, record):
    started(mortal_agent)
    mortal_agent.stop()
    assert eventually(lambda: "nova-docker-agent cannot be used" in (record.disabled_reason or ""))
    assert record.disabled
    mortal_agent.start()
    assert eventually(lambda: not record.disabled)


@pytest.mark.parametrize("problem", [exception.ComputeHostNotFound(host="x"), RuntimeError("no conductor")])
def test_a_record_that_cannot_be_changed_ends_nothing(started, fake_agent, monkeypatch, problem):
    def fail(context, host):
        raise problem

    monkeypatch.setattr(objects.Service, "get_by_compute_host", fail)
    events = started(fake_agent)
    fake_agent.control(events=[{"host": {"kind": "HOST_EVENT_KIND_DOCKER_LOST"}}, guest_event("STARTED")])
    assert eventually(lambda: events == [(INSTANCE, STARTED)])


def test_a_manager_that_fails_on_an_event_gets_the_next_one(started, fake_agent, driver):
    started(fake_agent)
    seen = []

    def fail(event):
        seen.append(event.get_transition())
        raise RuntimeError("the manager fails")

    driver.register_event_listener(fail)
    fake_agent.control(events=[guest_event("STARTED"), guest_event("STOPPED")])
    assert eventually(lambda: seen == [STARTED, STOPPED])


def test_listening_ends_with_nova_compute(driver, fake_agent, record):
    driver.init_host("compute1")
    thread = driver._watcher._thread
    assert eventually(lambda: fake_agent.calls("WatchEvents"))
    driver.cleanup_host("compute1")
    thread.join(600)
    assert not thread.is_alive()
    assert eventually(lambda: fake_agent.control()["cancelled"] == ["WatchEvents"])


def test_an_agent_that_is_absent_is_waited_for_with_advice(conf, driver, mortal_agent, record, caplog, monkeypatch):
    driver._agent.address = mortal_agent.address
    mortal_agent.stop()
    pauses = []
    sleep = time.sleep

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 7:
            mortal_agent.start()
        sleep(0)

    monkeypatch.setattr("nova_docker.driver.host.time.sleep", pause)
    with caplog.at_level(logging.WARNING):
        driver._wait_for_agent()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert mortal_agent.address.text in caplog.text
    assert "Is it running" in caplog.text


def test_a_docker_that_is_down_at_the_start_is_waited_for(driver, fake_agent, monkeypatch):
    fake_agent.plan(
        "ListGuests", times=2, fail={"code": "UNAVAILABLE", "reason": "DOCKER_UNAVAILABLE", "message": "down"}
    )
    pauses = []
    monkeypatch.setattr("nova_docker.driver.host.time.sleep", pauses.append)
    driver._wait_for_agent()
    assert pauses == [1, 2]


@pytest.mark.parametrize(
    ("answer", "upgrade"),
    [
        ({"agentVersion": "9.0", "revision": 99, "oldestRevision": REVISION + 1}, "upgrade nova-docker-shim"),
        ({"agentVersion": "0.0.1", "revision": 0, "oldestRevision": 0}, "upgrade nova-docker-agent 0.0.1"),
    ],
)
def test_an_agent_of_another_time_is_refused(driver, fake_agent, answer, upgrade):
    fake_agent.plan("GetServerInfo", answer=answer)
    with pytest.raises(exception.NovaException, match=upgrade):
        driver.init_host("compute1")


def test_an_agent_that_refuses_this_driver_ends_the_start_with_its_sentence(driver, fake_agent):
    fake_agent.fail("GetServerInfo", "FAILED_PRECONDITION", "VERSION_UNSUPPORTED", "upgrade the client")
    with pytest.raises(exception.NovaException, match="upgrade the client"):
        driver.init_host("compute1")


def test_a_loose_socket_ends_the_start(driver, silent_socket):
    os.chmod(silent_socket, 0o666)  # noqa: S103
    driver._agent.address = Address(f"unix://{silent_socket}")
    with pytest.raises(exception.InvalidConfiguration, match=f"{silent_socket} has mode 0666"):
        driver.init_host("compute1")


def test_an_address_that_means_nothing_ends_the_start(conf):
    conf.set_override("address", "tcp://localhost:1", group="docker_grpc")
    with pytest.raises(exception.InvalidConfiguration, match="tcp://localhost:1"):
        DockerDriver(fake.FakeVirtAPI())


def test_nova_compute_works_on_while_it_waits_for_the_agent(driver, mortal_agent, record, monkeypatch):
    """Other threads run, whichever kind they are."""
    driver._agent.address = mortal_agent.address
    mortal_agent.stop()
    pauses = threading.Event()

    def pause(seconds):
        pauses.set()
        sleep(0.01)

    sleep = time.sleep
    monkeypatch.setattr("nova_docker.driver.host.time", SimpleNamespace(sleep=pause))
    waiting = threading.Thread(target=driver._wait_for_agent)
    waiting.start()
    assert pauses.wait(600)
    assert waiting.is_alive()
    mortal_agent.start()
    waiting.join(timeout=600)
    assert not waiting.is_alive()
