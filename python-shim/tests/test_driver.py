"""The driver's other methods against the fake agent."""

import copy
import threading

import pytest
from conftest import IMAGE, INSTANCE, PORT, TOKEN, eventually, settle
from nova import exception
from nova.compute import power_state, task_states
from nova.compute.provider_tree import ProviderTree
from nova.console import type as console_type
from nova.image import glance
from nova.virt import driver as virt_driver
from nova.virt import fake
from nova_docker import snapshot
from nova_docker.driver import DockerDriver
from nova_docker.host import version_number

NODE = "compute1"
OTHER_IMAGE = "9b0bd9c3-3f0c-4a55-9d0c-5f8f4cfcf2d4"


@pytest.fixture
def running(fake_agent):
    fake_agent.control(guests={INSTANCE: "RUNNING"})


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


def test_a_refused_suspension_leaves_the_server_as_it_was(driver, running, fake_agent, context, instance):
    """Nova puts a server into an error state for every other exception."""
    fake_agent.fail("SuspendGuest", "FAILED_PRECONDITION", "UNSUPPORTED", "not suspended on this host")
    with pytest.raises(exception.InstanceFaultRollback) as caught:
        driver.suspend(context, instance)
    assert isinstance(caught.value.inner_exception, exception.NotSupported)
    assert str(caught.value.inner_exception) == "not suspended on this host"


@pytest.mark.parametrize("method", ["SuspendGuest", "ResumeGuest"])
def test_an_agent_that_cannot_suspend_yet_is_to_be_upgraded(driver, running, fake_agent, context, instance, method):
    fake_agent.fail(method, "UNIMPLEMENTED", "", "unknown method")
    with pytest.raises(NotImplementedError, match="upgrade it"):
        driver.suspend(context, instance) if method == "SuspendGuest" else driver.resume(context, instance, None)


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


def test_what_an_older_agent_does_not_know_is_not_implemented(driver, running, fake_agent, instance):
    fake_agent.fail("PauseGuest", "UNIMPLEMENTED", "", "unknown method")
    with pytest.raises(NotImplementedError, match="unknown method"):
        driver.pause(instance)


def test_a_missing_container_does_not_keep_nova_compute_from_starting(driver, fake_agent, instance, network_info):
    driver.plug_vifs(instance, network_info)
    assert fake_agent.methods() == ["PlugGuest"]


def test_interfaces_are_plugged_and_unplugged(driver, running, fake_agent, context, instance, network_info):
    driver.plug_vifs(instance, network_info)
    driver.attach_interface(context, instance, None, network_info[0])
    driver.detach_interface(context, instance, network_info[0])
    driver.unplug_vifs(instance, network_info)
    assert fake_agent.methods() == ["PlugGuest", "AttachInterface", "DetachInterface", "UnplugGuest"]
    assert fake_agent.request("AttachInterface")["interface"]["port_id"] == PORT
    assert fake_agent.request("DetachInterface") == {"guest_id": INSTANCE, "port_id": PORT}


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


class Recorder(list):
    """The manager's update_task_state."""

    def __call__(self, task_state, expected_state="whatever it was before"):
        self.append((task_state, expected_state))


def test_a_snapshot_takes_the_task_states_that_nova_expects(driver, running, fake_agent, context, instance):
    states = Recorder()
    driver.snapshot(context, instance, IMAGE, states)
    assert states == [
        (task_states.IMAGE_PENDING_UPLOAD, "whatever it was before"),
        (task_states.IMAGE_UPLOADING, task_states.IMAGE_PENDING_UPLOAD),
    ]
    (call,) = fake_agent.calls("SnapshotGuest")
    assert call["request"] == {"guest_id": INSTANCE, "image_id": IMAGE, "project_id": "red"}
    assert call["metadata"]["x-auth-token"] == TOKEN


def test_a_server_that_is_deleted_during_its_snapshot_cancels_it(driver, running, fake_agent, context, instance):
    fake_agent.hold("SnapshotGuest")

    def deleted(**arguments):
        raise exception.UnexpectedDeletingTaskStateError(instance_uuid=INSTANCE, expected={}, actual={})

    with pytest.raises(exception.UnexpectedDeletingTaskStateError):
        driver.snapshot(context, instance, IMAGE, deleted)
    assert eventually(lambda: fake_agent.control()["cancelled"] == ["SnapshotGuest"])


class Images:
    """Glance, with images that have no data yet."""

    def __init__(self, monkeypatch, *unbegun, gone=(), lists=True):
        self.asked, self.deleted = [], []
        self.answers = threading.Event()
        self.answers.set()

        def get_all(api, context, filters):
            self.answers.wait()
            self.asked.append((context.auth_token, filters))
            if not lists:
                raise exception.GlanceConnectionFailed(server="glance", reason="refused")
            return [{"id": image} for image in unbegun]

        def delete(api, context, image):
            if image in gone:
                raise exception.ImageNotFound(image_id=image)
            self.deleted.append((context.auth_token, image))

        monkeypatch.setattr(glance.API, "get_all", get_all)
        monkeypatch.setattr(glance.API, "delete", delete)


