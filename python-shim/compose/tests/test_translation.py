"""What services become, and what is refused before anything is made."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_cloud import FakeCloud
from nova_docker_compose import agent, privileges
from nova_docker_compose.choosing import Choices
from nova_docker_compose.cloud import Api
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.keys import CONTAINERS, SERVICE, Fate
from nova_docker_compose.project import Project
from nova_docker_compose.servers import Recipe
from nova_docker_compose.translation import translate

Read = Callable[[str], Project]

SAMPLES = {
    "credential_spec": "{file: x}",
    "ipc": "host",
    "isolation": "x",
    "models": "[x]",
    "oom_kill_disable": "true",
    "pid": "host",
    "provider": "{type: x}",
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


def test_a_key_that_the_agent_does_not_take_is_refused(project_of: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_of("services: {a: {image: x, read_only: true, restart: always}}")
    translate(project)
    monkeypatch.setattr(agent, "TAKES", tuple(key for key in agent.TAKES if key != "read_only"))
    with pytest.raises(ComposeError, match=r"^services\.a\.read_only: it cannot be had: the agent does not take it$"):
        translate(project)


def test_every_key_of_the_agent_is_in_the_table_of_keys() -> None:
    assert set(agent.TAKES) - {"volumes"} == set(CONTAINERS)


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ("image: x, network_mode: host", "services.a.network_mode: host cannot be had"),
        ("image: x, network_mode: none", "services.a.network_mode: none cannot be had"),
        ("image: x, volumes: ['.:/d']", "cannot be had: a server sees no directory of yours; bring its files into"),
        ("image: x, volumes: ['./none:/d']", "none cannot be had: there is no such file"),
        (f"image: x, volumes: ['./{'n' * 300}:/d']", "n cannot be had: File name too long"),
        ("image: x, volumes: ['/dev/null:/d']", "services.a.volumes: /dev/null cannot be had: a server gets copies"),
        ("image: x, volumes: [/d]", "services.a.volumes: /d needs the name of a volume: NAME:/d"),
        ("image: x, post_start: [{command: x, privileged: true}]", "services.a.post_start: privileged cannot be had"),
        ("image: x, networks: {n: {ipv4_address: 10.0.0.999}}", "services.a.networks.n.ipv4_address: '10.0.0.999'"),
        ("image: x, networks: {n: {ipv6_address: 10.0.0.9}}", "services.a.networks.n.ipv6_address: '10.0.0.9' is no"),
        ("image: x, ports: ['80:80'], scale: 2", "write x-openstack.floating_ip: each"),
        ("image: x, hostname: h, scale: 2", "services.a.hostname: 2 replicas cannot have one"),
        ("image: x, deploy: {mode: global}", "services.a.deploy.mode: it cannot be had"),
        (
            "image: x, depends_on: {b: {condition: service_healthy}}",
            "services.a.depends_on.b: b has no healthcheck, so it is never healthy",
        ),
        (
            "image: x, deploy: {resources: {reservations: {devices: [{capabilities: [tpu]}]}}}",
            "services.a.deploy.resources.reservations.devices: it cannot be had: only the capability gpu can",
        ),
        ("image: x, devices: ['/etc/passwd:/dev/x']", "services.a.devices: /etc/passwd:/dev/x cannot be had"),
        ("image: x, security_opt: ['seccomp=./p.json']", "services.a.security_opt: seccomp=./p.json cannot be had"),
        ("image: x, gpus: [{count: 1}, {count: 2}]", "services.a.gpus: it cannot be had: only one entry"),
    ],
)
def test_what_nova_lacks_is_refused(project_of: Read, service: str, problem: str) -> None:
    project = project_of(f"services: {{a: {{{service}}}, b: {{image: x, pid: host}}}}\nnetworks: {{n: }}")
    with pytest.raises(ComposeError) as caught:
        translate(project)
    assert problem in str(caught.value)
    assert "services.b.pid" in str(caught.value), "all refusals are told at once"


def test_drivers_and_external_secrets_are_refused_and_the_local_driver_is_not(project_of: Read) -> None:
    project = project_of(
        "services: {a: {image: x, volumes: ['v:/v', 'w:/w'], secrets: [s]}}\n"
        "volumes: {v: {driver: local}, w: {driver: nfs}}\nsecrets: {s: {external: true}}"
    )
    with pytest.raises(ComposeError) as caught:
        translate(project)
    assert "volumes.w.driver" in str(caught.value)
    assert "secrets.s.external" in str(caught.value)
    assert "services.a" not in str(caught.value), "a secret that is refused is not looked for"
    assert "volumes.v" not in str(caught.value)


def test_servers_that_share_a_volume_are_told_to_go_to_one_host(project_of: Read) -> None:
    shared = (
        "services: {{a: {{image: x, volumes: ['v:/v']{0}}}, b: {{image: x, volumes: ['v:/w:ro']{0}}}}}\n"
        "volumes: {{v: }}"
    )
    assert "volumes.p_v: a, b have it only on one host together" in translate(project_of(shared.format(""))).warnings[0]
    assert translate(project_of(shared.format(", x-openstack: {host_group: affinity}"))).warnings == []


def test_what_is_left_out_within_a_key_is_told_by_its_name(project_of: Read) -> None:
    project = project_of(
        """
