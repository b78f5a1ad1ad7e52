"""The DevStack plugin in a DevStack that installs nothing (plugin/devstack.bash): what each phase does, that it may be
repeated, and that unstack and clean leave nothing."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PLUGIN = Path(__file__).resolve().parent.parent.parent
HARNESS = Path(__file__).resolve().parent / "plugin"
SERVICES = "key,rabbit,mysql,g-api,placement-api,n-api,n-cond,n-sch,n-cpu,q-svc,q-ovn-agent,ovn-controller,tempest"
INSTANCE = "5f8a3c1e-0000-4000-8000-0123456789ab"


@dataclasses.dataclass
class Machine:
    """A sandbox in place of the machine that DevStack takes over."""

    root: Path

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run stack, unstack or clean."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SANDBOX": str(self.root)}
        return subprocess.run(
            [HARNESS / "devstack.bash", script], env=environment, capture_output=True, text=True, check=False
        )

    def succeed(self, script: str) -> str:
        done = self.run(script)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not (self.root / "outside").exists()
        return done.stdout

    def configure(self, **variables: str) -> None:
        """Write local.conf's variables; the others have the values of the sample."""
        values = {
            "VIRT_DRIVER": "nova-docker",
            "Q_AGENT": "ovn",
            "ENABLED_SERVICES": SERVICES,
            "NDA_PREBUILT_DIR": str(self.root / "prebuilt"),
        } | variables
        (self.root / "localrc").write_text("".join(f"{name}='{value}'\n" for name, value in values.items()))

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def files(self) -> dict[str, str]:
        """Every file with its content, but the record of what happened."""
        found = {}
        for path in self.root.rglob("*"):
            if path.is_symlink() or path.is_file():
                name = str(path.relative_to(self.root))
                found[name] = str(path.readlink()) if path.is_symlink() else path.read_text()
        return {name: content for name, content in found.items() if name not in ("log", "variables")}

    def log(self) -> list[str]:
        return self.read("log").splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    for directory in ("home", "units", "etc", "glance", "netns", "ports", "docker/containers", "docker/volumes"):
        (tmp_path / directory).mkdir(parents=True)
    for directory in ("devstack/lib/nova_plugins", "devstack/tools", "prebuilt", "run/agent"):
        (tmp_path / directory).mkdir(parents=True)
    for file in ("docker/running", "docker/images", "mapped-hosts", "log"):
        (tmp_path / file).touch()
    for program in ("nova-docker-agent", "nova-docker-runtime"):
        (tmp_path / "prebuilt" / program).write_text("prebuilt\n")
    discover = tmp_path / "devstack/tools/discover_hosts.sh"
    discover.write_text('#!/bin/sh\nhostname >"$SANDBOX/mapped-hosts"\n')
    discover.chmod(0o755)
    made.configure()
    return made