def test_a_snapshot_that_had_not_begun_goes_with_its_server(driver, running, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE)
    instance.task_state = task_states.DELETING
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    # With the rights of who deletes the server.
    assert images.asked == [(TOKEN, {"instance_uuid": INSTANCE, "status": "queued"})]
    assert images.deleted == [(TOKEN, IMAGE)]


@pytest.mark.parametrize("state", [None, task_states.REBUILDING, task_states.SHELVING_OFFLOADING])
def test_snapshots_stay_when_the_server_does(driver, running, context, instance, monkeypatch, state):
    images = Images(monkeypatch, IMAGE)
    instance.task_state = state
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    assert images.asked == images.deleted == []


def test_nova_itself_has_no_rights_to_images(driver, running, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE)
    instance.task_state = task_states.DELETING
    context.auth_token = None
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    assert images.asked == images.deleted == []


def test_a_server_goes_without_glance(driver, running, fake_agent, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE, lists=False)
    instance.task_state = task_states.DELETING
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    assert fake_agent.control()["guests"] == {}
    assert len(images.asked) == 1


def test_a_server_does_not_wait_for_glance(driver, running, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE)
    images.answers.clear()
    instance.task_state = task_states.DELETING
    driver.destroy(context, instance, None)
    assert images.asked == []
    images.answers.set()
    settle(driver._images._background)
    assert images.deleted == [(TOKEN, IMAGE)]


def test_a_glance_that_hangs_takes_few_threads_and_no_deletion_is_forgotten(
    driver, running, context, instance, monkeypatch
):
    images = Images(monkeypatch)
    images.answers.clear()
    instance.task_state = task_states.DELETING
    before = threading.active_count()
    for _ in range(30):
        driver.destroy(context, instance, None)
    assert threading.active_count() <= before + snapshot.THREADS
    images.answers.set()
    settle(driver._images._background)
    assert len(images.asked) == 30


def test_images_that_nobody_can_look_for_are_told_in_the_log(driver, running, context, instance, monkeypatch, caplog):
    images = Images(monkeypatch)
    images.answers.clear()
    instance.task_state = task_states.DELETING
    monkeypatch.setattr(driver._images._background, "_limit", 1)
    for _ in range(snapshot.THREADS + 2):
        driver.destroy(context, instance, None)
    images.answers.set()
    settle(driver._images._background)
    assert len(images.asked) == snapshot.THREADS + 1
    assert "may stay: Glance is too slow" in caplog.text


def test_an_image_that_is_gone_already_does_not_keep_the_others(driver, running, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE, OTHER_IMAGE, gone=[IMAGE])
    instance.task_state = task_states.DELETING
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    assert images.deleted == [(TOKEN, OTHER_IMAGE)]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("GUEST_NOT_FOUND", exception.InstanceNotRunning),
        ("IMAGE_NOT_FOUND", exception.ImageNotFound),
        ("IMAGE_UNAVAILABLE", exception.NovaException),
    ],
)
def test_a_failed_snapshot_is_told_as_the_manager_cleans_up_after(
    driver, running, fake_agent, context, instance, reason, expected
):
    fake_agent.fail("SnapshotGuest", "NOT_FOUND", reason)
    with pytest.raises(expected) as caught:
        driver.snapshot(context, instance, IMAGE, Recorder())
    assert type(caught.value) is expected


def test_the_host_is_told_as_the_resource_tracker_wants_it(driver):
    driver._greet()
    resource = driver.get_available_resource(NODE)
    assert resource == {
        "vcpus": 8,
        "memory_mb": 16384,
        "local_gb": 100,
        "vcpus_used": 0,
        "memory_mb_used": 2048,
        "local_gb_used": 30,
        "disk_available_least": 70,
        "hypervisor_type": "docker",
        "hypervisor_version": 20010024,
        "hypervisor_hostname": NODE,
        "supported_instances": [("x86_64", "docker", "exe")],
        "cpu_info": "",
        "numa_topology": None,
    }


@pytest.mark.parametrize(
    ("text", "number"), [("20.10.24", 20010024), ("27.3.1-rc.1", 27003001), ("29.0", 29000000), ("", 0)]
)
def test_a_version_becomes_a_number_that_can_be_compared(text, number):
    assert version_number(text) == number


def test_the_host_is_one_node_and_says_where_it_is(driver):
    assert driver.get_available_nodes() == [NODE]
    assert driver.get_host_ip_addr() == "192.0.2.10"


def test_the_uptime_reads_as_that_of_any_host(driver):
    assert driver.get_host_uptime().endswith("up 2 days,  3:04,  0 users,  load average: 0.50, 0.25, 0.12")


