"""The end of guests, against the fake agent."""

import pytest
from conftest import INSTANCE


def test_destroy_removes_the_guest_and_may_be_repeated(driver, running, fake_agent, context, instance):
    driver.destroy(context, instance, None)
    driver.destroy(context, instance, None, destroy_secrets=True)
    driver.cleanup(context, instance, None)
    assert fake_agent.methods() == ["DeleteGuest"] * 3
    assert fake_agent.control()["guests"] == {}


@pytest.mark.parametrize(
    ("wanted", "state", "expected"),
    [
        ("true", {"task_state": "deleting"}, {"server_deleted": True, "remove_volumes": True}),
        (" Yes", {"vm_state": "soft-delete"}, {"server_deleted": True, "remove_volumes": True}),
        ("false", {"task_state": "deleting"}, {"server_deleted": True}),
        ("s3cret", {"task_state": "deleting"}, {"server_deleted": True}),
        (None, {"deleted": True}, {"server_deleted": True}),
        ("true", {"task_state": "rebuilding"}, {}),
        ("true", {"task_state": "shelving_offloading"}, {}),
        ("true", {"task_state": "spawning", "vm_state": "building"}, {}),
    ],
)
def test_volumes_are_removed_only_with_a_server_that_is_deleted_and_says_so(
    driver, running, fake_agent, context, instance, wanted, state, expected
):
    if wanted is not None:
        instance.metadata = {"docker:remove_volumes": wanted}
    for field, value in state.items():
        setattr(instance, field, value)
    driver.destroy(context, instance, None)
    assert fake_agent.request("DeleteGuest") == {"guest_id": INSTANCE, **expected}