def options(text: str, section: str) -> dict[str, str]:
    """A section of a configuration file, as the harness writes it."""
    lines = [line.removeprefix(f"{section} ") for line in text.splitlines() if line.startswith(f"{section} ")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_the_agent_is_the_compute_service_behind_the_first_door(machine: Machine) -> None:
    machine.succeed("stack")
    command, group, user = machine.read("units/n-docker").splitlines()
    root = machine.root
    assert command == f"{root}/usr/local/bin/nova-docker-agent run --config-file {root}/etc/nova-cpu.conf"
    assert (group, user) == ("group root", "user root")
    assert not (machine.root / "units/n-cpu").exists()
    # stack.sh does both only where n-cpu is enabled.
    assert "is_nova_ready" in machine.log()
    assert machine.read("mapped-hosts").strip()
    # nova-api asks about flavors, and Horizon shows what there is.
    assert f"pip_install {PLUGIN}/python-shim" in machine.log()
    [loaded] = [line for line in machine.log() if line.startswith("glance-manage ")]
    assert f"--path {PLUGIN}/python-shim/src/nova_docker/metadefs " in loaded
    # The agent reads the cell's own broker.
    assert options(machine.read("etc/nova-cpu.conf"), "DEFAULT")["transport_url"] == "rabbit://host/nova_cell1"


@pytest.mark.parametrize("agent", ["ovn", "openvswitch"])
def test_the_agent_starts_on_both_of_devstack_s_networks(machine: Machine, agent: str) -> None:
    machine.configure(Q_AGENT=agent)
    machine.succeed("stack")
    assert "nova-docker-agent run" in machine.read("units/n-docker")


def test_a_stock_nova_compute_drives_the_agent_behind_the_second_door(machine: Machine) -> None:
    machine.configure(NDA_DOOR="grpc")
    machine.succeed("stack")
    assert "nova-docker-agent serve-driver " in machine.read("units/n-docker")
    assert "nova-compute" in machine.read("units/n-cpu")
    starts = [line for line in machine.log() if line.startswith("start")]
    assert starts == ["start n-docker", "start n-cpu"]
    configuration = machine.read("etc/nova-cpu.conf")
    assert options(configuration, "DEFAULT")["compute_driver"] == "docker.DockerDriver"
    door = options(configuration, "docker_grpc")
    assert door["listen"] == door["address"]
    assert door["socket_user"]
    assert f"pip_install {PLUGIN}/python-shim" in machine.log()
    machine.succeed("unstack")
    assert [line for line in machine.log() if line.startswith("stop")] == ["stop n-cpu", "stop n-docker"]


@pytest.mark.parametrize("door", ["amqp", "grpc"])
def test_every_phase_may_be_repeated(machine: Machine, door: str) -> None:
    machine.configure(NDA_DOOR=door, NDA_PREBUILT_DIR="")
    (machine.root / "rust-version").write_text("1.90.0")
    machine.succeed("stack")
    once = machine.files()
    restarts = machine.log().count("restart docker")
    machine.succeed("stack")
    assert machine.files() == once
    assert restarts == 1
    assert machine.log().count("restart docker") == 1


@pytest.mark.parametrize("door", ["amqp", "grpc"])
def test_clean_leaves_the_machine_as_it_was(machine: Machine, door: str) -> None:
    machine.configure(NDA_DOOR=door, NDA_PREBUILT_DIR="")
    docker = machine.root / "etc/docker"
    docker.mkdir()
    (docker / "daemon.json").write_text('{"log-driver": "journald"}')
    (machine.root / "docker/images").write_text("debian@sha256:11\n127.0.0.1:5000/app@sha256:22\n")
    before = machine.files()
    machine.succeed("stack")
    launch_something(machine)
    machine.succeed("clean")
    assert left(machine) == before
    # And again, on a machine where there is nothing to do.
    machine.succeed("clean")
    assert left(machine) == before


def test_clean_removes_the_daemon_json_that_was_not_there(machine: Machine) -> None:
    machine.succeed("stack")
    assert (machine.root / "etc/docker/daemon.json").exists()
    machine.succeed("clean")
    assert list((machine.root / "etc/docker").iterdir()) == []


def left(machine: Machine) -> dict[str, str]:
    """What is there, but what belongs to the cloud and not to the plugin: its images and its hosts, and the toolchain's
    version, which the harness needs."""
    return {
        name: "" if name == "mapped-hosts" else content
        for name, content in machine.files().items()
        if not name.startswith("glance/") and name != "rust-version"
    }


def launch_something(machine: Machine) -> None:
    """What a server with a port and a volume leaves, and things of others that look alike."""
    root = machine.root
    (root / "docker/containers/c0ffee").write_text(INSTANCE)
    (root / "docker/volumes/nova-volume.p.data").touch()
    with (root / "docker/images").open("a") as images:
        images.write("127.0.0.1:40123/glance/0a1b@sha256:33\n")
    (root / f"netns/nova-{INSTANCE}").touch()
    (root / "ports/tap1").write_text(f'external_ids:vm-uuid="{INSTANCE}"')
    (root / "run/agent/driver.sock").touch()


def test_unstack_removes_the_servers_and_spares_what_is_of_others(machine: Machine) -> None:
    machine.succeed("stack")
    launch_something(machine)
    (machine.root / "ports/tap2").write_text('external_ids:vm-uuid="somebody else"')
    (machine.root / "netns/qrouter-1").touch()
    machine.succeed("unstack")
    names = machine.files()
    assert list((machine.root / "units").iterdir()) == []
    assert "docker/containers/c0ffee" not in names
    assert {name for name in names if name.startswith(("ports/", "netns/"))} == {"ports/tap2", "netns/qrouter-1"}
    # Users' volumes stay until clean, as DevStack's own data does.
    assert "docker/volumes/nova-volume.p.data" in names


@pytest.mark.parametrize("script", ["unstack", "clean"])
def test_the_scripts_end_well_where_docker_does_not_run(machine: Machine, script: str) -> None:
    machine.succeed("stack")
    (machine.root / "docker/running").unlink()
    machine.succeed(script)


def test_daemon_json_gets_what_is_missing_and_keeps_what_is_set(machine: Machine) -> None:
    docker = machine.root / "etc/docker"
    docker.mkdir()
    (docker / "daemon.json").write_text('{"bridge": "br7", "runtimes": {"crun": {"path": "/usr/bin/crun"}}}')
    machine.succeed("stack")
    text = machine.read("etc/docker/daemon.json")
    assert '"bridge": "br7"' in text
    assert '"/usr/bin/crun"' in text
    assert f'"{machine.root}/usr/local/bin/nova-docker-runtime"' in text


@pytest.mark.parametrize(("rules", "policies"), [(True, ["iptables -P FORWARD ACCEPT"]), (False, [])])
def test_the_policy_that_docker_made_before_it_was_told_not_to_goes(
    machine: Machine, rules: bool, policies: list[str]
) -> None:
    if rules:
        (machine.root / "docker/rules").touch()
    machine.succeed("stack")
    assert [line for line in machine.log() if line.startswith("iptables")] == policies
    assert "sysctl -q -w net.ipv4.ip_forward=1" in machine.log()
    # A reboot forgets it, and daemon.json stays.
    (machine.root / "log").write_text("")
    machine.succeed("stack")
    assert "sysctl -q -w net.ipv4.ip_forward=1" in machine.log()


def test_the_firewall_stays_docker_s_where_daemon_json_says_so(machine: Machine) -> None:
    (machine.root / "docker/rules").touch()
    (machine.root / "etc/docker").mkdir()
    (machine.root / "etc/docker/daemon.json").write_text('{"iptables": true}')
    machine.succeed("stack")
    assert not [line for line in machine.log() if line.startswith(("iptables", "sysctl"))]


def test_a_daemon_json_that_docker_cannot_read_ends_the_run_and_stays(machine: Machine) -> None:
    (machine.root / "etc/docker").mkdir()
    (machine.root / "etc/docker/daemon.json").write_text("{")
    done = machine.run("stack")
    assert done.returncode != 0
    assert "daemon.json" in done.stderr
    assert machine.read("etc/docker/daemon.json") == "{"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"Q_AGENT": "macvtap"}, "needs ML2/OVN (Q_AGENT=ovn) or ML2/OVS"),
        ({"VIRT_DRIVER": "libvirt"}, "VIRT_DRIVER=nova-docker"),
        ({"NDA_DOOR": "rest"}, "must be amqp or grpc"),
        ({"NDA_IMAGES": "app=/nowhere.tar"}, "there is no file /nowhere.tar"),
        ({"NDA_PREBUILT_DIR": "", "OFFLINE": "True"}, "NDA_PREBUILT_DIR"),
    ],
)
def test_what_cannot_work_is_refused_with_words(machine: Machine, variables: dict[str, str], words: str) -> None:
    machine.configure(**variables)
    done = machine.run("stack")
    assert done.returncode == 1
    assert words in done.stderr


