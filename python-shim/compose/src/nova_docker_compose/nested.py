"""What stands within a service's keys and a network's, where it has a fate of its own: as in `keys`, for the guide and
for what is told of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nova_docker_compose.keys import Fate

_TAKEN, _IGNORED, _WARNED, _REFUSED = Fate.TAKEN, Fate.IGNORED, Fate.WARNED, Fate.REFUSED
_BUILDER = "the builder's own default"
_DOCKER_S = "it is of Docker's networks"
_MOUNT = "it is of mounts on one machine"

Table = dict[str, tuple[Fate, str]]

BUILD: Table = {
    **dict.fromkeys(("context", "dockerfile", "dockerfile_inline", "target"), (_TAKEN, "the builder's")),
    **dict.fromkeys(("args", "labels", "network", "no_cache", "pull"), (_TAKEN, "the builder's")),
    **dict.fromkeys(
        ("additional_contexts", "cache_from", "cache_to", "entitlements", "extra_hosts"), (_WARNED, _BUILDER)
    ),
    **dict.fromkeys(("isolation", "platforms", "privileged", "provenance", "sbom"), (_WARNED, _BUILDER)),
    **dict.fromkeys(("secrets", "shm_size", "ssh", "ulimits"), (_WARNED, _BUILDER)),
    "tags": (_WARNED, "the image has the name of `image`"),
}
HEALTHCHECK: Table = {
    **dict.fromkeys(("disable", "interval", "retries", "start_period", "test", "timeout"), (_TAKEN, "the agent's")),
    "start_interval": (_WARNED, "a check is made every `interval`, also at the start"),
}
NETWORKS: Table = {
    "aliases": (_TAKEN, "names for the services of that network"),
    **dict.fromkeys(("ipv4_address", "ipv6_address", "mac_address"), (_TAKEN, "the port's; one replica only")),
    "priority": (_TAKEN, "the order of interfaces"),
    "driver_opts": (_WARNED, _DOCKER_S),
    "gw_priority": (_WARNED, "Neutron's subnets say which gateway there is"),
    "interface_name": (_WARNED, "interfaces are called eth0, eth1, ..."),
    "link_local_ips": (_WARNED, _DOCKER_S),
}
VOLUMES: Table = {
    "type": (_TAKEN, "`volume`, `tmpfs`, `bind` of a text file; others are refused"),
    **dict.fromkeys(("source", "target", "read_only"), (_TAKEN, "where from and to")),
    "consistency": (_IGNORED, "obsolete"),
    "bind.create_host_path": (_IGNORED, "only files that are there are mounted"),
    "bind.propagation": (_WARNED, _MOUNT),
    "bind.recursive": (_WARNED, _MOUNT),
    "bind.selinux": (_IGNORED, _MOUNT),
    "image.subpath": (_REFUSED, "as `image` is"),
    "tmpfs.mode": (_WARNED, "everybody may write there, as in `/tmp`"),
    "tmpfs.size": (_TAKEN, "its size"),
    "volume.labels": (_WARNED, "a volume has none"),
    "volume.nocopy": (_WARNED, "an empty volume gets what the image has there"),
    "volume.subpath": (_REFUSED, "name a volume for each part"),
}
DEPENDS_ON: Table = {
    "condition": (_TAKEN, "see `depends_on`"),
    "required": (_TAKEN, "`false`: a service that no profile has is no mistake"),
    "restart": (_IGNORED, "a server that is rebuilt keeps its addresses"),
}
LOGGING: Table = {
    "driver": (_TAKEN, "`json-file`; another one is left out with its options, and you hear so"),
    **dict.fromkeys(("options.max-file", "options.max-size"), (_TAKEN, "the agent's; at most the flavor's")),
    "options": (_WARNED, "but for these two"),
}
PORTS: Table = {
    **dict.fromkeys(("published", "target", "protocol"), (_TAKEN, "see `ports`")),
    **dict.fromkeys(("app_protocol", "mode", "name"), (_IGNORED, "a floating IP has no word for it")),
    "host_ip": (_WARNED, "a port is open to all that reach the floating IP"),
}
UPDATE: Table = {
    "parallelism": (_TAKEN, "so many servers at once, 1 without it; 0: all"),
    "order": (_TAKEN, "`stop-first`; `start-first`: [others stand in](../README.md#updates)"),
    "delay": (_TAKEN, "a pause between them"),
    "failure_action": (_TAKEN, "`pause`: an update stops where it fails; others are left out, and you hear so"),
    "max_failure_ratio": (_WARNED, "an update stops where it fails"),
    "monitor": (_WARNED, "a server is looked at until it runs, and is healthy where it has a health check"),
}
HOOK: Table = {
    **dict.fromkeys(("command", "environment", "user", "working_dir"), (_TAKEN, "the command's")),
    "privileged": (_REFUSED, "a command has the rights of its container"),
}
IPAM: Table = {
    "config": (_TAKEN, "a subnet for each `subnet`"),
    **dict.fromkeys(("config.subnet", "config.gateway"), (_TAKEN, "the subnet's")),
    "config.ip_range": (_TAKEN, "the pool of addresses, without the gateway and the subnet's first and last"),
    "config.aux_addresses": (_WARNED, "give `ip_range` to keep addresses free"),
    "driver": (_IGNORED, "Neutron's"),
    "options": (_WARNED, "they are of Docker's drivers"),
}


def left_out(service: dict[str, Any]) -> Iterator[str]:
    """What is left out within a service's keys, each with the reason. `build` tells of its own when it builds."""
    yield from _told("deploy.update_config", service.get("deploy", {}).get("update_config") or {}, UPDATE)
    yield from _told("healthcheck", service.get("healthcheck") or {}, HEALTHCHECK)
    for name, said in (service.get("networks") or {}).items():
        yield from _told(f"networks.{name}", said or {}, NETWORKS)
    for mount in service.get("volumes") or []:
        for part in ("bind", "volume", "tmpfs"):
            inner = {f"{part}.{key}": value for key, value in (mount.get(part) or {}).items()}
            yield from _told(f"volumes.{mount['target']}", inner, VOLUMES)


def left_out_of_network(network: dict[str, Any]) -> Iterator[str]:
    """The same of a network."""
    ipam = network.get("ipam") or {}
    yield from _told("ipam", ipam, IPAM)
    for config in ipam.get("config") or []:
        yield from _told("ipam", {f"config.{key}": value for key, value in config.items()}, IPAM)


def _told(place: str, said: dict[str, Any], table: Table) -> Iterator[str]:
    for key, value in said.items():
        if key in table and table[key][0] is _WARNED and value not in (None, False, [], {}, ""):
            yield f"{place}.{key}: it is left out: {table[key][1].replace('`', '')}"
