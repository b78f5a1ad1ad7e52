"""`nova-docker-agent check`: on this cloud as it is, and with its configuration spoilt."""

from __future__ import annotations

import configparser
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from harness.lab import Lab

pytestmark = pytest.mark.agent

Finding = dict[str, str]

UNAVOIDABLE = {"storage", "dockerd", "docker-disk", "state-disk"}
"""What depends on the machine's file systems, and `live-restore`, which tests of a dockerd that ends cannot have."""


def _check(lab: Lab, config: Path) -> tuple[int, list[Finding]]:
    """Exit status and findings. No password of the cloud may be among what is said."""
    door = ["--serve-driver"] if lab.door == "grpc" else []
    program = [str(lab.state / "bin" / "nova-docker-agent"), "check", "--json", "--config-file", str(config), *door]
    done = subprocess.run(program, capture_output=True, text=True, timeout=180, check=False)
    assert done.stderr == ""
    secrets = json.loads((lab.state / "passwords.json").read_text())
    assert [name for name, secret in secrets.items() if str(secret) in done.stdout] == []
    return done.returncode, json.loads(done.stdout)["checks"]


def _spoilt(lab: Lab, directory: Path, changes: Mapping[tuple[str, str], str]) -> Path:
    """A copy of the agent's configuration with other values."""
    configuration: Any = configparser.ConfigParser(interpolation=None, strict=False)
    configuration.read(lab.state / "etc" / "nova-docker-agent.conf")
    for (section, option), value in changes.items():
        configuration[section][option] = value
    path = directory / "nova.conf"
    with path.open("w") as stream:
        configuration.write(stream)
    return path


def _words(findings: list[Finding], check: str, verdict: str) -> str:
    """What was said of one check, with this verdict."""
    return "; ".join(found["found"] for found in findings if (found["check"], found["verdict"]) == (check, verdict))


@pytest.mark.both_doors
def test_this_cloud_is_fit_while_the_agent_runs(lab: Lab) -> None:
    status, findings = _check(lab, lab.state / "etc" / "nova-docker-agent.conf")
    bad = [found for found in findings if found["verdict"] in ("warning", "failed")]
    assert [found for found in bad if found["verdict"] == "failed" or found["check"] not in UNAVOIDABLE] == []
    assert status == 0
    if (lab.state / "criu/criu").exists():
        assert "servers are suspended to disk" in _words(findings, "criu", "ok")
    assert "is the running agent's" in _words(findings, "registry-port", "ok")
    if lab.door == "amqp":
        assert "its compute service runs here" in _words(findings, "service", "ok")
        assert _words(findings, "cell", "ok") == "this host was discovered"
        assert "alive" in _words(findings, "network-agent", "ok")


@pytest.mark.amqp
def test_what_is_wrong_is_told_and_does_not_hide_the_rest(lab: Lab, tmp_path: Path) -> None:
    url = f"rabbit://openstack:wrong@127.0.0.1:{_port(lab)}/"
    no_docker = ("docker", "host_url"), f"unix://{tmp_path}/docker.sock"
    spoilt = dict([no_docker, (("DEFAULT", "transport_url"), url), (("DEFAULT", "host"), "nobody-called-so")])
    status, findings = _check(lab, _spoilt(lab, tmp_path, spoilt))
    assert status == 1
    assert "ACCESS_REFUSED" in _words(findings, "broker", "failed")
    assert "docker.sock is unavailable" in _words(findings, "docker", "failed")
    assert lab.host in _words(findings, "network-agent", "failed")
    assert all(_words(findings, check, "ok") for check in ("keystone", "placement", "neutron", "glance"))

    passwords = {(section, "password"): "wrong" for section in ("placement", "neutron", "service_user")}
    status, findings = _check(lab, _spoilt(lab, tmp_path, passwords))
    assert status == 1
    assert _words(findings, "keystone", "failed").count(": 401: ") == len(passwords)
    assert all(_words(findings, check, "left_out") for check in ("placement", "network-agent", "glance"))
    assert all(_words(findings, check, "ok") for check in ("broker", "conductor", "service", "docker", "open-vswitch"))


def _port(lab: Lab) -> str:
    """Of the broker."""
    configuration = configparser.ConfigParser(interpolation=None, strict=False)
    configuration.read(lab.state / "etc" / "nova-docker-agent.conf")
    return configuration["DEFAULT"]["transport_url"].rpartition(":")[2].partition("/")[0]