def test_rust_is_installed_only_where_there_is_none_so_new(machine: Machine) -> None:
    machine.configure(NDA_PREBUILT_DIR="", NDA_BUILD="debug")
    (machine.root / "rust-version").write_text("1.63.0")
    machine.succeed("stack")
    assert "curl https://sh.rustup.rs" in machine.log()
    assert machine.read("usr/local/bin/nova-docker-agent") == "debug\n"
    machine.succeed("stack")
    assert machine.log().count("curl https://sh.rustup.rs") == 1


def test_images_are_in_glance_before_tempest_looks_for_them(machine: Machine) -> None:
    (machine.root / "app.tar").touch()
    machine.configure(NDA_IMAGES=f"app={machine.root}/app.tar", IMAGE_URLS="http://example.org/cirros.img")
    machine.succeed("stack")
    assert sorted(path.name for path in (machine.root / "glance").iterdir()) == ["app", "tiny"]
    made = machine.read("glance/tiny")
    assert "--container-format docker --disk-format raw --property img_hv_type=docker" in made
    variables = machine.read("variables").replace("'", "")
    # A disk image would become Tempest's second one.
    assert "IMAGE_URLS=\n" in variables
    assert "DEFAULT_IMAGE_NAME=tiny\n" in variables


def test_tempest_is_told_what_a_container_is_not(machine: Machine) -> None:
    machine.succeed("stack")
    tempest = machine.read("etc/tempest.conf")
    features = options(tempest, "compute-feature-enabled")
    assert {features[name] for name in ("vnc_console", "live_migration", "cold_migration", "config_drive")} == {"False"}
    assert {features[name] for name in ("personality", "change_password")} == {"True"}
    assert not {"pause", "suspend", "rescue", "snapshot", "shelve", "interface_attach"} & set(features)
    assert options(tempest, "service_available") == {"cinder": "False"}
    scenario = options(tempest, "scenario")
    assert scenario["dhcp_client"] == ""
    assert Path(scenario["img_file"]).exists()


