"""Launching: what is asked of the agent, the wait for the network, and what a failure leaves and tells."""

import os
import threading
from contextlib import contextmanager

import frames
import pytest
from conftest import IMAGE, INSTANCE, PORT, TOKEN, eventually, settle
from nova import exception
from nova.image import glance
from nova.network import model
from nova_docker import remains
from nova_docker import spawn as spawning
from nova_docker.v1 import driver_pb2 as api


@pytest.fixture
def launch(driver, context, instance, image_meta, network_info):
    """Spawns as the manager does."""

    def launch(files=(), **changes):
        arguments = {"network_info": network_info, "block_device_info": {"image": [], "block_device_mapping": []}}
        driver.spawn(context, instance, image_meta, list(files), "password", {}, **{**arguments, **changes})

    return launch


class VirtAPI:
    """The manager's side of the wait for events."""

    def __init__(self, agent):
        self.agent = agent
        self.waited = []
        self.methods_at_wait = None
        self.outcome = None

    @contextmanager
    def wait_for_instance_event(self, instance, event_names, timeout=300, error_callback=None):
        self.waited.append((list(event_names), timeout))
        assert self.agent.methods() == []
        yield
        self.methods_at_wait = self.agent.methods()
        if self.outcome == "failed":
            error_callback("network-vif-plugged", instance)
        elif self.outcome is not None:
            raise self.outcome


@pytest.fixture
def virtapi(driver, fake_agent):
    driver._builder._virtapi = VirtAPI(fake_agent)
    return driver._builder._virtapi


def test_a_launch_tells_the_agent_everything_about_the_guest(launch, fake_agent):
    launch()
    request = fake_agent.request("CreateGuest")
    assert request["guest"] == {
        "guest_id": INSTANCE,
        "name": "web 1",
        "hostname": "web-1",
        "project_id": "red",
        "user_id": "alice",
        "vcpus": 2,
        "memory_mib": "512",
        "root_gib": "3",
        "swap_mib": "64",
        "extra_specs": {"docker:runtime": "runsc"},
        "key": {"name": "laptop", "data": "ssh-ed25519 AAAA alice"},
        "owner": "8f8d1d2f-2f6c-4c8b-9a7a-54a0cbb3b0a0",
        "metadata": {"docker:env:GREETING": "hello"},
        "user_data": "I2NvbnRhaW5lci1jb25maWcK",
        "inside": {"admin_password": "password", "admin_user": "root"},
    }
    image = request["image"]
    assert (image["image_id"], image["name"], image["status"], image["size"]) == (IMAGE, "nginx", "active", "4096")
    assert (image["container_format"], image["disk_format"]) == ("docker", "raw")


def test_image_properties_come_from_wherever_nova_has_kept_them(launch, fake_agent):
    launch()
    properties = fake_agent.request("CreateGuest")["image"]["properties"]
    assert properties["os_command_line"] == "nginx -g 'daemon off;'"
    assert properties["docker:volumes"] == "/data"


def test_what_nova_has_cut_or_dropped_comes_from_glance(launch, fake_agent, instance, monkeypatch):
    long = "echo " + "x" * 400
    instance.system_metadata["image_docker:note"] = long[:255]
    record = {"os_hash_value": "abc123", "properties": {"docker:note": long}}
    monkeypatch.setattr(glance.API, "get", lambda *arguments, **options: record)
    launch()
    image = fake_agent.request("CreateGuest")["image"]
    assert (image["content_hash"], image["properties"]["docker:note"]) == ("abc123", long)


def test_a_glance_that_does_not_answer_does_not_stop_a_launch(launch, fake_agent, monkeypatch):
    def unreachable(*arguments, **options):
        raise exception.GlanceConnectionFailed(server="glance", reason="down")

    monkeypatch.setattr(glance.API, "get", unreachable)
    launch()
    assert "content_hash" not in fake_agent.request("CreateGuest")["image"]


def test_interfaces_are_told_as_neutron_has_bound_them(launch, fake_agent):
    launch()
    (interface,) = fake_agent.request("CreateGuest")["interfaces"]
    assert interface == {
        "port_id": PORT,
        "mac_address": "fa:16:3e:be:a0:c7",
        "vif_type": "ovs",
        "device_name": "taped1b6eff-a1",
        "bridge": "br-int",
        "mtu": 1450,
        "subnets": [
            {
                "cidr": "10.0.0.0/24",
                "addresses": ["10.0.0.5"],
                "gateway": "10.0.0.1",
                "dns_servers": ["10.0.0.53"],
                "dhcp_server": "10.0.0.2",
                "routes": [{"destination": "192.0.2.0/24", "via": "10.0.0.9"}],
            }
        ],
        "network_id": "9e25f37b-91f4-4438-b681-7c14f776f1e8",
    }
    assert fake_agent.request("StartGuest")["interfaces"] == [interface]


