"""What is put into a server before its first start, and seen from outside: files, password, config drive, tags."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.guest import Guest
from harness.lab import Lab
from harness.programs import agent_with, compute_with
from harness.servers import Json, Refused, Servers, wait_event
from harness.waiting import eventually

pytestmark = [pytest.mark.agent, pytest.mark.both_doors]

OLD = "2.56"
"""The newest version of the API that takes files."""
LOCKED = "root:*:19000:0:99999:7:::\nother:!:1::::::\n"
METADATA = "http://169.254.169.254"


def _file(path: str, content: str) -> Json:
    return {"path": path, "contents": base64.b64encode(content.encode()).decode()}


@pytest.fixture(scope="module")
def furnished(module_launch: Launcher, private_network: list[Json], key_name: str) -> Json:
    """A server with everything that can be put into one."""
    return module_launch(
        "furnished",
        networks=[{**private_network[0], "tag": "lan"}],
        key_name=key_name,
        config_drive=True,
        personality=[_file("/srv/deep/greeting", "hello\n"), _file("etc/shadow", LOCKED)],
        user_data="some user data\n",
        metadata={"role": "web"},
        microversion=OLD,
    )


@pytest.fixture(scope="module")
def inside(furnished: Json, guest_of: Callable[[str], Guest]) -> Guest:
    return guest_of(furnished["id"]).wait_ssh()


def test_files_are_there_as_if_root_had_written_them(inside: Guest) -> None:
    assert inside.ssh("cat /srv/deep/greeting") == "hello"
    assert inside.ssh("stat -c '%a %u %g' /srv/deep/greeting /srv/deep") == "644 0 0\n755 0 0"


def test_the_config_drive_says_what_the_metadata_service_says(inside: Guest, furnished: Json, servers: Servers) -> None:
    assert servers.get(furnished["id"])["config_drive"] == "True"
    listing = "cd {} && find . -type f | sort"
    files = inside.ssh(listing.format("/config-2"))
    assert inside.ssh(listing.format("/var/lib/cloud/seed/config_drive")) == files
    for name in ("meta_data.json", "network_data.json", "vendor_data.json", "vendor_data2.json", "user_data"):
        # Nova's own is not dated in its list while its date is to come, but it is there.
        for version in ("2016-06-30", "2018-08-27", "latest"):
            path = f"openstack/{version}/{name}"
            if (version, name) == ("2016-06-30", "vendor_data2.json"):
                assert f"./{path}\n" not in files
                continue
            drive, service = inside.ssh(f"cat /config-2/{path}"), inside.ssh(f"wget -qO- {METADATA}/{path}")
            if name == "user_data":
                assert drive == service == "some user data"
                continue
            drive, service = json.loads(drive), json.loads(service)
            if name == "meta_data.json":
                assert len(base64.b64decode(drive.pop("random_seed"))) == len(
                    base64.b64decode(service.pop("random_seed"))
                )
                # What a launch alone knows.
                assert drive.pop("admin_pass")
                assert [file["path"] for file in drive.pop("files")] == ["/srv/deep/greeting", "etc/shadow"]
            assert drive == service, path
    assert inside.ssh("cat /config-2/openstack/content/0000") == "hello"


def test_the_config_drive_of_ec2_says_what_the_metadata_service_says(inside: Guest) -> None:
    drive = json.loads(inside.ssh("cat /config-2/ec2/latest/meta-data.json"))

    def service(path: str) -> str:
        return inside.ssh(f"wget -qO- {METADATA}/latest/meta-data/{path}")

    for name in (
        "ami-id",
        "instance-id",
        "hostname",
        "local-ipv4",
        "reservation-id",
        "security-groups",
        "instance-type",
    ):
        told = drive[name]
        assert ("\n".join(told) if isinstance(told, list) else told) == service(name), name
    assert drive["placement"]["availability-zone"] == service("placement/availability-zone")
    assert drive["block-device-mapping"]["root"] == service("block-device-mapping/root")
    assert drive["public-keys"]["0"]["openssh-key"].strip() == service("public-keys/0/openssh-key").strip()


def test_only_root_reads_the_config_drive_and_nobody_writes_it(inside: Guest, furnished: Json, lab: Lab) -> None:
    assert "Read-only" in inside.ssh("touch /config-2/x 2>&1", check=False)
    assert inside.ssh("stat -c '%a %u' /config-2 /config-2/openstack/latest/meta_data.json") == "700 0\n600 0"
    [drives] = [path for path in (lab.state / "agent").iterdir() if path.name == "docker-config-drives"]
    assert drives.stat().st_mode & 0o777 == 0o700
    assert (drives / furnished["id"]).is_dir()


def test_the_interfaces_tag_is_in_its_metadata_and_so_is_that_of_one_attached_later(
    inside: Guest, furnished: Json, servers: Servers, private_network: list[Json]
) -> None:
    def tags() -> dict[str, list[str]]:
        told = json.loads(inside.ssh(f"wget -qO- {METADATA}/openstack/latest/meta_data.json"))
        return {device["mac"]: device["tags"] for device in told["devices"]}

    first = inside.ssh("cat /sys/class/net/eth0/address")
    assert tags() == {first: ["lan"]}
    body = {"interfaceAttachment": {"net_id": private_network[0]["uuid"], "tag": "dmz"}}
    attached = servers.request("POST", f"/servers/{furnished['id']}/os-interface", body)["interfaceAttachment"]
    # The metadata service keeps what it knows for a while.
    eventually(lambda: tags() == {first: ["lan"], attached["mac_addr"]: ["dmz"]}, "the new tag")
    servers.request("DELETE", f"/servers/{furnished['id']}/os-interface/{attached['port_id']}")
    eventually(lambda: tags() == {first: ["lan"]}, "the tag gone")


def test_a_new_password_lets_root_in_and_keeps_all_else(
    furnished: Json, inside: Guest, servers: Servers, admin_servers: Servers, lab: Lab
) -> None:
    server_id = furnished["id"]
    owner = inside.ssh("stat -c '%a %u %g' /etc/shadow")
    servers.action(server_id, "changePassword", {"adminPass": "Tr0ub4dor"})
    event = wait_event(admin_servers, server_id, "changePassword", "compute_set_admin_password")
    assert event.result == "Success", event
    assert servers.wait_idle(server_id)["status"] == "ACTIVE"
    root, other = inside.ssh("cat /etc/shadow").splitlines()
    assert other == LOCKED.splitlines()[1]
    assert inside.ssh("stat -c '%a %u %g' /etc/shadow") == owner
    _, hashed, _, *rest = root.split(":")
    assert rest == ["0", "99999", "7", "", "", ""]
    # By another implementation of crypt(3).
    salt = hashed.removeprefix("$6$").rpartition("$")[0]
    assert lab.run(["openssl", "passwd", "-6", "-salt", salt, "Tr0ub4dor"]).strip() == hashed


@pytest.mark.full
@pytest.mark.alone
@pytest.mark.usefixtures("usable_afterwards")
def test_where_the_operator_wants_it_a_launch_has_its_password_and_a_config_drive(
    lab: Lab, launch: Launcher, servers: Servers, admin_servers: Servers
) -> None:
    with (
        agent_with(lab, admin_servers, **{"inject_password": "true"}),
        compute_with(lab, admin_servers, force_config_drive="true"),
    ):
        files = [_file("/etc/shadow", LOCKED)]
        server_id = launch.request("forced", personality=files, adminPass="Tr0ub4dor", microversion=OLD)
        servers.wait(server_id, "ACTIVE")
        assert servers.get(server_id)["config_drive"] == "True"
        name = f"nova-{server_id}"
        hashed = lab.docker("exec", name, "cat", "/etc/shadow").splitlines()[0].split(":")[1]
        salt = hashed.removeprefix("$6$").rpartition("$")[0]
        assert lab.run(["openssl", "passwd", "-6", "-salt", salt, "Tr0ub4dor"]).strip() == hashed
        told = json.loads(lab.docker("exec", name, "cat", "/config-2/openstack/latest/meta_data.json"))
        assert (told["uuid"], told["admin_pass"]) == (server_id, "Tr0ub4dor")
    # It stays the server's when the operator has thought better of it.
    servers.action(server_id, "reboot", {"type": "HARD"})
    servers.wait(server_id, "ACTIVE")
    assert lab.docker("exec", name, "ls", "/config-2").split() == ["ec2", "openstack"]
    assert hashed in lab.docker("exec", name, "cat", "/etc/shadow")


def test_config_drive_and_files_survive_a_reboot(furnished: Json, inside: Guest, servers: Servers) -> None:
    before = inside.ssh("cat /config-2/openstack/latest/meta_data.json /srv/deep/greeting")
    servers.action(furnished["id"], "reboot", {"type": "HARD"})
    servers.wait(furnished["id"], "ACTIVE")
    inside.wait_ssh()
    assert inside.ssh("cat /config-2/openstack/latest/meta_data.json /srv/deep/greeting") == before


def test_a_config_drive_goes_with_its_server(
    launch: Launcher, servers: Servers, lab: Lab, add_image: Callable[..., str], tiny: Archive
) -> None:
    """The image wants it; its program reads a file with its first instruction."""
    image = add_image(
        tiny.running("sh", "-c", "cat /etc/greeting; ls /config-2; exec sleep 1000").tar(),
        "wanting",
        img_config_drive="mandatory",
    )
    server = launch("wanting", image=image, personality=[_file("/etc/greeting", "good day\n")], microversion=OLD)
    assert "good day\nec2\nopenstack" in servers.wait_console(server["id"], "openstack").replace("\r", "")
    assert servers.get(server["id"])["config_drive"] == "True"
    drive = lab.state / "agent" / "docker-config-drives" / server["id"]
    assert drive.is_dir()
    servers.delete(server["id"])
    servers.wait_gone(server["id"])
    eventually(lambda: not drive.exists(), "the drive gone")


def test_a_file_that_cannot_be_where_it_shall_be_is_the_users_to_mend(launch: Launcher) -> None:
    server = launch.failing("misplaced", personality=[_file("/etc/../../motd", "x")], microversion=OLD)
    assert "/etc/../../motd" in server["fault"]["message"]
    assert "upwards" in server["fault"]["message"]


@pytest.fixture(scope="module")
def plain(module_launch: Launcher, private_network: list[Json]) -> str:
    return str(module_launch("plain", networks=private_network)["id"])


def test_a_password_for_a_server_without_passwords_is_refused_with_the_reason(
    plain: str, servers: Servers, lab: Lab
) -> None:
    lab.docker("exec", f"nova-{plain}", "rm", "/etc/shadow")
    with pytest.raises(Refused) as refusal:
        servers.action(plain, "changePassword", {"adminPass": "secret"})
    assert refusal.value.status == 409
    assert "/etc/shadow" in refusal.value.message
    assert servers.wait_idle(plain)["status"] == "ACTIVE"


def test_diagnostics_tell_what_the_server_uses(plain: str, admin_servers: Servers) -> None:
    path = f"/servers/{plain}/diagnostics"
    told = admin_servers.request("GET", path)
    assert (told["driver"], told["hypervisor"], told["state"]) == ("libvirt", "docker", "running")
    assert (told["config_drive"], told["num_nics"], told["num_cpus"]) == (False, 1, 1)
    assert 0 < told["memory_details"]["used"] <= told["memory_details"]["maximum"]
    assert told["cpu_details"][0]["time"] > 0
    assert told["uptime"] >= 0
    [nic] = told["nic_details"]
    [attached] = admin_servers.interfaces(plain)
    assert nic["mac_address"] == attached["mac_addr"]
    assert nic["tx_packets"] > 0
    old = admin_servers.request("GET", path, microversion="2.47")
    assert old["cpu0_time"] >= told["cpu_details"][0]["time"]
    assert old["eth0_tx"] >= nic["tx_octets"]
    assert old["memory"] == told["memory_details"]["maximum"] * 1024


def test_diagnostics_need_a_server_that_runs(plain: str, servers: Servers, admin_servers: Servers) -> None:
    servers.action(plain, "os-stop")
    servers.wait(plain, "SHUTOFF")
    for microversion in ("2.47", "2.48"):
        with pytest.raises(Refused) as refusal:
            admin_servers.request("GET", f"/servers/{plain}/diagnostics", microversion=microversion)
        assert refusal.value.status == 409
