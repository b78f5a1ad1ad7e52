"""Failures in the words of Nova, against the fake agent."""

import pytest
from nova import exception


@pytest.mark.parametrize(
    ("method", "call", "expected"),
    [
        ("StopGuest", lambda d, c, i, v: d.power_off(i), exception.InstancePowerOffFailure),
        ("StartGuest", lambda d, c, i, v: d.power_on(c, i, None), exception.InstancePowerOnFailure),
        ("RebootGuest", lambda d, c, i, v: d.reboot(c, i, None, "HARD"), exception.InstanceRebootFailure),
        ("AttachInterface", lambda d, c, i, v: d.attach_interface(c, i, None, v), exception.InterfaceAttachFailed),
        ("DetachInterface", lambda d, c, i, v: d.detach_interface(c, i, v), exception.InterfaceDetachFailed),
        ("PlugGuest", lambda d, c, i, v: d.plug_vifs(i, [v]), exception.VirtualInterfacePlugException),
        ("PauseGuest", lambda d, c, i, v: d.pause(i), exception.NovaException),
        ("SuspendGuest", lambda d, c, i, v: d.suspend(c, i), exception.NovaException),
        ("ResumeGuest", lambda d, c, i, v: d.resume(c, i, [v]), exception.NovaException),
        ("DeleteGuest", lambda d, c, i, v: d.destroy(c, i, None), exception.NovaException),
    ],
)
def test_a_failure_is_told_as_nova_knows_it_with_the_agents_sentence(
    driver, running, fake_agent, context, instance, network_info, method, call, expected
):
    fake_agent.fail(method, "FAILED_PRECONDITION", "PLUG_FAILED", "what the agent says")
    with pytest.raises(expected, match="what the agent says") as caught:
        call(driver, context, instance, network_info[0])
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    "call",
    [
        lambda d, c, i, v: d.power_off(i),
        lambda d, c, i, v: d.power_on(c, i, None),
        lambda d, c, i, v: d.reboot(c, i, None, "SOFT"),
        lambda d, c, i, v: d.pause(i),
        lambda d, c, i, v: d.unpause(i),
        lambda d, c, i, v: d.suspend(c, i),
        lambda d, c, i, v: d.resume(c, i, [v]),
        lambda d, c, i, v: d.attach_interface(c, i, None, v),
        lambda d, c, i, v: d.detach_interface(c, i, v),
        lambda d, c, i, v: d.get_console_output(c, i),
        lambda d, c, i, v: d.get_serial_console(c, i),
    ],
)
def test_a_guest_without_container_is_an_instance_that_is_not_found(driver, context, instance, network_info, call):
    with pytest.raises(exception.InstanceNotFound):
        call(driver, context, instance, network_info[0])


def test_what_containers_do_not_have_is_not_supported(driver, running, fake_agent, instance):
    fake_agent.fail("PauseGuest", "FAILED_PRECONDITION", "UNSUPPORTED", "this runtime cannot freeze")
    with pytest.raises(exception.NotSupported, match="this runtime cannot freeze"):
        driver.pause(instance)


def test_what_an_older_agent_does_not_know_is_not_implemented(driver, running, fake_agent, instance):
    fake_agent.fail("PauseGuest", "UNIMPLEMENTED", "", "unknown method")
    with pytest.raises(NotImplementedError, match="unknown method"):
        driver.pause(instance)


def test_what_the_agent_cannot_do_is_not_implemented(driver, context, instance):
    with pytest.raises(NotImplementedError):
        driver.trigger_crash_dump(instance)


def test_arguments_of_later_releases_are_borne(driver, running, context, instance):
    driver.power_on(context, instance, None, None, some_new_thing=1)
    driver.destroy(context, instance, None, None, True, True, some_new_thing=1)
