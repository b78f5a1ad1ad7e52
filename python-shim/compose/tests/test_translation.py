"""What services become, and what is refused before anything is made."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
import yaml
from fake_cloud import FakeCloud
from nova_docker_compose import agent
from nova_docker_compose.choosing import Choices
from nova_docker_compose.cloud import Api
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.keys import SERVICE, Fate
from nova_docker_compose.project import Project
from nova_docker_compose.translation import translate

Read = Callable[[str], Project]

SAMPLES = {
    "credential_spec": "{file: x}",
    "device_cgroup_rules": "['c 1:3 mr']",
    "devices": "[/dev/fuse]",
    "external_links": "[x]",
    "gpus": "all",
    "ipc": "host",
    "isolation": "x",
    "models": "[x]",
    "oom_kill_disable": "true",
    "pid": "host",
    "post_start": "[{command: x}]",
    "pre_stop": "[{command: x}]",
    "privileged": "true",
    "provider": "{type: x}",
    "runtime": "x",
    "security_opt": "[x]",
    "storage_opt": "{size: 1g}",
    "use_api_socket": "true",
    "userns_mode": "host",
    "uts": "host",
    "volumes_from": "[b]",
    "annotations": "{a: b}",
    "blkio_config": "{weight: 1}",
    "cgroup": "host",
    "cgroup_parent": "x",
    "cpu_percent": "5",
    "cpu_rt_period": "1ms",
    "cpu_rt_runtime": "1ms",
    "cpu_shares": "5",
    "cpuset": "'0'",
    "logging": "{driver: none}",
    "mem_reservation": "1m",
    "mem_swappiness": "5",
    "memswap_limit": "1m",
    "platform": "linux/amd64",
}
"""A value for each key that is refused or warned about."""


def test_there_is_a_sample_for_each_key_that_is_refused_or_warned_about() -> None:
    assert set(SAMPLES) == {key for key, each in SERVICE.items() if each.fate in (Fate.REFUSED, Fate.WARNED)}


@pytest.mark.parametrize("key", sorted(SAMPLES))
def test_a_key_that_cannot_be_had_is_refused_or_warned_about_by_name(project_of: Read, key: str) -> None:
    project = project_of(f"services: {{a: {{image: tiny, {key}: {SAMPLES[key]}}}, b: {{image: tiny}}}}")
    if SERVICE[key].fate is Fate.REFUSED:
        with pytest.raises(ComposeError, match=rf"^services\.a\.{key}: it cannot be had: "):
            translate(project)
    else:
        warnings = translate(project).warnings
        assert [each for each in warnings if each.startswith(f"services.a.{key}: it is left out: ")] == warnings


@pytest.mark.parametrize("key", sorted(agent.LACKS))
def test_no_key_is_both_taken_by_the_agent_and_lacking(key: str) -> None:
    assert key not in agent.TAKES
    assert SERVICE[key].fate is Fate.TAKEN


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ("build: .", "services.a.build: it cannot be had: an image is not built"),
        ("image: x, network_mode: host", "services.a.network_mode: host cannot be had"),
        ("image: x, network_mode: none", "services.a.network_mode: none cannot be had"),
        ("image: x, volumes: ['./d:/d']", "services.a.volumes: "),
        ("image: x, volumes: [/d]", "services.a.volumes: /d needs the name of a volume"),
        ("image: x, ports: ['8080:80']", "services.a.ports: 8080:80 cannot be had"),
        ("image: x, ports: ['80:80'], scale: 2", "write x-openstack.floating_ip: each"),
        ("image: x, hostname: h, scale: 2", "services.a.hostname: 2 replicas cannot have one"),
        ("image: x, deploy: {mode: global}", "services.a.deploy.mode: it cannot be had"),
        ("image: x, read_only: true", "services.a.read_only: it cannot be had: the agent does not take it yet"),
        (
            "image: x, depends_on: {b: {condition: service_completed_successfully}}",
            "services.a.depends_on.b: it cannot be had: Nova does not tell how a container ended",
        ),
        (
            "image: x, deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
            "services.a.deploy.resources.reservations.devices: it cannot be had",
        ),
    ],
)
def test_what_nova_lacks_is_refused(project_of: Read, service: str, problem: str) -> None:
    project = project_of(f"services: {{a: {{{service}}}, b: {{image: x, privileged: true}}}}")
    with pytest.raises(ComposeError) as caught:
        translate(project)
    assert problem in str(caught.value)
    assert "services.b.privileged" in str(caught.value), "all refusals are told at once"


def test_drivers_and_external_secrets_are_refused_and_the_local_driver_is_not(project_of: Read) -> None:
    project = project_of(
        "services: {a: {image: x, volumes: ['v:/v', 'w:/w'], secrets: [s]}}\n"
        "volumes: {v: {driver: local}, w: {driver: nfs}}\nsecrets: {s: {external: true}}"
    )
    with pytest.raises(ComposeError) as caught:
        translate(project)
    assert "volumes.w.driver" in str(caught.value)
    assert "secrets.s.external" in str(caught.value)
    assert "volumes.v" not in str(caught.value)


def test_servers_that_share_a_volume_are_told_to_go_to_one_host(project_of: Read) -> None:
    shared = (
        "services: {{a: {{image: x, volumes: ['v:/v']{0}}}, b: {{image: x, volumes: ['v:/w:ro']{0}}}}}\n"
        "volumes: {{v: }}"
    )
    assert "volumes.p_v: a, b have it only on one host together" in translate(project_of(shared.format(""))).warnings[0]
    assert translate(project_of(shared.format(", x-openstack: {host_group: affinity}"))).warnings == []


def test_the_configuration_is_what_the_agent_reads(project_of: Read) -> None:
    project = project_of(
        "services: {a: {image: x, command: nginx -g 'daemon off;', environment: [A=b, NOT_SET], volumes: ['v:/v:ro',"
        " {type: tmpfs, target: /t, tmpfs: {size: 1m}}], tmpfs: /run, extra_hosts: [h=1.2.3.4], restart: always,"
        " healthcheck: {test: x, start_interval: 1s, interval: 5s}, deploy: {resources: {limits: {pids: 5}}}}}\n"
        "volumes: {v: }"
    )
    wanted = translate(project).wanted["a"]
    encoded = agent.user_data(agent.configuration(wanted.service, wanted.volumes, {"db": ["10.0.0.5"]}))
    assert encoded is not None
    text = base64.b64decode(encoded).decode()
    assert text.startswith("#container-config\n")
    assert yaml.safe_load(text) == {
        "command": ["nginx", "-g", "daemon off;"],
        "environment": {"A": "b"},
        "extra_hosts": {"db": ["10.0.0.5"], "h": ["1.2.3.4"]},
        "healthcheck": {"interval": "5s", "test": ["CMD-SHELL", "x"]},
        "pids_limit": 5,
        "tmpfs": ["/run", "/t:size=1048576"],
        "volumes": ["p_v:/v:ro"],
    }
    assert agent.user_data({}) is None
    with pytest.raises(ComposeError, match="user data has at most 65535"):
        agent.user_data({"environment": {"A": "x" * 60000}})


@pytest.mark.parametrize(
    ("limits", "flavor"),
    [
        ("tty: true", "c1.tiny"),
        ("mem_limit: 65m", "c1.small"),
        ("cpus: 0.5", "c1.tiny"),
        ("cpus: 1.5", "c1.fuse"),
        ("cpu_quota: 150000", "c1.fuse"),
        ("deploy: {resources: {limits: {memory: 20m}, reservations: {memory: 200m}}}", "c1.small"),
        ("cap_add: [CAP_MKNOD]", "c1.fuse"),
        ("x-openstack: {flavor: vm}", "vm"),
    ],
)
def test_the_smallest_flavor_that_fits_is_chosen(project_of: Read, cloud: FakeCloud, limits: str, flavor: str) -> None:
    wanted = translate(project_of(f"services: {{a: {{image: tiny, {limits}}}}}")).wanted["a"]
    choices = Choices(Api(cloud))
    assert choices.flavor(wanted, choices.image("tiny"))["name"] == flavor


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ("image: tiny, mem_limit: 5g", "no flavor has 1 processors, 5120 MiB of memory, 1 GiB of disk"),
        ("image: tiny, cap_add: [NET_ADMIN]", r"the capabilities NET_ADMIN \(docker:cap_add\)"),
        ("image: tiny, x-openstack: {flavor: c1.tinny}", "there is no flavor c1.tinny; there is c1.tiny"),
        ("image: 'web:v2'", "there is no image web:v2 in Glance; there is web:v1"),
    ],
)
def test_what_the_cloud_lacks_is_told_with_what_is_near(
    project_of: Read, cloud: FakeCloud, service: str, problem: str
) -> None:
    wanted = translate(project_of(f"services: {{a: {{{service}}}}}")).wanted["a"]
    choices = Choices(Api(cloud))
    with pytest.raises(ComposeError, match=problem):
        choices.flavor(wanted, choices.image(wanted.image))


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("tiny", "tiny"),
        ("web:v1", "web:v1"),
        ("db", "db:latest"),
        ("tiny:latest", "tiny"),
        ("demo/web:v1", "web:v1"),
        ("registry.example:5000/demo/web:v1", "web:v1"),
        ("00000001-0000-0000-0000-000000000000", "tiny"),
    ],
)
def test_an_image_is_found_by_its_name_its_tag_its_place_in_the_registry_or_its_id(
    cloud: FakeCloud, reference: str, name: str
) -> None:
    assert Choices(Api(cloud)).image(reference)["name"] == name
