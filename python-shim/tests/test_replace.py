"""Rebuild, rescue and resize against the fake agent."""

from types import SimpleNamespace

import pytest
from conftest import IMAGE, INSTANCE, settle
from nova import exception
from nova.compute import task_states

FAILED = ("FAILED_PRECONDITION", "IMAGE_UNACCEPTABLE", "this image cannot be used")


@pytest.fixture
def stopped(fake_agent):
    fake_agent.control(guests={INSTANCE: "STOPPED"})


def rebuild(driver, context, instance, image_meta, network_info, **options):
    nothing = {"allocations": None, "bdms": [], "detach_block_devices": None, "attach_block_devices": None}
    driver.rebuild(context, instance, image_meta, [], None, **nothing, network_info=network_info, **options)


@pytest.fixture
def saved(instance, monkeypatch):
    """The task states that the instance was saved with, and what had to come before."""
    states = []
    monkeypatch.setattr(
        type(instance),
        "save",
        lambda self, expected_task_state=None: states.append((self.task_state, expected_task_state)),
    )
    return states


def test_a_rebuild_stops_replaces_starts_and_then_lets_the_old_container_go(
    driver, stopped, saved, fake_agent, context, instance, image_meta, network_info
):
    rebuild(driver, context, instance, image_meta, network_info)
    assert fake_agent.methods() == ["StopGuest", "ReplaceGuest", "StartGuest", "SettleGuest"]
    request = fake_agent.request("ReplaceGuest")
    assert request["purpose"] == "REPLACE_PURPOSE_REBUILD"
    assert (request["guest"]["guest_id"], request["image"]["image_id"]) == (INSTANCE, IMAGE)
    assert len(request["interfaces"]) == len(network_info)
    assert saved == [
        (task_states.REBUILD_BLOCK_DEVICE_MAPPING, [task_states.REBUILDING]),
        (task_states.REBUILD_SPAWNING, [task_states.REBUILD_BLOCK_DEVICE_MAPPING]),
    ]


def test_a_rebuild_that_fails_brings_the_old_container_back(
    driver, stopped, saved, fake_agent, context, instance, image_meta, network_info
):
    fake_agent.fail("ReplaceGuest", *FAILED)
    with pytest.raises(exception.BuildAbortException, match="cannot be used"):
        rebuild(driver, context, instance, image_meta, network_info)
    assert fake_agent.methods() == ["StopGuest", "ReplaceGuest", "RestoreGuest"]


def test_a_server_that_is_rebuilt_is_not_removed_with_what_its_failed_build_has_left(
    driver, stopped, saved, fake_agent, context, instance, image_meta, network_info
):
    left = driver._builder.remains
    left.add(INSTANCE)
    rebuild(driver, context, instance, image_meta, network_info)
    left.remove()
    settle(left._background)
    assert "DeleteGuest" not in fake_agent.methods()


def test_nova_does_what_containers_have_no_rebuild_for(
    driver, stopped, saved, fake_agent, context, instance, image_meta, network_info
):
    with pytest.raises(NotImplementedError):
        rebuild(driver, context, instance, image_meta, network_info, evacuate=True)
    with pytest.raises(exception.PreserveEphemeralNotSupported):
        rebuild(driver, context, instance, image_meta, network_info, preserve_ephemeral=True)
    assert fake_agent.methods() == []


def test_a_rescue_runs_and_its_end_brings_the_guest_back(
    driver, stopped, fake_agent, context, instance, image_meta, network_info, monkeypatch
):
    monkeypatch.setattr(type(instance), "get_network_info", lambda self: network_info)
    driver.rescue(context, instance, network_info, image_meta, "password", None, None)
    assert fake_agent.methods() == ["ReplaceGuest", "StartGuest"]
    assert fake_agent.request("ReplaceGuest")["purpose"] == "REPLACE_PURPOSE_RESCUE"
    driver.unrescue(context, instance)
    assert fake_agent.methods()[2:] == ["RestoreGuest", "StartGuest"]
    assert len(fake_agent.control()["calls"][-1]["request"]["interfaces"]) == len(network_info)


@pytest.mark.parametrize(("power_on", "started"), [(True, ["StartGuest"]), (False, [])])
def test_a_resize_stops_the_guest_and_makes_it_anew(
    driver, stopped, fake_agent, context, instance, image_meta, network_info, power_on, started
):
    own = driver.get_host_ip_addr()
    assert driver.migrate_disk_and_power_off(context, instance, own, None, network_info, None, 7, 1) == ""
    assert fake_agent.request("StopGuest")["timeout"] == "7s"
    driver.finish_migration(
        context, None, instance, "", network_info, image_meta, True, {}, None, power_on, share_info=None
    )
    assert fake_agent.request("ReplaceGuest")["purpose"] == "REPLACE_PURPOSE_RESIZE"
    driver.confirm_migration(context, None, instance, network_info)
    assert fake_agent.methods() == ["StopGuest", "ReplaceGuest", *started, "SettleGuest"]


def test_a_guest_is_not_taken_to_another_host(driver, stopped, fake_agent, context, instance, network_info):
    with pytest.raises(exception.InstanceFaultRollback) as refused:
        driver.migrate_disk_and_power_off(context, instance, "192.0.2.7", None, network_info)
    assert "not migrated to other hosts (192.0.2.7)" in str(refused.value.inner_exception)
    assert fake_agent.methods() == []


def test_a_revert_ends_the_new_container_and_brings_the_old_one_back(
    driver, stopped, fake_agent, context, instance, network_info
):
    instance.task_state = task_states.RESIZE_REVERTING
    driver.destroy(context, instance, network_info)
    driver.finish_revert_migration(context, instance, network_info, SimpleNamespace(), None, True, share_info=None)
    assert fake_agent.methods() == ["StopGuest", "RestoreGuest", "StartGuest"]
