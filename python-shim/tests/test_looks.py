"""What follows when something has happened to a guest: tags, and an end that Nova has let pass."""

import pytest
from conftest import INSTANCE, eventually
from nova import exception, objects
from nova.compute import vm_states
from nova.virt import event as virt_event
from nova_docker import looks, tags
from nova_docker.v1 import guest_pb2, inside_pb2

OTHER = "0f6b1c5e-8a56-4c5b-b0cd-41a7f9a4f6aa"
STOPPED = virt_event.EVENT_LIFECYCLE_STOPPED


class Nova:
    """One server and its tags, as they are in Nova's database."""

    def __init__(self, context):
        self.context = context
        self.tags = {"web"}
        self.task, self.vm_state, self.host = None, vm_states.ACTIVE, "compute1"
        self.writes = []
        self.broken = 0

    def instance(self, context, uuid, expected_attrs=None):
        if uuid != INSTANCE:
            raise exception.InstanceNotFound(instance_id=uuid)
        if self.broken:
            self.broken -= 1
            raise exception.NovaException("the database is away")
        rows = [objects.Tag(resource_id=uuid, tag=tag) for tag in sorted(self.tags)]
        found = objects.Instance(context, uuid=uuid, host=self.host, task_state=self.task, vm_state=self.vm_state)
        found.tags = objects.TagList(objects=rows)
        return found

    def add(self, row):
        self.tags.add(row.tag)
        self.writes.append(row.tag)

    def remove(self, context, resource_id, name):
        if name not in self.tags:
            raise exception.InstanceTagNotFound(instance_id=resource_id, tag=name)
        self.tags.remove(name)


@pytest.fixture
def nova(context, monkeypatch):
    nova = Nova(context)
    monkeypatch.setattr(objects.Instance, "get_by_uuid", nova.instance)
    monkeypatch.setattr(objects.Tag, "create", lambda row: nova.add(row))
    monkeypatch.setattr(objects.Tag, "destroy", nova.remove)
    for name in ("_SETTLE", "_FIRST_PAUSE", "_LONGEST_PAUSE", "_RETRY"):
        monkeypatch.setattr(looks, name, 0.02)
    return nova


@pytest.fixture
def events(driver):
    events = []
    driver.register_event_listener(lambda event: events.append((event.get_instance_uuid(), event.get_transition())))
    return events


@pytest.fixture
def look(driver, nova, events):
    """The driver's looks at guests, under way and with tags."""
    driver._looks.writes_tags = True
    driver._looks.start()
    yield driver._looks
    driver._looks.stop()


def guest(state, exit_code=None, health=inside_pb2.GUEST_HEALTH_UNSPECIFIED):
    made = guest_pb2.GuestState(guest_id=INSTANCE, power_state=state, health=health)
    if exit_code is not None:
        made.exit_code = exit_code
    return made


def test_an_exit_code_is_told_of_a_guest_that_has_ended_and_health_of_one_that_has_a_check():
    assert tags.wanted(guest(guest_pb2.POWER_STATE_STOPPED, 0)) == ["exit:0"]
    assert tags.wanted(guest(guest_pb2.POWER_STATE_CRASHED, 137)) == ["exit:137"]
    healthy = guest(guest_pb2.POWER_STATE_RUNNING, health=inside_pb2.GUEST_HEALTH_HEALTHY)
    assert tags.wanted(healthy) == ["health:healthy"]
    assert tags.wanted(guest(guest_pb2.POWER_STATE_RUNNING)) == tags.wanted(None) == []


def test_only_tags_in_exactly_our_form_are_replaced_and_never_more_written_than_nova_allows():
    users = ["exit:", "exit:007", "exit:soon", "health:poor", "web"]
    stale, new, without_room = tags.changes([*users, "exit:1", "health:starting"], ["exit:0"])
    assert (stale, new, without_room) == (["exit:1", "health:starting"], ["exit:0"], [])
    assert tags.changes([*users, "exit:0"], ["exit:0"]) == ([], [], [])
    many = [f"user:{number}" for number in range(tags.MOST - 1)]
    assert tags.changes(many, ["exit:0", "health:healthy"]) == ([], ["exit:0"], ["health:healthy"])
    assert tags.changes([*many, "x"], ["exit:0"]) == ([], [], ["exit:0"])
    assert tags.changes([*many, "exit:1"], ["exit:0"]) == (["exit:1"], ["exit:0"], [])


