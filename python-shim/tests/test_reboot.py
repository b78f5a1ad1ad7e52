"""A hard reboot says what the guest shall be, and leaves it as it is where nobody knows that."""

import pytest
from conftest import INSTANCE
from nova_docker import reboot
from nova_docker.guest import properties_are_whole


def _last(fake_agent):
    return fake_agent.calls("RebootGuest")[-1]["request"]


@pytest.fixture
def running(fake_agent):
    fake_agent.control(guests={INSTANCE: "RUNNING"})


@pytest.fixture
def knowing(driver):
    """The driver of an agent that takes it."""
    driver._revision = 6
    return driver


def test_a_hard_reboot_says_what_the_guest_shall_be_and_a_soft_one_does_not(
    knowing, running, fake_agent, context, instance, network_info
):
    instance.system_metadata["image_docker_user"] = "7"
    knowing.reboot(context, instance, network_info, "SOFT")
    assert "guest" not in _last(fake_agent)
    knowing.reboot(context, instance, network_info, "HARD")
    request = _last(fake_agent)
    assert request["guest"]["metadata"] == {"docker:env:GREETING": "hello"}
    assert request["guest"]["extra_specs"] == {"docker:runtime": "runsc"}
    assert request["image"]["properties"]["docker_user"] == "7"


def test_an_older_agent_is_not_told(driver, running, fake_agent, context, instance, network_info):
    driver._revision = 5
    driver.reboot(context, instance, network_info, "HARD")
    assert "guest" not in _last(fake_agent)


def test_properties_that_nova_has_cut_are_glances_or_the_guest_stays(
    knowing, running, fake_agent, context, instance, network_info, monkeypatch
):
    instance.system_metadata["image_docker_command"] = "c" * 255
    assert not properties_are_whole(instance)
    monkeypatch.setattr(
        reboot, "image_record", lambda context, image_meta: {"properties": {"docker_command": "c" * 300}}
    )
    knowing.reboot(context, instance, network_info, "HARD")
    assert _last(fake_agent)["image"]["properties"]["docker_command"] == "c" * 300
    monkeypatch.setattr(reboot, "image_record", lambda context, image_meta: {})
    knowing.reboot(context, instance, network_info, "HARD")
    assert "guest" not in _last(fake_agent)
