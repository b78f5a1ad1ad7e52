"""Numbers and texts that tenants and other services set, at and beyond every end."""

import pytest
from conftest import INSTANCE, PORT
from nova import exception
from nova_docker import amounts
from nova_docker.host import version_number

ABSURD = [-1, -(2**63), 2**31, 2**32, 2**63, 2**64, 2**64 - 1, 10**30, 10**5000, float("inf"), float("nan"), 1e300]
NONSENSE = [None, "", "soon", "1e3", "0x10", "1" * 5000, "\ud800", b"7", [], {}, object()]


def seconds(duration):
    return int(duration["seconds"]) if isinstance(duration, dict) else int(duration.rstrip("s"))


@pytest.fixture
def running(fake_agent):
    fake_agent.control(guests={INSTANCE: "RUNNING"})


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (0, 0),
        (60, 60),
        ("7", 7),
        (3600, 3600),
        (3601, 3600),
        (2_000_000_000, 3600),
        (2**63, 3600),
        (18446744073709551615, 3600),
        (10**5000, 3600),
        (-1, 60),
        ("-5", 60),
        ("soon", 60),
        (None, 60),
        (float("inf"), 60),
        (float("nan"), 60),
        ("9" * 5000, 60),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, int) or value < 10**30 else "huge",
)
def test_a_server_can_be_stopped_whatever_its_images_shutdown_timeout(
    driver, running, fake_agent, instance, wanted, given
):
    driver.power_off(instance, wanted, 10)
    (call,) = fake_agent.calls("StopGuest")
    assert seconds(call["request"]["timeout"]) == given
    # The agent has that time beside the usual one.
    assert call["time_remaining"] > given


@pytest.mark.parametrize(("value", "given"), [("18446744073709551615", 3600), ("-1", 60), ("soon", 60), ("7", 7)])
def test_a_server_can_be_rebooted_whatever_its_images_shutdown_timeout(
    driver, running, fake_agent, context, instance, network_info, value, given
):
    instance.system_metadata["image_os_shutdown_timeout"] = value
    driver.reboot(context, instance, network_info, "SOFT")
    assert seconds(fake_agent.request("RebootGuest")["timeout"]) == given


def test_a_shutdown_timeout_that_is_not_kept_is_told_in_the_log(instance, conf, caplog):
    assert amounts.shutdown_timeout(3601, instance) == amounts.LONGEST_SHUTDOWN
    assert amounts.shutdown_timeout("soon", instance) == 60
    assert "3601 is too long" in caplog.text
    assert "'soon' means nothing" in caplog.text


@pytest.mark.parametrize("field", ["vcpus", "memory_mb", "root_gb", "swap"])
@pytest.mark.parametrize("value", [-1, 2**64, 10**5000], ids=["negative", "2**64", "huge"])
def test_a_flavor_that_no_container_can_have_ends_the_build_with_its_number(
    driver, fake_agent, context, instance, image_meta, field, value
):
    setattr(instance.flavor, field, value)
    with pytest.raises(exception.BuildAbortException, match="the flavor's"):
        driver.spawn(context, instance, image_meta, [], "", {}, network_info=None)
    assert fake_agent.methods() == []


@pytest.mark.parametrize(("field", "least"), [("vcpus", 1), ("memory_mb", 1), ("root_gb", 0), ("swap", 0)])
def test_a_flavors_numbers_are_told_up_to_their_ends(driver, fake_agent, context, instance, image_meta, field, least):
    name = {"vcpus": "vcpus", "memory_mb": "memory_mib", "root_gb": "root_gib", "swap": "swap_mib"}[field]
    most = amounts.UINT32 if field == "vcpus" else amounts.UINT64
    for value in (least, most):
        setattr(instance.flavor, field, value)
        driver.spawn(context, instance, image_meta, [], "", {}, network_info=None)
        (*_, call) = fake_agent.calls("CreateGuest")
        assert int(call["request"]["guest"].get(name, 0)) == value


@pytest.mark.parametrize("value", [*ABSURD, *NONSENSE], ids=lambda value: repr(type(value)))
def test_no_number_of_an_image_or_a_network_breaks_a_message(value):
    """Each is kept, made harmless or refused with a sentence, and nothing else is raised."""
    assert 0 <= amounts.size(value) <= amounts.UINT64
    for check in (lambda: amounts.mtu(PORT, value), lambda: amounts.amount("swap", value, amounts.UINT64)):
        try:
            assert 0 <= (check() or 0) <= amounts.UINT64
        except amounts.CallError as error:
            assert len(str(error)) < 255 and "\n" not in str(error)


@pytest.mark.parametrize("mtu", [-1, 2**32, "large"])
def test_an_mtu_that_none_is_marks_one_server_at_the_start_of_nova_compute(
    driver, running, fake_agent, instance, network_info, mtu
):
    network_info[0]["network"]["meta"]["mtu"] = mtu
    # The only exception that does not end nova-compute there.
    with pytest.raises(exception.VirtualInterfacePlugException, match="MTU"):
        driver.plug_vifs(instance, network_info)
    assert fake_agent.methods() == []


@pytest.mark.parametrize("field", ["network", "id", "address"])
def test_a_port_whose_record_is_incomplete_marks_one_server_too(driver, running, instance, network_info, field):
    network_info[0][field] = None if field == "network" else 7
    with pytest.raises(exception.VirtualInterfacePlugException, match="cannot be plugged"):
        driver.plug_vifs(instance, network_info)


@pytest.mark.parametrize(
    ("code", "reason"),
    [("FAILED_PRECONDITION", "UNSUPPORTED"), ("INVALID_ARGUMENT", "INVALID_ARGUMENT"), ("INTERNAL", "HOST_FAILED")],
)
def test_a_port_that_the_agent_refuses_marks_one_server_too(
    driver, running, fake_agent, instance, network_info, code, reason
):
    fake_agent.fail("PlugGuest", code, reason, "port is bound as binding_failed")
    with pytest.raises(exception.VirtualInterfacePlugException, match="binding_failed"):
        driver.plug_vifs(instance, network_info)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\0", "\U0010ffff"])
def test_texts_of_users_reach_the_agent_as_unicode(
    driver, fake_agent, context, instance, image_meta, monkeypatch, text
):
    instance.display_name = f"web {text}"
    instance.flavor.extra_specs = {"docker:note": text}
    record = {"properties": {"note": text, "number": 10**100, "list": [], "nothing": None}, "os_hash_value": 7}
    monkeypatch.setattr("nova_docker.spawn.image_record", lambda *arguments: record)
    driver.spawn(context, instance, image_meta, [], "", {}, network_info=None)
    request = fake_agent.request("CreateGuest")
    known = text.encode("utf-8", "replace").decode()
    assert request["guest"]["name"] == f"web {known}"
    assert request["guest"]["extra_specs"] == {"docker:note": known}
    assert request["image"]["properties"]["note"] == known
    assert "list" not in request["image"]["properties"]


def test_an_image_of_an_absurd_size_is_told_without_it(driver, fake_agent, context, instance, image_meta):
    image_meta.size = 2**64
    driver.spawn(context, instance, image_meta, [], "", {}, network_info=None)
    assert "size" not in fake_agent.request("CreateGuest")["image"]


def test_a_docker_that_counts_by_dates_has_a_version_that_novas_database_takes():
    assert version_number("20261101.1.2") == 2**31 - 1
    assert version_number("28.0.1") == 28000001