services:
  a:
    image: x
    healthcheck: {test: x, start_interval: 1s, interval: 5s}
    networks: {n: {aliases: [b], gw_priority: 1, link_local_ips: [169.254.1.1]}}
    volumes:
      - v:/v:nocopy
      - {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}
      - {type: bind, source: ./compose.yaml, target: /c, read_only: true, bind: {propagation: shared, selinux: z}}
networks: {n: {ipam: {driver: default, options: {a: b}, config: [{subnet: 10.0.0.0/24, aux_addresses: {r: 10.0.0.9}}]}}}
volumes: {v: }
"""
    )
    assert sorted(each.partition(": ")[0] for each in translate(project).warnings) == [
        "networks.n.ipam.config.aux_addresses",
        "networks.n.ipam.options",
        "services.a.healthcheck.start_interval",
        "services.a.networks.n.gw_priority",
        "services.a.networks.n.link_local_ips",
        "services.a.volumes./c.bind.propagation",
        "services.a.volumes./t.tmpfs.mode",
        "services.a.volumes./v.volume.nocopy",
    ]


def test_the_configuration_is_what_the_agent_reads(project_of: Read) -> None:
    project = project_of(
        "services: {a: {image: x, command: nginx -g 'daemon off;', environment: [A=b, NOT_SET], volumes: ['v:/v:ro',"
        " {type: tmpfs, target: /t, tmpfs: {size: 1m}}], tmpfs: /run, extra_hosts: [h=1.2.3.4], restart: always,"
        " external_links: ['other:o'],"
        " healthcheck: {test: x, start_interval: 1s, interval: 5s}, deploy: {resources: {limits: {pids: 5}}}}}\n"
        "volumes: {v: }"
    )
    wanted = translate(project).wanted["a"]
    encoded = agent.user_data(agent.configuration(wanted.service, wanted.volumes, wanted.given, {"db": ["10.0.0.5"]}))
    assert encoded is not None
    text = base64.b64decode(encoded).decode()
    assert text.startswith("#container-config\n")
    assert yaml.safe_load(text) == {
        "command": ["nginx", "-g", "daemon off;"],
        "environment": {"A": "b"},
        "extra_hosts": {"db": ["10.0.0.5"], "h": ["1.2.3.4"]},
        "healthcheck": {"interval": "5s", "test": ["CMD-SHELL", "x"]},
        "links": ["other:o"],
        "pids_limit": 5,
        "restart": "always",
        "tmpfs": ["/run", "/t:size=1048576"],
        "volumes": ["p_v:/v:ro"],
    }
    assert agent.user_data({}) is None
    with pytest.raises(ComposeError, match="user data has at most 65535"):
        agent.user_data({"environment": {"A": "x" * 60000}})


PRIVILEGES = """
services:
  a:
    image: tiny
    cap_add: [CAP_NET_ADMIN, MKNOD]
    device_cgroup_rules: ['c  10:200 rwm']
    devices: [/dev/kvm, '/dev/net/tun:/dev/tun:rw']
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 2, capabilities: [gpu]}]}}}
    privileged: true
    runtime: crun
    security_opt: ['seccomp:unconfined', 'no-new-privileges:false']