def test_a_subnet_without_gateway_and_a_hybrid_port_are_told_as_such(launch, fake_agent, network_info):
    network_info[0]["network"]["subnets"][0]["gateway"] = model.IP(address=None, type="gateway")
    network_info[0]["details"]["ovs_hybrid_plug"] = True
    launch()
    (interface,) = fake_agent.request("CreateGuest")["interfaces"]
    assert interface["hybrid_plug"] is True
    assert "gateway" not in interface["subnets"][0]


def test_a_server_without_a_network_is_launched(launch, fake_agent, virtapi):
    launch(network_info=None)
    assert fake_agent.methods() == ["CreateGuest", "StartGuest"]
    assert virtapi.waited == [([], 300)]


def test_the_users_token_goes_along_for_the_image(launch, fake_agent):
    launch()
    (create,) = fake_agent.calls("CreateGuest")
    assert create["metadata"]["x-auth-token"] == TOKEN


def test_a_guest_that_shall_stay_off_is_not_started(launch, fake_agent):
    launch(power_on=False)
    assert fake_agent.methods() == ["CreateGuest"]


def test_network_information_that_is_still_being_made_is_waited_for(launch, fake_agent, network_info):
    launch(network_info=model.NetworkInfoAsyncWrapper(lambda: network_info))
    assert len(fake_agent.request("CreateGuest")["interfaces"]) == 1


def test_a_network_that_could_not_be_made_raises_what_neutron_said(launch, fake_agent):
    def fail():
        raise exception.PortLimitExceeded()

    with pytest.raises(exception.PortLimitExceeded):
        launch(network_info=model.NetworkInfoAsyncWrapper(fail))
    assert fake_agent.methods() == []


def test_the_wait_for_the_network_begins_before_and_ends_between_creation_and_start(launch, fake_agent, virtapi):
    launch()
    assert virtapi.waited == [([("network-vif-plugged", PORT)], 300)]
    assert virtapi.methods_at_wait == ["CreateGuest"]
    assert fake_agent.methods() == ["CreateGuest", "StartGuest"]


def test_a_port_that_is_wired_is_not_waited_for(launch, virtapi, network_info):
    network_info[0]["active"] = True
    launch()
    assert virtapi.waited == [([], 300)]


def test_a_timeout_of_zero_means_not_to_wait(launch, virtapi, conf):
    conf.set_override("vif_plugging_timeout", 0)
    launch()
    assert virtapi.waited == [([], 0)]


@pytest.mark.parametrize("outcome", ["timeout", "failed"])
def test_a_network_that_is_not_wired_ends_the_launch_and_leaves_nothing(launch, fake_agent, virtapi, outcome):
    virtapi.outcome = spawning._timeouts()[0]() if outcome == "timeout" else outcome
    with pytest.raises(exception.BuildAbortException, match="wire"):
        launch()
    assert fake_agent.methods() == ["CreateGuest", "DeleteGuest"]


@pytest.mark.parametrize("outcome", ["timeout", "failed"])
def test_a_network_that_is_not_wired_is_bearable_where_the_operator_says_so(launch, fake_agent, virtapi, conf, outcome):
    conf.set_override("vif_plugging_is_fatal", False)
    virtapi.outcome = spawning._timeouts()[0]() if outcome == "timeout" else outcome
    launch()
    assert fake_agent.methods() == ["CreateGuest", "StartGuest"]


@pytest.mark.parametrize("kind", ["block_device_mapping", "ephemerals"])
def test_volumes_are_refused_before_anything_is_made(launch, fake_agent, kind):
    with pytest.raises(exception.BuildAbortException, match="not supported for containers"):
        launch(block_device_info={kind: [{"mount_device": "/dev/vda"}]})
    assert fake_agent.methods() == []


def test_a_swap_disk_is_refused(launch, fake_agent):
    with pytest.raises(exception.BuildAbortException, match="swap disks are not supported"):
        launch(block_device_info={"swap": {"device_name": "/dev/vdb", "swap_size": 64}})
    assert fake_agent.methods() == []


def test_a_container_that_exits_at_once_is_told_with_its_last_words_and_removed(launch, fake_agent):
    message = "the container exited at once with code 3; its last words: no database"
    fake_agent.fail("StartGuest", "ABORTED", "EXITED_AT_ONCE", message, exit_code="3", log_tail="no database")
    with pytest.raises(exception.BuildAbortException) as caught:
        launch()
    assert caught.value.format_message() == f"Build of instance {INSTANCE} aborted: {message}"
    assert fake_agent.methods() == ["CreateGuest", "StartGuest", "DeleteGuest"]
    assert fake_agent.control()["guests"] == {}