@pytest.fixture
def tree():
    tree = ProviderTree()
    tree.new_root(NODE, "11111111-2222-3333-4444-555555555555")
    tree.add_traits(NODE, "CUSTOM_OPERATORS_OWN")
    return tree


def test_placement_learns_inventory_with_novas_ratios_and_reserves(driver, tree, conf):
    conf.set_override("cpu_allocation_ratio", 2.0)
    conf.set_override("reserved_host_memory_mb", 1024)
    conf.set_override("reserved_host_disk_mb", 1025)
    driver.update_provider_tree(tree, NODE)
    inventory = tree.data(NODE).inventory
    assert {name: (entry["total"], entry["reserved"]) for name, entry in inventory.items()} == {
        "VCPU": (8, 0),
        "MEMORY_MB": (16384, 1024),
        "DISK_GB": (100, 2),
    }
    assert inventory["VCPU"]["allocation_ratio"] == 2.0


def test_no_more_is_reserved_than_there_is(driver, tree, fake_agent, conf):
    conf.set_override("reserved_host_memory_mb", 512)
    fake_agent.plan("GetHostResources", answer={"resources": {"memoryMib": 300}})
    driver.update_provider_tree(tree, NODE)
    assert tree.data(NODE).inventory["MEMORY_MB"]["reserved"] == 300


def test_traits_come_and_go_with_the_agent_and_others_stay(driver, tree, fake_agent):
    driver.update_provider_tree(tree, NODE)
    assert tree.data(NODE).traits == {"CUSTOM_OPERATORS_OWN", "CUSTOM_HV_DOCKER"}
    fake_agent.plan("GetHostResources", answer={"resources": {"vcpus": 8, "traits": ["CUSTOM_NEW"]}})
    driver.update_provider_tree(tree, NODE)
    assert tree.data(NODE).traits == {"CUSTOM_OPERATORS_OWN", "CUSTOM_NEW"}
    assert set(tree.data(NODE).inventory) == {"VCPU"}


def test_traits_that_the_agent_has_dropped_go_after_a_restart_of_nova_compute_too(driver, tree, fake_agent):
    driver.update_provider_tree(tree, NODE)
    fake_agent.plan("GetHostResources", answer={"resources": {"vcpus": 8, "traits": ["CUSTOM_NEW"]}})
    DockerDriver(fake.FakeVirtAPI()).update_provider_tree(tree, NODE)
    assert tree.data(NODE).traits == {"CUSTOM_OPERATORS_OWN", "CUSTOM_NEW"}


def test_traits_are_dropped_until_placement_has_taken_it(driver, tree, fake_agent):
    driver.update_provider_tree(tree, NODE)
    fake_agent.plan("GetHostResources", answer={"resources": {"vcpus": 8}})
    for _ in range(2):
        # Nova throws away a tree that Placement has refused.
        refused = copy.deepcopy(tree)
        driver.update_provider_tree(refused, NODE)
        assert refused.data(NODE).traits == {"CUSTOM_OPERATORS_OWN"}
    driver.update_provider_tree(tree, NODE)
    driver.update_provider_tree(tree, NODE)
    tree.add_traits(NODE, "CUSTOM_HV_DOCKER")
    driver.update_provider_tree(tree, NODE)
    assert tree.data(NODE).traits == {"CUSTOM_OPERATORS_OWN", "CUSTOM_HV_DOCKER"}, "the operator's, after it was ours"


def test_a_state_path_that_cannot_be_written_keeps_no_host_from_being_reported(driver, tree, conf, tmp_path, caplog):
    (tmp_path / "file").touch()
    conf.set_override("state_path", str(tmp_path / "file"))
    DockerDriver(fake.FakeVirtAPI()).update_provider_tree(tree, NODE)
    assert "CUSTOM_HV_DOCKER" in tree.data(NODE).traits
    assert "Traits that the agent drops" in caplog.text


def test_capabilities_are_the_agents(driver):
    assert not any(driver.capabilities.values())
    driver._greet()
    true = {name for name, value in driver.capabilities.items() if value}
    assert true == {"supports_attach_interface", "supports_image_type_raw"}
    assert driver.capabilities.keys() >= virt_driver.ComputeDriver.capabilities.keys()
    assert not any(virt_driver.ComputeDriver.capabilities.values())
    assert driver.capabilities_as_traits()["COMPUTE_NET_ATTACH_INTERFACE"] is True


def test_what_the_agent_cannot_do_is_not_implemented(driver, context, instance):
    with pytest.raises(NotImplementedError):
        driver.trigger_crash_dump(instance)


def test_arguments_of_later_releases_are_borne(driver, running, context, instance):
    driver.power_on(context, instance, None, None, some_new_thing=1)
    driver.destroy(context, instance, None, None, True, True, some_new_thing=1)