def test_tags_follow_a_guest_and_other_tags_stay(look, nova, fake_agent):
    fake_agent.control(guests={INSTANCE: "RUNNING"}, findings={INSTANCE: {"health": "HEALTHY"}})
    look.soon(INSTANCE)
    assert eventually(lambda: nova.tags == {"web", "health:healthy"})
    fake_agent.control(guests={INSTANCE: "STOPPED"}, findings={INSTANCE: {"exit_code": 3}})
    look.soon(INSTANCE, ended=True)
    assert eventually(lambda: nova.tags == {"web", "exit:3"})
    fake_agent.control(guests={INSTANCE: "RUNNING"}, findings={INSTANCE: {}})
    look.soon(INSTANCE)
    assert eventually(lambda: nova.tags == {"web"})
    assert nova.writes == ["health:healthy", "exit:3"]


def test_the_tags_of_a_guest_that_is_gone_go(look, nova, fake_agent):
    nova.tags |= {"exit:0"}
    nova.host = None
    fake_agent.fail("GetGuest", "NOT_FOUND", "GUEST_NOT_FOUND")
    look.soon(INSTANCE)
    assert eventually(lambda: nova.tags == {"web"})


def test_a_server_of_another_host_and_one_that_is_gone_are_left_alone(look, nova, fake_agent):
    nova.host = "compute2"
    nova.tags |= {"exit:0"}
    fake_agent.control(guests={INSTANCE: "RUNNING"})
    look.soon(OTHER, ended=True)
    look.soon(INSTANCE, ended=True)
    assert eventually(lambda: not look._due and not look._ends)
    assert nova.tags == {"web", "exit:0"}
    assert not fake_agent.calls("GetGuest")


def test_what_cannot_be_written_now_is_written_later(look, nova, fake_agent):
    nova.broken = 2
    fake_agent.control(guests={INSTANCE: "STOPPED"}, findings={INSTANCE: {"exit_code": 0}})
    look.soon(INSTANCE)
    assert eventually(lambda: nova.tags == {"web", "exit:0"})
    assert nova.broken == 0


def test_an_operator_who_wants_no_tags_gets_none(look, nova, events, fake_agent):
    look.writes_tags = False
    fake_agent.control(guests={INSTANCE: "STOPPED"}, findings={INSTANCE: {"exit_code": 0}})
    look.soon(INSTANCE, ended=True)
    assert eventually(lambda: events == [(INSTANCE, STOPPED)])
    assert nova.tags == {"web"}


def test_an_end_during_a_task_is_told_again_when_the_task_is_over(look, nova, events, fake_agent):
    nova.task = "spawning"
    fake_agent.control(guests={INSTANCE: "STOPPED"}, findings={INSTANCE: {"exit_code": 0}})
    look.soon(INSTANCE, ended=True)
    assert eventually(lambda: INSTANCE in look._pauses)
    assert not events
    nova.task = None
    assert eventually(lambda: events == [(INSTANCE, STOPPED)])
    assert "exit:0" in nova.tags


def test_an_end_after_which_the_guest_was_started_again_is_not_told(look, nova, events, fake_agent):
    nova.task = "rebooting"
    fake_agent.control(guests={INSTANCE: "RUNNING"})
    look.soon(INSTANCE, ended=True)
    assert eventually(lambda: INSTANCE in look._pauses)
    nova.task = None
    assert eventually(lambda: INSTANCE not in look._pauses and not look._ends)
    assert not events


def test_findings_of_a_check_are_looked_at_now_and_then(look, nova, fake_agent, monkeypatch):
    monkeypatch.setattr(looks, "_HEALTH_PAUSE", 3600)
    fake_agent.control(guests={INSTANCE: "RUNNING"}, findings={INSTANCE: {"health": "HEALTHY"}})
    look.now_and_then(INSTANCE)
    assert eventually(lambda: nova.tags == {"web", "health:healthy"})
    fake_agent.control(findings={INSTANCE: {"health": "UNHEALTHY"}})
    look.now_and_then(INSTANCE)
    assert INSTANCE in look._due
    # What happens to the guest itself is not kept waiting for that.
    look.soon(INSTANCE)
    assert eventually(lambda: nova.tags == {"web", "health:unhealthy"})
