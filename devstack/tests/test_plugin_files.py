"""The files of the DevStack plugin beside its behaviour: style, Zuul's jobs, the samples, the collection of logs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DEVSTACK = ROOT / "devstack"
HARNESS = DEVSTACK / "tests" / "plugin"
PLUGIN = (
    DEVSTACK / "override-defaults",
    DEVSTACK / "settings",
    DEVSTACK / "plugin.sh",
    DEVSTACK / "collect-logs",
    DEVSTACK / "tempest",
    *(path for path in (DEVSTACK / "lib").rglob("*") if path.is_file()),
)
SCRIPTS = (*PLUGIN, *HARNESS.glob("*.bash"), *(HARNESS / "bin").iterdir(), DEVSTACK / "unpack-debian")


def test_shellcheck_finds_nothing() -> None:
    # SC1090, SC1091: what is sourced depends on variables. SC2034, SC2154: DevStack reads ours, and we read its own.
    command = ["shellcheck", "--shell=bash", "--exclude=SC1090,SC1091,SC2034,SC2154"]
    found = subprocess.run([*command, *SCRIPTS], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_bashate_finds_nothing_in_the_plugin() -> None:
    # E005: DevStack sources these files, whose names it gives; nothing runs them.
    command = ["bashate", "--ignore=E005", "--error=E006", "--max-line-length=120", *PLUGIN]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_zuul_has_a_job_for_each_door() -> None:
    jobs = {entry["job"]["name"]: entry["job"] for entry in _yaml(".zuul.yaml") if "job" in entry}
    doors = {name: job["vars"]["devstack_localrc"]["NDA_DOOR"] for name, job in jobs.items() if not job.get("abstract")}
    assert doors == {"nova-docker-agent-tempest-amqp": "amqp", "nova-docker-agent-tempest-grpc": "grpc"}
    project = next(entry["project"] for entry in _yaml(".zuul.yaml") if "project" in entry)
    assert {*project["check"]["jobs"], *project["gate"]["jobs"]} == set(doors)
    base = jobs["nova-docker-agent-tempest-base"]
    assert {job["parent"] for job in jobs.values()} == {"devstack-tempest", base["name"]}
    assert (ROOT / base["post-run"]).is_file()
    collects = _yaml(base["post-run"])[0]["tasks"][0]["command"].split()[-2].partition("nova-docker-agent/")[2]
    assert os.access(ROOT / collects, os.X_OK)
    # A file that is not there is passed over without a word.
    assert (ROOT / base["vars"]["tempest_test_exclude_list"].rpartition("}}/")[2]).is_file()
    for pattern in (*base["irrelevant-files"], base["vars"]["tempest_test_regex"]):
        re.compile(pattern)
    # enable_plugin finds the repository that Zuul has prepared by its name, and the plugin by the same.
    assert set(base["vars"]["devstack_plugins"]) == {"nova-docker-agent"}


def test_the_samples_and_zuul_s_jobs_choose_the_driver_and_a_network_that_the_agent_knows() -> None:
    job = next(entry["job"] for entry in _yaml(".zuul.yaml") if entry["job"].get("abstract"))
    chosen = [job["vars"]["devstack_localrc"]]
    for sample in ("local.conf.sample", "local.conf.subnode.sample"):
        text = (DEVSTACK / sample).read_text()
        chosen.append(dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)))
        assert re.search("^enable_plugin nova-docker-agent ", text, re.MULTILINE)
    for variables in chosen:
        assert variables["VIRT_DRIVER"] == "nova-docker"
        # DevStack's own default.
        assert variables.get("Q_AGENT", "ovn") == "ovn"
    # A list of services replaces DevStack's, so the one of a further host names OVN's.
    assert {"ovn-controller", "ovs-vswitchd", "ovsdb-server"} <= set(chosen[-1]["ENABLED_SERVICES"].split(","))


def test_the_packages_are_there_that_devstack_brings_for_nova_compute_alone() -> None:
    lines = (DEVSTACK / "files/debs/nova-docker-agent").read_text().splitlines()
    packages = [line.partition("#")[0].strip() for line in lines]
    # DevStack's words that leave a package out.
    assert not re.search("NOPRIME|dist:|not:|testonly", "\n".join(lines))
    # lib/tempest runs qemu-img behind both doors.
    assert {"docker.io", "qemu-utils"} <= set(packages)


def test_every_variable_of_the_plugin_is_in_its_readme() -> None:
    settings = (DEVSTACK / "settings").read_text()
    variables = set(re.findall(r"^(NDA_\w+)=\$\{", settings, re.MULTILINE))
    documented = set(re.findall(r"^\| `(NDA_\w+)`", (DEVSTACK / "PLUGIN.md").read_text(), re.MULTILINE))
    assert documented == variables


def test_the_logs_of_every_container_are_collected_even_where_a_command_fails(tmp_path: Path) -> None:
    for directory in ("docker/containers", "docker/volumes", "netns"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "docker/running").touch()
    (tmp_path / "docker/images").write_text("debian@sha256:11\n")
    (tmp_path / "docker/containers/c0ffee").write_text("instance")
    environment = {"PATH": f"{HARNESS}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SANDBOX": str(tmp_path)}
    logs = tmp_path / "logs"
    subprocess.run([DEVSTACK / "collect-logs", logs], env=environment, check=True)
    assert (logs / "docker-images.txt").read_text() == "debian@sha256:11\n"
    assert (logs / "docker-containers.txt").read_text() == "c0ffee\n"
    # The harness's Docker and Open vSwitch know neither of these.
    for name in ("container-c0ffee.log", "open-vswitch.txt"):
        assert "status 64" in (logs / name).read_text()


def test_zuul_and_the_command_for_mini_leave_out_the_same_tests() -> None:
    job = next(entry["job"] for entry in _yaml(".zuul.yaml") if entry["job"].get("abstract"))
    listed = job["vars"]["tempest_test_exclude_list"].partition("}}/{{")[2].partition("}}/")[2]
    assert f'$here/{listed.removeprefix("devstack/")}"' in (DEVSTACK / "tempest").read_text()
    lines = (ROOT / listed).read_text().splitlines()
    assert all(re.compile(line).pattern.startswith(r"^tempest\.") for line in lines if line and line[0] != "#")


def test_tempest_leaves_out_what_cannot_pass_and_nothing_beside_it() -> None:
    lines = (DEVSTACK / "files/tempest-exclude.txt").read_text().splitlines()
    expressions = [re.compile(line) for line in lines if line and line[0] != "#"]
    servers = "tempest.api.compute.servers."
    advanced = "tempest.scenario.test_network_advanced_server_ops.TestNetworkAdvancedServerOps."
    tests = (
        f"{servers}test_server_actions.ServerActionsTestJSON.test_reboot_server_hard[id-2cb1,smoke]",
        f"{servers}test_attach_interfaces.AttachInterfacesUnderV243Test.test_add_remove_fixed_ip[id-c7e0,smoke]",
        f"{servers}test_attach_interfaces.AttachInterfacesTestJSON.test_create_list_show_delete_interfaces[id-7366]",
        f"{servers}test_server_actions.ServerActionsTestJSON.test_rebuild_server[id-aaa6]",
        f"{advanced}test_server_connectivity_reboot[compute,id-7b68,network]",
    )
    left_out = [test for test in tests if any(expression.search(test) for expression in expressions)]
    assert left_out == [*tests[:2]]


def _yaml(path: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load((ROOT / path).read_text())
    return entries
