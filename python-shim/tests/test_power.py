"""Starting, stopping, pausing and suspending guests, against the fake agent."""

from types import SimpleNamespace

import pytest
from conftest import INSTANCE, PORT
from nova import exception, objects


def test_power_methods_change_what_the_guest_does(driver, running, fake_agent, context, instance):
    def state():
        return fake_agent.control()["guests"][INSTANCE]

    driver.pause(instance)
    assert state() == "POWER_STATE_PAUSED"
    driver.unpause(instance)
    assert state() == "POWER_STATE_RUNNING"
    driver.suspend(context, instance)
    assert state() == "POWER_STATE_PAUSED"
    driver.resume(context, instance, None, None, share_info=None)
    assert state() == "POWER_STATE_RUNNING"
    driver.power_off(instance, timeout=60, retry_interval=10)
    assert state() == "POWER_STATE_STOPPED"
    driver.power_on(context, instance, None, share_info=None)
    assert state() == "POWER_STATE_RUNNING"


def test_power_off_gives_the_guest_the_managers_time(driver, running, fake_agent, instance):
    driver.power_off(instance, 42, 10)
    assert fake_agent.request("StopGuest")["timeout"] == "42s"


def test_power_off_bears_how_the_manager_reaps_deleted_instances(driver, running, fake_agent, context, instance):
    driver.power_off(context, instance)
    assert fake_agent.request("StopGuest") == {"guest_id": INSTANCE, "timeout": "0s"}


@pytest.mark.parametrize(
    ("kind", "metadata", "seconds"),
    [("HARD", {}, "0s"), ("SOFT", {}, "60s"), ("SOFT", {"image_os_shutdown_timeout": "7"}, "7s")],
)
def test_a_soft_reboot_takes_as_long_as_a_stop_and_a_hard_one_no_time(
    driver, running, fake_agent, context, instance, network_info, kind, metadata, seconds
):
    instance.system_metadata.update(metadata)
    driver.reboot(context, instance, network_info, kind, share_info=None)
    request = fake_agent.request("RebootGuest")
    assert request["timeout"] == seconds
    assert request["interfaces"][0]["port_id"] == PORT
    assert request["user_data"] == instance.user_data


@pytest.mark.parametrize("arguments", [(None,), ([], None)], ids=["before 30", "since 30"])
def test_a_guest_is_started_after_the_host_was_in_whichever_order_nova_asks(
    driver, running, fake_agent, context, instance, network_info, arguments
):
    driver.resume_state_on_host_boot(context, instance, network_info, *arguments)
    assert fake_agent.methods() == ["StartGuest"]
    # Its configs and secrets went with the host's memory.
    assert fake_agent.request("StartGuest")["user_data"] == instance.user_data


def test_a_refused_suspension_leaves_the_server_as_it_was(driver, running, fake_agent, context, instance):
    """Nova puts a server into an error state for every other exception."""
    fake_agent.fail("SuspendGuest", "FAILED_PRECONDITION", "UNSUPPORTED", "not suspended on this host")
    with pytest.raises(exception.InstanceFaultRollback) as caught:
        driver.suspend(context, instance)
    assert isinstance(caught.value.inner_exception, exception.NotSupported)
    assert str(caught.value.inner_exception) == "not suspended on this host"


def test_a_suspension_that_a_deletion_has_ended_is_left_to_that(
    driver, running, fake_agent, context, instance, monkeypatch
):
    """Nova puts a server into an error state for an exception, one that says that it is being deleted too."""
    fake_agent.fail("SuspendGuest", "CANCELLED", "CANCELLED", "the call was cancelled")
    found = SimpleNamespace(task_state="deleting")
    monkeypatch.setattr(objects.Instance, "get_by_uuid", lambda *arguments, **options: found)
    driver.suspend(context, instance)

    def gone(*arguments, **options):
        raise exception.InstanceNotFound(instance_id=INSTANCE)

    monkeypatch.setattr(objects.Instance, "get_by_uuid", gone)
    driver.suspend(context, instance)
    assert fake_agent.methods() == ["SuspendGuest", "SuspendGuest"]

    found.task_state = "suspending"
    monkeypatch.setattr(objects.Instance, "get_by_uuid", lambda *arguments, **options: found)
    with pytest.raises(exception.NovaException, match="the call was cancelled"):
        driver.suspend(context, instance)


@pytest.mark.parametrize("method", ["SuspendGuest", "ResumeGuest"])
def test_an_agent_that_cannot_suspend_yet_is_to_be_upgraded(driver, running, fake_agent, context, instance, method):
    fake_agent.fail(method, "UNIMPLEMENTED", "", "unknown method")
    with pytest.raises(NotImplementedError, match="upgrade it"):
        driver.suspend(context, instance) if method == "SuspendGuest" else driver.resume(context, instance, None)
