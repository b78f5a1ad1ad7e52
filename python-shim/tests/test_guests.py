"""What guests there are, and what they do and write, against the fake agent."""

import pytest
from conftest import INSTANCE
from nova import exception
from nova.compute import power_state
from nova.console import type as console_type


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("CREATED", power_state.SHUTDOWN),
        ("RUNNING", power_state.RUNNING),
        ("PAUSED", power_state.PAUSED),
        ("STOPPED", power_state.SHUTDOWN),
        ("CRASHED", power_state.CRASHED),
        ("UNSPECIFIED", power_state.NOSTATE),
    ],
)
def test_each_state_of_a_container_is_one_of_nova(driver, fake_agent, instance, told, expected):
    fake_agent.control(guests={INSTANCE: told})
    assert driver.get_info(instance).state == expected


def test_a_guest_that_is_not_there_is_not_found(driver, instance):
    with pytest.raises(exception.InstanceNotFound, match=INSTANCE):
        driver.get_info(instance)


def test_guests_are_listed_by_their_uuid(driver, running):
    assert driver.list_instance_uuids() == [INSTANCE]


def test_an_instance_exists_when_it_is_listed(driver, running, instance):
    assert driver.instance_exists(instance)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"vm_state": "suspended"}, power_state.SUSPENDED),
        ({"vm_state": "active", "task_state": "suspending"}, power_state.SUSPENDED),
        ({"vm_state": "paused"}, power_state.PAUSED),
    ],
)
def test_a_frozen_guest_is_suspended_where_its_server_is(driver, running, instance, fields, expected):
    driver.pause(instance)
    for field, value in fields.items():
        setattr(instance, field, value)
    assert driver.get_info(instance).state == expected


def test_the_console_is_bytes_and_all_of_it(driver, running, fake_agent, context, instance):
    fake_agent.plan("GetConsoleOutput", answer=[{"chunk": "aGVsbG8g/w=="}, {"chunk": "Cg=="}])
    assert driver.get_console_output(context, instance) == b"hello \xff\n"
    assert fake_agent.request("GetConsoleOutput") == {"guest_id": INSTANCE}


def test_a_guest_that_has_written_nothing_has_an_empty_console(driver, running, fake_agent, context, instance):
    fake_agent.plan("GetConsoleOutput", answer=[])
    assert driver.get_console_output(context, instance) == b""


def test_a_serial_console_is_where_the_agent_says_for_as_long_as_novas_token(
    driver, running, fake_agent, context, instance
):
    console = driver.get_serial_console(context, instance)
    assert isinstance(console, console_type.ConsoleSerial)
    assert (console.host, console.port, console.internal_access_path) == ("192.0.2.1", 10000, "/ticket")
    assert fake_agent.request("GetSerialConsole") == {"guest_id": INSTANCE, "life": "600s"}


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        ("FAILED_PRECONDITION", "NO_CONSOLE", "the server has no serial console: it is paused"),
        ("UNIMPLEMENTED", "", "nova-docker-agent is too old for serial consoles; upgrade it"),
    ],
)
def test_a_serial_console_that_cannot_be_had_is_refused_with_the_reason(
    driver, running, fake_agent, context, instance, code, reason, words
):
    fake_agent.fail("GetSerialConsole", code, reason, "the server has no serial console: it is paused")
    with pytest.raises(exception.ConsoleTypeUnavailable) as refused:
        driver.get_serial_console(context, instance)
    assert str(refused.value) == words