def test_a_node_with_the_agent_alone_gets_nova_s_configuration_and_placement(machine: Machine) -> None:
    machine.configure(ENABLED_SERVICES="n-cpu,ovn-controller,q-ovn-agent,placement-client")
    said = machine.succeed("stack")
    assert "nova-docker-agent run" in machine.read("units/n-docker")
    assert options(machine.read("etc/nova-cpu.conf"), "placement") == {"username": "nova"}
    assert "discover_hosts.sh on the controller" in said
    assert not list((machine.root / "glance").iterdir())
    assert not [line for line in machine.log() if line.startswith(("pip_install", "glance-manage"))]


def _sample(name: str) -> dict[str, str]:
    text = (PLUGIN / "devstack" / name).read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def test_the_sample_of_a_subnode_starts_the_agent_and_names_all_that_is_elsewhere(machine: Machine) -> None:
    variables = _sample("local.conf.subnode.sample")
    # What DevStack's guide for several machines asks of a compute node.
    elsewhere = {"HOST_IP", "SERVICE_HOST", "DATABASE_TYPE", "MYSQL_HOST", "RABBIT_HOST", "GLANCE_HOSTPORT"}
    assert elsewhere <= set(variables)
    passwords = {name for name in variables if name.endswith("_PASSWORD")}
    assert passwords == {name for name in _sample("local.conf.sample") if name.endswith("_PASSWORD")}
    machine.configure(**variables)
    machine.succeed("stack")
    assert "nova-docker-agent run" in machine.read("units/n-docker")
    assert not (machine.root / "units/n-cpu").exists()
    machine.configure(**(variables | {"NDA_DOOR": "grpc"}))
    machine.succeed("stack")
    assert "nova-docker-agent serve-driver " in machine.read("units/n-docker")
    assert "nova-compute" in machine.read("units/n-cpu")


@pytest.mark.parametrize("door", ["amqp", "grpc"])
def test_a_job_of_zuul_s_starts_what_its_door_needs(machine: Machine, door: str) -> None:
    jobs: list[dict[str, Any]] = yaml.safe_load((PLUGIN / ".zuul.yaml").read_text())
    named = [entry["job"] for entry in jobs if "job" in entry]
    chosen = [job["vars"] for job in named if job["name"].endswith(("base", door))]
    services = {name: on for job in chosen for name, on in job["devstack_services"].items()}
    variables = {name: str(value) for job in chosen for name, value in job["devstack_localrc"].items()}
    enabled = [name for name in (*SERVICES.split(","), "n-novnc", "c-api") if services.get(name, True)]
    enabled += [name for name, on in services.items() if on and name not in enabled]
    machine.configure(**variables, ENABLED_SERVICES=",".join(enabled))
    machine.succeed("stack")
    units = {path.name: path.read_text() for path in (machine.root / "units").iterdir()}
    assert set(units) == {"amqp": {"n-docker"}, "grpc": {"n-docker", "n-cpu"}}[door]
    assert ("serve-driver" in units["n-docker"]) == (door == "grpc")
    assert options(machine.read("etc/tempest.conf"), "service_available") == {"cinder": "False"}


def test_a_controller_without_a_compute_service_uploads_images_and_starts_nothing(machine: Machine) -> None:
    machine.configure(DISABLED_SERVICES="n-docker")
    machine.succeed("stack")
    assert (machine.root / "glance/tiny").exists()
    # nova-api and Horizon are here.
    assert f"pip_install {PLUGIN}/python-shim" in machine.log()
    assert any(line.startswith("glance-manage ") for line in machine.log())
    assert list((machine.root / "units").iterdir()) == []
    assert not (machine.root / "usr").exists()


def test_the_configuration_waits_for_the_task_that_writes_the_same_file(machine: Machine) -> None:
    machine.succeed("stack")
    assert "async_wait configure_neutron_nova" in machine.log()