def test_the_end_of_long_last_words_fits_into_a_fault(launch, fake_agent):
    tail = "starting up\n" * 100 + "FATAL: no database"
    message = f"the container exited at once with code 3; its last words: {tail}"
    fake_agent.fail("StartGuest", "ABORTED", "EXITED_AT_ONCE", message, exit_code="3", log_tail=tail)
    with pytest.raises(exception.BuildAbortException) as caught:
        launch()
    shown = caught.value.format_message()[:255]
    assert "code 3" in shown
    assert shown.endswith("FATAL: no database")


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        ("FAILED_PRECONDITION", "UNSUPPORTED", exception.BuildAbortException),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT", exception.BuildAbortException),
        ("FAILED_PRECONDITION", "COMMAND_NOT_FOUND", exception.BuildAbortException),
        ("FAILED_PRECONDITION", "IMAGE_UNACCEPTABLE", exception.BuildAbortException),
        ("NOT_FOUND", "IMAGE_NOT_FOUND", exception.BuildAbortException),
        ("FAILED_PRECONDITION", "PLUG_FAILED", exception.VirtualInterfacePlugException),
        ("UNAVAILABLE", "IMAGE_UNAVAILABLE", exception.NovaException),
        ("RESOURCE_EXHAUSTED", "NO_SPACE", exception.NovaException),
        ("INTERNAL", "DOCKER_REFUSED", exception.NovaException),
        ("INTERNAL", "HOST_FAILED", exception.NovaException),
        ("UNAVAILABLE", "DOCKER_UNAVAILABLE", exception.HypervisorUnavailable),
        ("UNAVAILABLE", "STOPPING", exception.HypervisorUnavailable),
        ("NOT_FOUND", "GUEST_NOT_FOUND", exception.NovaException),
        ("INTERNAL", "SOMETHING_NEW", exception.NovaException),
    ],
)
def test_each_failure_of_a_launch_becomes_the_exception_that_the_manager_acts_on(
    launch, fake_agent, code, reason, expected
):
    fake_agent.fail("CreateGuest", code, reason, "what the agent says")
    with pytest.raises(exception.NovaException, match="what the agent says") as caught:
        launch()
    assert type(caught.value) is expected
    # An agent that gives a creation up has undone it.
    assert fake_agent.methods() == ["CreateGuest"]


def test_an_agent_that_dies_during_a_launch_is_told_in_a_sentence(mortal_agent, driver, launch, context, instance):
    driver._builder._agent.address = mortal_agent.address
    mortal_agent.plan("CreateGuest", die=True)
    with pytest.raises(exception.HypervisorUnavailable, match="nova-docker-agent does not answer"):
        launch()
    mortal_agent.stop()
    mortal_agent.start()
    # It may have left something, so a clean-up that fails must not be taken for done.
    mortal_agent.fail("DeleteGuest", "UNAVAILABLE", "DOCKER_UNAVAILABLE", "Docker is down")
    with pytest.raises(exception.HypervisorUnavailable, match="Docker is down"):
        driver.destroy(context, instance, None)
    launch()
    assert mortal_agent.methods() == ["DeleteGuest", "CreateGuest", "StartGuest"]


def test_a_launch_without_an_agent_can_be_tried_on_another_host(driver, launch, mortal_agent, context, instance):
    driver._builder._agent.address = mortal_agent.address
    mortal_agent.stop()
    with pytest.raises(exception.HypervisorUnavailable, match="nova-docker-agent does not answer"):
        launch()
    driver.destroy(context, instance, None)
    with pytest.raises(exception.HypervisorUnavailable):
        driver.destroy(context, instance, None)


def test_a_failed_launch_on_a_host_without_docker_can_be_tried_on_another(
    launch, driver, fake_agent, context, instance
):
    for method in ("CreateGuest", "DeleteGuest"):
        fake_agent.fail(method, "UNAVAILABLE", "DOCKER_UNAVAILABLE", "Docker is down")
    with pytest.raises(exception.HypervisorUnavailable):
        launch()
    # The manager cleans up after it, and gives the build up where that fails.
    driver.destroy(context, instance, None)
    # Whoever asks again may mean a guest that is there.
    with pytest.raises(exception.HypervisorUnavailable, match="Docker is down"):
        driver.destroy(context, instance, None)


def test_what_a_failed_launch_has_left_is_removed_when_the_agent_is_back(mortal_agent, driver, launch):
    driver._builder._agent.address = mortal_agent.address
    mortal_agent.plan("CreateGuest", die=True)
    with pytest.raises(exception.HypervisorUnavailable):
        launch()
    mortal_agent.stop()
    mortal_agent.start()
    driver._builder.remains.remove()
    driver._builder.remains.remove()
    settle(driver._builder.remains._background)
    assert mortal_agent.methods() == ["DeleteGuest"], "removed more than once, or not at all"


