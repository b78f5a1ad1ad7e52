"""Every key of the Compose specification: its form, and what becomes of it on Nova.

`nested` has what stands within them; `guide` makes a page of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from nova_docker_compose import forms, services
from nova_docker_compose.errors import Where
from nova_docker_compose.forms import Form, anything, items, map_of, number, one_of, record, text, texts, truth, whole


class Fate(Enum):
    """What becomes of a key."""

    TAKEN = "taken"
    IGNORED = "left alone"
    """It changes nothing that matters on a cloud."""
    WARNED = "warning"
    """It is left out, and the user hears so."""
    REFUSED = "refused"


@dataclass(frozen=True)
class Key:
    """A key, and the sentence about it in the guide; of a refused one the sentence ends the error too."""

    form: Form
    fate: Fate
    note: str


def _taken(form: Form, note: str) -> Key:
    return Key(form, Fate.TAKEN, note)


def _ignored(form: Form, note: str) -> Key:
    return Key(form, Fate.IGNORED, note)


def _warned(form: Form, note: str) -> Key:
    return Key(form, Fate.WARNED, note)


def _refused(form: Form, note: str) -> Key:
    return Key(form, Fate.REFUSED, note)


_CONFIG = "the container's configuration"
_IN_MEMORY = f"{_CONFIG}; the flavor has at least so much memory"
_FLAVOR = "the smallest flavor that has so much"
_SHARES = "a flavor's processors are a quota"
_HOST = "a container of Nova has namespaces of its own"
_PRIVILEGES = "../../../nova-docker-agent/docs/privileges.md"
_HOOKS = "[see below](#hooks-of-a-service)"
_CHOSEN = f"a flavor that gives it or lets users [choose]({_PRIVILEGES}) it; without one: refused"

SERVICE: dict[str, Key] = {
    "annotations": _warned(forms.labels, "Docker's own; write labels"),
    "attach": _ignored(truth, "`logs` shows what a service prints"),
    "blkio_config": _warned(anything, "a flavor's limits are processors, memory and disk"),
    "build": _taken(
        services.build, "`build` and `push` make the image; so does `up` where it lacks; [see below](#build)"
    ),
    "cap_add": _taken(texts, _CHOSEN),
    "cap_drop": _taken(texts, _CONFIG),
    "cgroup": _warned(text, _HOST),
    "cgroup_parent": _warned(text, _HOST),
    "command": _taken(forms.command, _CONFIG),
    "configs": _taken(items(services.file_reference("")), f"{_CONFIG}: a file, whose content is in user data"),
    "container_name": _taken(text, "the server's name; one replica only"),
    "cpu_count": _taken(whole, _FLAVOR),
    "cpu_percent": _warned(number, _SHARES),
    "cpu_period": _taken(whole, f"with `cpu_quota`: {_FLAVOR}"),
    "cpu_quota": _taken(whole, f"with `cpu_period`: {_FLAVOR}"),
    "cpu_rt_period": _warned(text, _SHARES),
    "cpu_rt_runtime": _warned(text, _SHARES),
    "cpu_shares": _warned(number, _SHARES),
    "cpus": _taken(number, _FLAVOR),
    "cpuset": _warned(text, _SHARES),
    "credential_spec": _refused(anything, "it is of Windows"),
    "depends_on": _taken(
        services.depends_on,
        "order; `service_healthy` waits for the other's health check, `service_completed_successfully` for its end with"
        " exit code 0",
    ),
    "deploy": _taken(services.deploy, "[see below](#deploy)"),
    "develop": _ignored(anything, "nothing watches files"),
    "device_cgroup_rules": _taken(texts, _CHOSEN),
    "devices": _taken(items(services.device), _CHOSEN),
    "dns": _taken(forms.one_or_more, _CONFIG),
    "dns_opt": _taken(texts, _CONFIG),
    "dns_search": _taken(forms.one_or_more, _CONFIG),
    "domainname": _taken(text, _CONFIG),
    "entrypoint": _taken(forms.command, _CONFIG),
    "env_file": _taken(services.env_file, "read, below `environment`"),
    "environment": _taken(forms.pairs, f"{_CONFIG}; a variable without a value that is not set here is left out"),
    "expose": _ignored(texts, "the services of a project reach each other on every port"),
    "extends": _taken(services.extends, "read"),
    "external_links": _taken(texts, f"{_CONFIG}: links to servers of the project, by name, id or `@TAG`"),
    "extra_hosts": _taken(forms.hosts, _CONFIG),
    "gpus": _taken(services.gpus, f"`all`, or `count` or `device_ids` of one entry; {_CHOSEN}"),
    "group_add": _taken(texts, _CONFIG),
    "healthcheck": _taken(services.healthcheck, _CONFIG),
    "hostname": _taken(text, "the server's host name; one replica only"),
    "image": _taken(
        text, "an image in Glance: its name, `NAME:TAG` or its id; one that only the local Docker has is pushed"
    ),
    "init": _taken(truth, _CONFIG),
    "ipc": _refused(text, _HOST),
    "isolation": _refused(text, "it is of Windows"),
    "label_file": _taken(forms.one_or_more, "read, below `labels`"),
    "labels": _taken(forms.labels, f"{_CONFIG}: labels of the container"),
    "links": _taken(texts, "the other service's name and ALIAS in `/etc/hosts`, and order"),
    "logging": _taken(
        record({"driver": text, "options": map_of(text)}), f"{_CONFIG}; [see below](#logging-of-a-service)"
    ),
    "mac_address": _taken(text, "of the port on the first network; one replica only"),
    "mem_limit": _taken(forms.size, _FLAVOR),
    "mem_reservation": _warned(forms.size, "a flavor's memory is all reserved"),
    "mem_swappiness": _warned(number, "a flavor has no swap"),
    "memswap_limit": _warned(forms.size, "a flavor has no swap"),
    "models": _refused(anything, "nothing provides one"),
    "network_mode": _taken(
        text, "`bridge`: the default network; `none`, `host`, `service:` and `container:` are refused"
    ),
    "networks": _taken(
        services.networks, "a port on each, with `ipv4_address`, `ipv6_address`, `mac_address`, `aliases`"
    ),
    "oom_kill_disable": _refused(truth, "the kernel protects the host's memory"),
    "oom_score_adj": _taken(whole, _CONFIG),
    "pid": _refused(text, _HOST),
    "pids_limit": _taken(whole, _CONFIG),
    "platform": _warned(text, "an image of several platforms is taken for the host's own"),
    "ports": _taken(
        services.ports,
        "rules of a security group, and a floating IP; where a published port is another than the target, Neutron"
        " forwards ports of the floating IP, if the cloud has that; else refused",
    ),
    "post_start": _taken(items(services.hook), f"commands, through the serial console, when the server runs; {_HOOKS}"),
    "pre_stop": _taken(
        items(services.hook), f"commands, through the serial console, before a command stops the server; {_HOOKS}"
    ),
    "privileged": _taken(truth, _CHOSEN),
    "profiles": _taken(texts, "read"),
    "provider": _refused(anything, "nothing provides one"),
    "pull_policy": _ignored(text, "a host fetches what it lacks from Glance"),
    "pull_refresh_after": _ignored(text, "a host fetches what it lacks from Glance"),
    "read_only": _taken(truth, _CONFIG),
    "restart": _taken(services.restart, _CONFIG),
    "runtime": _taken(text, _CHOSEN),
    "scale": _taken(whole, "servers"),
    "secrets": _taken(
        items(services.file_reference("/run/secrets")), f"{_CONFIG}: a file, whose content is in user data"
    ),
    "security_opt": _taken(texts, _CHOSEN),
    "shm_size": _taken(forms.size, _IN_MEMORY),
    "stdin_open": _taken(truth, _CONFIG),
    "stop_grace_period": _taken(forms.duration, _CONFIG),
    "stop_signal": _taken(text, _CONFIG),
    "storage_opt": _refused(anything, "a flavor's disk is the limit"),
    "sysctls": _taken(forms.pairs, _CONFIG),
    "tmpfs": _taken(forms.one_or_more, _IN_MEMORY),
    "tty": _taken(truth, _CONFIG),
    "ulimits": _taken(services.ulimits, _CONFIG),
    "use_api_socket": _refused(truth, "there is no Docker API in a container of Nova"),
    "user": _taken(text, _CONFIG),
    "userns_mode": _refused(text, _HOST),
    "uts": _refused(text, _HOST),
    "volumes": _taken(
        items(services.volume),
        "named: a volume of the project on the server's host; `tmpfs`; a text file: a copy; others are refused",
    ),
    "volumes_from": _refused(texts, "name the volume in both services"),
    "working_dir": _taken(text, _CONFIG),
}

CONTAINERS = [name for name, key in SERVICE.items() if key.fate is Fate.TAKEN and key.note.startswith(_CONFIG)]
"""The keys that are the agent's."""