"""
ALLOWED = {
    "docker:allow": "cap_add:NET_ADMIN, device_cgroup_rules:c 10:200 rwm, devices:/dev/kvm, devices:/dev/net/tun:rw,"
    " gpus, privileged:true, runtime:crun, security_opt:seccomp=unconfined, no_new_privileges",
    "docker:cap_add": "MKNOD",
}


def _with_flavor(cloud: FakeCloud, specs: dict[str, str]) -> None:
    cloud.flavors.append(cloud._flavor("c1.lab", 1, 8, specs))


def test_what_a_flavor_lets_users_choose_is_chosen_and_what_it_gives_is_not(project_of: Read, cloud: FakeCloud) -> None:
    _with_flavor(cloud, ALLOWED)
    wanted = translate(project_of(PRIVILEGES)).wanted["a"]
    choices = Choices(Api(cloud))
    flavor = choices.flavor(wanted, choices.image("tiny"))
    assert flavor["name"] == "c1.lab"
    encoded = Recipe(wanted, {}, flavor, []).user_data({})
    assert encoded is not None
    assert yaml.safe_load(base64.b64decode(encoded)) == {
        "cap_add": ["NET_ADMIN"],
        "device_cgroup_rules": ["c 10:200 rwm"],
        "devices": ["/dev/kvm:/dev/kvm:rwm", "/dev/net/tun:/dev/tun:rw"],
        "gpus": "2",
        "no_new_privileges": False,
        "privileged": True,
        "runtime": "crun",
        "security_opt": ["seccomp=unconfined"],
    }


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("cap_add:NET_ADMIN,", ""),
        ("c 10:200 rwm", "c 10:200 r"),
        ("devices:/dev/kvm,", "devices:/dev/kvm:rw,"),
        ("gpus,", "gpus:1,"),
        ("privileged:true", "privileged:false"),
        ("runtime:crun", "runtime:runsc"),
        ("seccomp=unconfined", "label=disable"),
        (", no_new_privileges", ""),
    ],
)
def test_a_flavor_that_lacks_one_privilege_is_not_taken(
    project_of: Read, cloud: FakeCloud, was: str, becomes: str
) -> None:
    assert was in ALLOWED["docker:allow"]
    _with_flavor(cloud, {**ALLOWED, "docker:allow": ALLOWED["docker:allow"].replace(was, becomes)})
    wanted = translate(project_of(PRIVILEGES)).wanted["a"]
    choices = Choices(Api(cloud))
    with pytest.raises(ComposeError, match=r"^no flavor has "):
        choices.flavor(wanted, choices.image("tiny"))


def test_a_flavor_with_privileges_is_for_those_who_ask(project_of: Read, cloud: FakeCloud) -> None:
    _with_flavor(cloud, {"docker:privileged": "true"})
    project = project_of("services: {a: {image: tiny}, b: {image: tiny, privileged: true}}")
    choices = Choices(Api(cloud))
    chosen = {
        name: choices.flavor(each, choices.image("tiny"))["name"] for name, each in translate(project).wanted.items()
    }
    assert chosen == {"a": "c1.tiny", "b": "c1.lab"}


@pytest.mark.parametrize(
    ("loose", "tight"),
    [
        ({"docker:cap_add": "ALL"}, {"docker:cap_add": "MKNOD, SYS_ADMIN"}),
        ({"docker:cap_add": "MKNOD, SYS_ADMIN"}, {"docker:cap_add": "MKNOD"}),
        (
            {"docker:cap_add": "MKNOD", "docker:privileged": "yes"},
            {"docker:cap_add": "MKNOD", "docker:privileged": "off"},
        ),
        (
            {"docker:cap_add": "MKNOD", "docker:no_new_privileges": "0"},
            {"docker:cap_add": "MKNOD", "docker:no_new_privileges": "True"},
        ),
    ],
)
def test_of_two_flavors_the_one_that_gives_less_is_taken_however_small_the_other_is(
    project_of: Read, cloud: FakeCloud, loose: dict[str, str], tight: dict[str, str]
) -> None:
    cloud.flavors[:] = [cloud._flavor("c1.loose", 1, 8, loose), cloud._flavor("c1.tight", 1, 4096, tight)]
    wanted = translate(project_of("services: {a: {image: tiny, cap_add: [MKNOD]}}")).wanted["a"]
    choices = Choices(Api(cloud))
    assert choices.flavor(wanted, choices.image("tiny"))["name"] == "c1.tight"


@pytest.mark.parametrize(
    ("specs", "chosen"),
    [({}, {}), ({"docker:no_new_privileges": "no", "docker:allow": "no_new_privileges"}, {"no_new_privileges": True})],
)
def test_who_forbids_new_privileges_has_them_forbidden(specs: dict[str, str], chosen: dict[str, bool]) -> None:
    asked = privileges.asked_of({"security_opt": ["no-new-privileges:True"]}, [])
    assert privileges.not_had(asked, specs) == []
    assert privileges.choices(asked, specs) == chosen
    assert privileges.not_had(asked, {"docker:no_new_privileges": "false"}) == ["no_new_privileges true"]


@pytest.mark.parametrize(
    "service",
    [
        {"devices": [{"source": "/dev/pci-0000:00:14.0", "target": "/dev/x"}]},
        {"devices": [{"source": "/dev/kvm", "permissions": "x"}]},
        {
            "gpus": "all",
            "deploy": {"resources": {"reservations": {"devices": [{"capabilities": ["tpu"]}]}}},
        },
        {"gpus": [{"count": 2, "device_ids": ["0"]}]},
    ],
)
def test_what_no_flavor_can_give_is_refused(service: dict[str, Any]) -> None:
    problems: list[str] = []
    privileges.asked_of(service, problems)
    assert len(problems) == 1


def test_of_a_log_no_more_is_asked_for_than_the_agent_and_the_flavor_take(project_of: Read) -> None:
    project = project_of(
        "services: {a: {image: x, logging: {options: {max-size: 2g, max-file: '3'}}},"
        " b: {image: x, logging: {options: {max-size: 1.5m, max-file: '101'}}},"
        " c: {image: x, logging: {options: {max-size: '-1', max-file: 3b}}},"
        " d: {image: x, logging: {options: {max-size: 1k}}}}"
    )
    translation = translate(project)
    specs = {"docker:logging:max-size": "10m", "docker:logging:max-file": "5"}
    kept = {
        name: agent.configuration(each.service, [], {}, {}, specs=specs).get("logging")
        for name, each in translation.wanted.items()
    }
    assert kept == {"a": {"options": {"max-size": "10m", "max-file": "3"}}, "b": None, "c": None, "d": None}
    assert len(translation.warnings) == 5


def test_the_bounds_of_a_log_are_the_agent_s_and_the_rest_is_left_out_by_name(project_of: Read) -> None:
    project = project_of(
        "services: {a: {image: x, logging: {driver: json-file, options: {max-size: 1m, max-file: '3', tag: t}}},"
        " b: {image: x, logging: {driver: syslog, options: {max-size: 1m}}}}"
    )
    translation = translate(project)
    made = {
        name: agent.configuration(each.service, [], {}, {}).get("logging") for name, each in translation.wanted.items()
    }
    assert made == {"a": {"options": {"max-size": "1m", "max-file": "3"}}, "b": None}
    assert [each.partition(": ")[0] for each in translation.warnings] == [
        "services.a.logging.options.tag",
        "services.b.logging.driver",
    ]


def test_configs_secrets_and_files_are_given_with_their_contents(project_of: Read, tmp_path: Path) -> None:
    (tmp_path / "c.conf").write_text("from a file")
    (tmp_path / "run.sh").write_text("#!/bin/sh")
    (tmp_path / "run.sh").chmod(0o755)
    project = project_of(
        "services: {a: {image: x, configs: [c, {source: c, target: /etc/c, mode: 0440, uid: '5'}, i],"
        " secrets: [s, {source: t, target: /t}], volumes: ['./run.sh:/run.sh', './c.conf:/x/c:ro']}}\n"
        "configs: {c: {file: c.conf}, i: {content: inline}}\nsecrets: {s: {file: c.conf}, t: {environment: TOKEN}}"
    )
    project.variables = {"TOKEN": "token"}
    translation = translate(project)
    assert translation.wanted["a"].given == {
        "configs": {
            "c": {"content": "from a file"},
            "c.2": {"content": "from a file", "target": "/etc/c", "mode": "0440", "uid": "5"},
            "i": {"content": "inline"},
            "run.sh": {"content": "#!/bin/sh", "target": "/run.sh", "mode": "0555"},
            "x-c": {"content": "from a file", "target": "/x/c", "mode": "0444"},
        },
        "secrets": {
            "s": {"content": "from a file", "target": "/run/secrets/s"},
            "t": {"content": "token", "target": "/t"},
        },
    }
    assert translation.warnings == [
        "services.a.volumes: /run.sh is a copy of your file, which the container cannot write"
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no such file"),
        (b"\xff", "it is no text in UTF-8"),
        (b"x" * 50000, "more than 49152 bytes do not fit into user data"),
    ],
)
def test_a_file_that_cannot_be_given_is_told(
    project_of: Read, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    project = project_of("services: {a: {image: x, secrets: [s, t]}}\nsecrets: {s: {file: f}, t: {environment: NOPE}}")
    with pytest.raises(ComposeError) as caught:
        translate(project)
    assert problem in str(caught.value)
    assert "services.a.secrets.t: the variable NOPE is not set" in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "flavor"),
    [
        ("tty: true", "c1.tiny"),
        ("mem_limit: 65m", "c1.small"),
        ("mem_limit: 20m, shm_size: 128mb", "c1.small"),
        ("tmpfs: ['/run', '/tmp:mode=1777,size=100m']", "c1.small"),
        ("tmpfs: ['/tmp:size=10%']", "c1.tiny"),
        ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 100m}}]", "c1.small"),
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
        ("image: tiny, mem_limit: 5g", "no flavor has 1 processor, 5120 MiB of memory, 1 GiB of disk"),
        ("image: tiny, cap_add: [NET_ADMIN]", r"1 GiB of disk, cap_add NET_ADMIN \(docker:cap_add or docker:allow\)$"),
        (
            "image: tiny, cap_add: [MKNOD], x-openstack: {flavor: c1.tiny}",
            "c1.tiny neither gives nor lets users choose cap_add MKNOD; the privileges are to be had with c1.fuse$",
        ),
        ("image: tiny, cap_add: [MKNOD], mem_limit: 5g", "; the privileges are to be had with c1.fuse$"),
        (
            "image: tiny, shm_size: 128mb, x-openstack: {flavor: c1.tiny}",
            "the flavor c1.tiny has 64 MiB of memory; shm_size or a tmpfs of 128 does not",
        ),
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