OTHER = "0f6b1c5e-8a56-4c5b-b0cd-41a7f9a4f6aa"


def test_a_server_that_is_built_again_is_not_removed_with_what_an_earlier_build_has_left(
    driver, launch, fake_agent, monkeypatch
):
    monkeypatch.setattr(remains, "_THREADS", 1)
    left = driver._builder.remains = remains.Remains(driver._agent)
    left.add(OTHER)
    fake_agent.hold("DeleteGuest")
    left.remove()
    assert eventually(lambda: fake_agent.calls("DeleteGuest"))
    left.add(INSTANCE)
    left.remove()  # Waits behind the other one.
    launch()
    fake_agent.release()
    settle(left._background)
    assert fake_agent.control()["guests"] == {INSTANCE: "POWER_STATE_RUNNING"}
    assert fake_agent.request("DeleteGuest") == {"guest_id": OTHER}


def test_a_build_waits_for_the_removal_of_what_an_earlier_one_has_left(driver, launch, fake_agent, monkeypatch):
    left, goes_on = driver._builder.remains, threading.Event()
    forget = left.forget

    def forget_and_tell(uuid):
        forget(uuid)
        goes_on.set()

    monkeypatch.setattr(left, "forget", forget_and_tell)
    left.add(INSTANCE)
    fake_agent.hold("DeleteGuest")
    left.remove()
    assert eventually(lambda: fake_agent.calls("DeleteGuest"))
    build = threading.Thread(target=launch)
    build.start()
    # Nothing tells that a thread waits; a build that does not would be seen here.
    assert not goes_on.wait(3)
    fake_agent.release()
    build.join()
    assert goes_on.is_set()
    assert fake_agent.control()["guests"] == {INSTANCE: "POWER_STATE_RUNNING"}


def test_a_server_that_was_deleted_is_not_deleted_again_later(driver, fake_agent, context, instance):
    driver._builder.remains.add(INSTANCE)
    driver.destroy(context, instance, None)
    driver._builder.remains.remove()
    settle(driver._builder.remains._background)
    assert fake_agent.methods() == ["DeleteGuest"]


def test_a_socket_that_became_loose_does_not_hide_what_a_failed_build_has_left(driver, launch, fake_agent, virtapi):
    class Loosened(exception.BuildAbortException):
        def __init__(self):
            super().__init__(instance_uuid=INSTANCE, reason="it took too long")
            os.chmod(fake_agent.path, 0o666)  # noqa: S103

    class Outcome:
        def __get__(self, *arguments):
            return Loosened()

    type(virtapi).outcome = Outcome()
    del virtapi.outcome
    left = driver._builder.remains
    try:
        with pytest.raises(exception.BuildAbortException, match="it took too long"):
            launch()
        left.remove()
        settle(left._background)
    finally:
        os.chmod(fake_agent.path, 0o660)
    assert fake_agent.methods() == ["CreateGuest"]
    left.remove()
    settle(left._background)
    assert fake_agent.methods() == ["CreateGuest", "DeleteGuest"]


def test_a_launch_through_a_loose_socket_can_be_tried_on_another_host(driver, launch, fake_agent, context, instance):
    os.chmod(fake_agent.path, 0o666)  # noqa: S103
    try:
        with pytest.raises(exception.HypervisorUnavailable, match="has mode 0666"):
            launch()
        driver.destroy(context, instance, None)
    finally:
        os.chmod(fake_agent.path, 0o660)
    assert fake_agent.methods() == []


def lost(peer):
    peer.request()


def refused(peer):
    peer.request()
    peer.send(frames.trailers(frames.RESPONSE + frames.block(("grpc-status", "9"), ("grpc-message", "no"))))


def test_a_failed_build_is_undone_when_an_earlier_attempt_of_it_was_lost(driver, launch, context, instance):
    done = []

    def deleted(peer):
        done.append(api.DeleteGuestRequest.FromString(peer.request()[5:]).guest_id)
        peer.send(frames.answer(b""))

    with frames.serving(lost, refused, deleted) as address:
        driver._agent.address, driver._agent._restart_timeout = address, 600
        with pytest.raises(exception.NovaException, match="no"):
            launch()
    assert done == [INSTANCE]


def test_a_launch_outlives_a_restart_of_the_agent(driver, launch):
    ready = api.CreateGuestResponse(stage=api.CREATE_STAGE_READY).SerializeToString()

    def answer(*payloads):
        def script(peer):
            peer.request()
            peer.send(frames.answer(*payloads))

        return script

    with frames.serving(lost, answer(ready), lost, answer(b"")) as address:
        driver._agent.address, driver._agent._restart_timeout = address, 600
        launch()
