"""What a guest finds inside, and what is seen of it from outside."""

import base64

import pytest
from conftest import IMAGE, INSTANCE, PORT
from nova import exception, objects
from nova.api.metadata import base as metadata
from nova_docker import inside as insides
from nova_docker.v1 import inside_pb2

MAC = "fa:16:3e:be:a0:c7"
DIAGNOSTICS = {
    "uptime": "90s",
    "cpuTimeNs": "5",
    "memoryUsed": str(3 << 20),
    "memoryLimit": str(64 << 20),
    "readBytes": "4096",
    "interfaces": [{"name": "eth0", "macAddress": MAC, "received": {"bytes": "100"}, "sent": {"dropped": "1"}}],
}


@pytest.fixture
def running(fake_agent):
    fake_agent.control(guests={INSTANCE: "RUNNING"})


@pytest.fixture
def told(monkeypatch):
    """How Nova's metadata was asked for; its own tests show what it says."""
    asked = {}

    class Metadata:
        def __init__(self, instance, **arguments):
            asked.update(arguments)

        def metadata_for_config_drive(self):
            yield "openstack/latest/meta_data.json", b"{}"
            yield "openstack/latest/user_data", "text"

    monkeypatch.setattr(metadata, "InstanceMetadata", Metadata)
    return asked


def test_files_and_a_config_drive_are_handed_over(told, instance):
    instance.config_drive = "True"
    found = insides.inside(instance, [("/etc/motd", b"hi")], "secret", ["vif"])
    assert [(file.path, file.content) for file in found.files] == [("/etc/motd", b"hi")]
    assert told == {"content": [("/etc/motd", b"hi")], "extra_md": {"admin_pass": "secret"}, "network_info": ["vif"]}
    drive = {file.path: file.content for file in found.config_drive.files}
    assert drive == {"openstack/latest/meta_data.json": b"{}", "openstack/latest/user_data": b"text"}
    assert (found.admin_password, found.admin_user) == ("secret", "root")


def test_a_server_without_wishes_has_no_drive(told, instance):
    found = insides.inside(instance, None, None, [])
    assert not found.HasField("config_drive")
    assert not found.HasField("admin_password")
    assert told == {}


def test_an_agent_that_would_leave_wishes_out_is_refused(instance):
    wanted = inside_pb2.Inside(files=[inside_pb2.InjectedFile(path="/etc/motd")])
    with pytest.raises(exception.BuildAbortException, match="too old for injected files"):
        insides.refuse_of_old_agent(insides.SINCE - 1, wanted, instance)
    insides.refuse_of_old_agent(insides.SINCE, wanted, instance)
    insides.refuse_of_old_agent(insides.SINCE - 1, inside_pb2.Inside(admin_user="root"), instance)


def test_diagnostics_come_in_both_of_novas_forms(driver, fake_agent, running, instance):
    fake_agent.plan("GetGuestDiagnostics", answer={"diagnostics": DIAGNOSTICS})
    assert "health" not in driver.get_diagnostics(instance)
    checked = {**DIAGNOSTICS, "health": "GUEST_HEALTH_UNHEALTHY"}
    fake_agent.plan("GetGuestDiagnostics", answer={"diagnostics": checked})
    free = driver.get_diagnostics(instance)
    assert free["health"] == "unhealthy"
    assert (free["memory"], free["memory-rss"], free["eth0_rx"], free["eth0_tx_drop"]) == (64 << 10, 3 << 10, 100, 1)
    assert (free["disk_read"], "disk_write" in free) == (4096, False)
    standard = driver.get_instance_diagnostics(instance)
    assert (standard.driver, standard.hypervisor, standard.uptime) == ("libvirt", "docker", 90)
    assert (standard.memory_details.maximum, standard.memory_details.used) == (64, 3)
    assert (standard.num_nics, standard.nic_details[0].mac_address, standard.nic_details[0].rx_octets) == (1, MAC, 100)
    assert (standard.num_disks, standard.disk_details[0].write_bytes) == (1, None)
    assert standard.num_cpus == instance.flavor.vcpus


def test_a_password_is_set_for_the_images_administrator(driver, fake_agent, running, instance):
    instance.system_metadata["image_os_admin_user"] = "ubuntu"
    driver.set_admin_password(instance, "secret")
    request = fake_agent.request("SetGuestPassword")
    assert (request["user"], request["password"]) == ("ubuntu", "secret")


def test_what_keeps_a_password_from_being_set_is_told(driver, fake_agent, running, instance):
    fake_agent.fail("SetGuestPassword", "FAILED_PRECONDITION", "UNSUPPORTED", "the container has no /etc/shadow")
    with pytest.raises(exception.SetAdminPasswdNotSupported, match="no /etc/shadow"):
        driver.set_admin_password(instance, "secret")


def test_tagged_interfaces_are_written_into_the_servers_record(driver, running, context, instance, monkeypatch):
    vifs = [
        objects.VirtualInterface(address=MAC, uuid=PORT, tag="lan"),
        objects.VirtualInterface(address="fa:16:3e:00:00:02", uuid=IMAGE, tag=None),
    ]
    monkeypatch.setattr(objects.VirtualInterfaceList, "get_by_instance_uuid", lambda *arguments: vifs)
    saved = []
    monkeypatch.setattr(objects.Instance, "save", lambda self, *arguments, **options: saved.append(self))
    driver.detach_interface(context, instance, {"id": IMAGE})
    (device,) = saved[-1].device_metadata.devices
    assert (device.mac, device.tags) == (MAC, ["lan"])
    driver.detach_interface(context, instance, {"id": PORT})
    assert saved[-1].device_metadata.devices == []


def test_what_novas_metadata_says_is_text_or_bytes():
    assert insides._bytes("ä") == "ä".encode()
    assert insides._bytes(base64.b64decode("AP8=")) == b"\x00\xff"