DEPLOY: dict[str, tuple[Fate, str]] = {
    "mode": (Fate.TAKEN, "`replicated`; others are refused"),
    "endpoint_mode": (Fate.WARNED, "there is no virtual address: a name stands for all replicas"),
    "replicas": (Fate.TAKEN, "servers"),
    "labels": (Fate.IGNORED, "of a service, which Nova does not have"),
    "rollback_config": (Fate.WARNED, "what failed stays to be looked at"),
    "update_config": (Fate.TAKEN, "how many servers change at once, and in which order; [see below](#update_config)"),
    "resources": (
        Fate.TAKEN,
        "`limits`: the smallest flavor that has so much, and `pids`; `reservations` count where they are more, and"
        " their `devices` are as `gpus`",
    ),
    "restart_policy": (Fate.WARNED, "write `restart`"),
    "placement": (Fate.WARNED, "write `x-openstack.host_group`"),
}

_external = record({"name": text})


def _external_or_not(value: Any, where: Where) -> Any:
    return _external(value, where) if isinstance(value, dict) else truth(value, where)


NETWORK: dict[str, Key] = {
    "name": _taken(text, "the network's name; PROJECT_NAME without it"),
    "driver": _ignored(text, "Neutron's"),
    "driver_opts": _warned(map_of(text), "they are of Docker's drivers"),
    "ipam": _taken(
        record(
            {
                "driver": text,
                "options": map_of(text),
                "config": items(
                    record({"subnet": text, "ip_range": text, "gateway": text, "aux_addresses": map_of(text)})
                ),
            }
        ),
        "a subnet for each `subnet`, with `gateway` and `ip_range`",
    ),
    "external": _taken(_external_or_not, "a network that is there already"),
    "internal": _taken(truth, "no router"),
    "enable_ipv4": _ignored(truth, "subnets say it"),
    "enable_ipv6": _warned(truth, "give a `subnet` of IPv6"),
    "attachable": _ignored(truth, "whoever may use the project may use its networks"),
    "labels": _ignored(forms.labels, "a network of Neutron has tags"),
}
VOLUME: dict[str, Key] = {
    "name": _taken(text, "the volume's name; PROJECT_NAME without it"),
    "driver": _refused(text, "a volume is a directory of the server's host"),
    "driver_opts": _refused(map_of(text), "a volume is a directory of the server's host"),
    "external": _taken(_external_or_not, "its name as it is; `down -v` leaves it"),
    "labels": _ignored(forms.labels, "a volume has none"),
}
_FILE: dict[str, Key] = {
    "name": _ignored(text, "a service names it by its key"),
    "environment": _taken(text, "the content is a variable's"),
    "file": _taken(text, "the content is a file's"),
    "external": _refused(_external_or_not, "Nova keeps none"),
    "labels": _ignored(forms.labels, "it has none"),
    "template_driver": _refused(text, "nothing fills in templates"),
}
SECRET: dict[str, Key] = {
    **_FILE,
    "driver": _refused(text, "nothing provides one"),
    "driver_opts": _refused(map_of(text), "nothing provides one"),
}
CONFIG: dict[str, Key] = {**_FILE, "content": _taken(text, "the content")}
_include = record({"path": forms.one_or_more, "env_file": forms.one_or_more, "project_directory": text}, ("path",))
TOP: dict[str, Key] = {
    "version": _ignored(text, "obsolete"),
    "name": _taken(text, "the project's name"),
    "include": _taken(
        items(lambda value, where: _include(value if isinstance(value, dict) else {"path": value}, where)), "read"
    ),
    "services": _taken(anything, "servers"),
    "models": _refused(anything, "nothing provides one"),
    "networks": _taken(anything, "networks"),
    "volumes": _taken(anything, "volumes"),
    "secrets": _taken(anything, "files of containers"),
    "configs": _taken(anything, "files of containers"),
}
X_OPENSTACK: dict[str, tuple[Form, str]] = {
    "flavor": (text, "the flavor's name"),
    "host_group": (
        one_of("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"),
        "the policy of a server group for the service's servers",
    ),
    "floating_ip": (one_of("each", "none"), "a floating IP for each replica, or none in spite of `ports`"),
    "security_groups": (texts, "more security groups, by name"),
    "key_name": (text, "a key pair"),
    "metadata": (forms.pairs, "more metadata of the servers"),
}

x_openstack = record({name: form for name, (form, _) in X_OPENSTACK.items()})
SECTIONS = {"networks": NETWORK, "volumes": VOLUME, "secrets": SECRET, "configs": CONFIG}


def as_record(keys: dict[str, Key]) -> Form:
    """The form of a map of these keys."""
    return record({name: key.form for name, key in keys.items()})
