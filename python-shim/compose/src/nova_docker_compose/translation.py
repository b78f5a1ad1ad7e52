"""What each service becomes on Nova; what cannot be had is told before anything is made."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import re
from dataclasses import dataclass, field
from typing import Any

from nova_docker_compose import agent, forms
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.floating import Forward
from nova_docker_compose.given import Given, given
from nova_docker_compose.keys import CONTAINERS, DEPLOY, NETWORK, SECTIONS, SERVICE, Fate, Key
from nova_docker_compose.nested import left_out, left_out_of_network
from nova_docker_compose.privileges import Asked, asked_of
from nova_docker_compose.project import (
    COMPLETED,
    HEALTHY,
    POST_START,
    PRE_STOP,
    Project,
    Service,
    has_check,
    image_of,
    replicas,
)
from nova_docker_compose.subnets import subnet_of

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_SERVICE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,40}")


@dataclass(frozen=True)
class Update:
    """How the servers of a service are changed."""

    said: bool = False
    """Whether the file says it: then each waits until those before it are healthy."""
    parallelism: int = 1
    """How many at once; 0: all."""
    delay: float = 0
    """Seconds between them."""
    start_first: bool = False


@dataclass
class Wanted:
    """A service in the words of Nova, before flavor and image are chosen."""

    name: str
    service: Service
    replicas: int
    image: str
    vcpus: int
    memory: int
    """MiB."""
    privileges: Asked
    volumes: list[str]
    given: Given
    ports: list[dict[str, Any]]
    networks: list[tuple[str, dict[str, Any]]]
    """Keys of the project's networks, in order, and what the service says of each."""
    floating: bool
    forwards: list[Forward] = field(default_factory=list)
    """The ports, where one is published as another than the container's: a floating IP forwards each."""
    update: Update = Update()
    oneshot: bool = False
    """Whether another service waits for its end."""
    extra: dict[str, Any] = field(default_factory=dict)
    """`x-openstack`."""


@dataclass
class Translation:
    """All services that are wanted, in the order of their starts."""

    wanted: dict[str, Wanted]
    warnings: list[str]


def translate(project: Project, scale: dict[str, int] | None = None) -> Translation:
    """What a project becomes; `scale` wins over the file's numbers. Raises ComposeError with every refusal."""
    refused: list[str] = []
    warnings: list[str] = []
    for section, table in SECTIONS.items():
        for key, part in getattr(project, section).items():
            _judge(f"{section}.{key}", part, table, refused, warnings)
            if table is NETWORK:
                warnings += [f"{section}.{key}.{doubt}" for doubt in left_out_of_network(part)]
                refused += [f"{section}.{key}.{problem}" for problem in _problems_of_network(part)]
    wanted = {}
    oneshot = _oneshot(project)
    for name in project.order():
        service = project.services[name]
        place = f"services.{name}"
        _judge(place, service, SERVICE, refused, warnings)
        _judge_deploy(f"{place}.deploy", service.get("deploy", {}), refused, warnings)
        _judge_agent(place, service, refused)
        count = (scale or {}).get(name, replicas(service))
        refused += [f"{place}.{problem}" for problem in _problems(name, service, count)]
        refused += [f"{place}.{problem}" for problem in _unmet(project, service)]
        warnings += [f"{place}.{doubt}" for doubt in (*left_out(service), *_doubts(service))]
        problems: list[str] = []
        doubts: list[str] = []
        files = given(project, service, problems, doubts)
        privileges = asked_of(service, problems)
        refused += [f"{place}.{problem}" for problem in problems]
        warnings += [f"{place}.{doubt}" for doubt in doubts]
        wanted[name] = _wanted(project, name, service, count, files, privileges)
        wanted[name].oneshot = name in oneshot
    warnings += _shared_volumes(wanted)
    if refused:
        raise ComposeError("\n".join(refused))
    return Translation(wanted, warnings)


def _judge(place: str, part: dict[str, Any], table: dict[str, Key], refused: list[str], warnings: list[str]) -> None:
    for key, value in part.items():
        known = table.get(key)
        if known is None or value in (None, False, [], {}):
            continue
        if known.fate is Fate.REFUSED and not (table is not SERVICE and key == "driver" and value == "local"):
            refused.append(f"{place}.{key}: it cannot be had: {_plain(known.note)}")
        elif known.fate is Fate.WARNED:
            warnings.append(f"{place}.{key}: it is left out: {_plain(known.note)}")
        elif key == "external" and table is not NETWORK and table is not SECTIONS["volumes"]:
            refused.append(f"{place}.{key}: it cannot be had: {_plain(known.note)}")


def _problems_of_network(network: dict[str, Any]) -> list[str]:
    found = []
    for said in network.get("ipam", {}).get("config") or []:
        if said.get("subnet"):
            try:
                subnet_of(said)
            except ComposeError as error:
                found.append(str(error))
    return found


def _plain(note: str) -> str:
    return note.replace("`", "")


def _judge_deploy(place: str, deploy: dict[str, Any], refused: list[str], warnings: list[str]) -> None:
    for key, value in deploy.items():
        if key in DEPLOY and DEPLOY[key][0] is Fate.WARNED and value not in ({}, "dnsrr"):
            warnings.append(f"{place}.{key}: it is left out: {_plain(DEPLOY[key][1])}")
    if deploy.get("mode", "replicated") != "replicated":
        refused.append(f"{place}.mode: it cannot be had: only replicated can")
    if deploy.get("resources", {}).get("reservations", {}).get("generic_resources"):
        refused.append(f"{place}.resources.reservations.generic_resources: it cannot be had: there are none")


def _judge_agent(place: str, service: Service, refused: list[str]) -> None:
    for key in CONTAINERS:
        if key not in agent.TAKES and service.get(key) not in (None, False, [], {}):
            refused.append(f"{place}.{key}: it cannot be had: the agent does not take it")


def _problems(name: str, service: Service, count: int) -> list[str]:
    """What cannot be had for reasons that a table does not hold."""
    found = []
    if not _SERVICE_NAME.fullmatch(name):
        found.append("name: on Nova a service's name has at most 41 characters and begins with a letter or a digit")
    mode = service.get("network_mode", "bridge")
    if mode != "bridge":
        found.append(f"network_mode: {mode} cannot be had: a server has networks of its own")
    for volume in service.get("volumes", []):
        if volume["type"] not in ("volume", "tmpfs", "bind"):
            found.append(f"volumes: the type {volume['type']} cannot be had")
        elif volume["type"] == "volume" and not volume.get("source"):
            found.append(f"volumes: {volume['target']} needs the name of a volume: NAME:{volume['target']}")
        elif volume.get("volume", {}).get("subpath"):
            found.append(f"volumes: a part of a volume ({volume['target']}) cannot be had")
    found += [
        f"{kind}: privileged cannot be had: a command has the rights of its container"
        for kind in (POST_START, PRE_STOP)
        if any(hook.get("privileged") for hook in service.get(kind, []))
    ]
    for network, said in (service.get("networks") or {}).items():
        found += [
            f"networks.{network}.{key}: {said[key]!r} is no address of IPv{version}"
            for key, version in (("ipv4_address", 4), ("ipv6_address", 6))
            if said and key in said and not _is_address(said[key], version)
        ]
    several = count > 1
    update = _update(service)
    who = f"{count} replicas" if several else "two servers, as deploy.update_config.order: start-first has them,"
    if several or update.start_first:
        one_only = [key for key in ("container_name", "hostname", "mac_address") if service.get(key)]
        found += [f"{key}: {who} cannot have one" for key in one_only]
        for network, said in (service.get("networks") or {}).items():
            if said and {"ipv4_address", "ipv6_address", "mac_address"} & set(said):
                found.append(f"networks.{network}: {who} cannot have one address")
    if update.parallelism < 0:
        found.append("deploy.update_config.parallelism: it must be 0, for all at once, or more")
    return found + _problems_of_ports(service, several)


def _is_address(text: str, version: int) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(text).version == version
    return False


def _problems_of_ports(service: Service, several: bool) -> list[str]:
    found = []
    each = service.get("x-openstack", {}).get("floating_ip")
    if each == "none":
        return []
    if several and each != "each":
        found = [
            f"ports: {port['published']} cannot be had for several replicas: write x-openstack.floating_ip: each, for"
            " an address for each of them, or only the container's port"
            for port in service.get("ports", [])
            if port.get("published") is not None
        ]
    return found + _problems_of_forwards(_forwards(service))


def _problems_of_forwards(forwards: list[Forward]) -> list[str]:
    found = []
    for end, word in ((1, "published"), (2, "the container's")):
        ports = [(each[0], each[end]) for each in forwards]
        twice = sorted({each for each in ports if ports.count(each) > 1})
        found += [
            f"ports: {port}/{protocol} is {word} port twice, and a floating IP has it once" for protocol, port in twice
        ]
    return found


def _forwards(service: Service) -> list[Forward]:
    """What a floating IP has to forward; nothing where each port is published as it is."""
    made = sorted({(port["protocol"], _published(port), port["target"]) for port in service.get("ports", [])})
    return made if any(published != target for _, published, target in made) else []


def _published(port: dict[str, Any]) -> int:
    """Where a port is reached: of a range that holds it, the same. 0 leaves it to Docker, so it is unsaid."""
    first, _, last = str(port.get("published") or "0").partition("-")
    if int(first) == 0 or int(first) <= port["target"] <= int(last or first):
        return int(port["target"])
    return int(first)


def _oneshot(project: Project) -> set[str]:
    """The services for whose end others wait."""
    return {
        other
        for service in project.services.values()
        for other, said in service.get("depends_on", {}).items()
        if said["condition"] == COMPLETED
    }


def _unmet(project: Project, service: Service) -> list[str]:
    """Conditions that can never be met."""
    found = []
    for other, said in service.get("depends_on", {}).items():
        its = project.services.get(other, {})
        if said["condition"] == HEALTHY and not has_check(its):
            found.append(f"depends_on.{other}: {other} has no healthcheck, so it is never healthy")
        if said["condition"] == COMPLETED and str(its.get("restart", "no")) in ("always", "unless-stopped"):
            found.append(f"depends_on.{other}: {other} has restart: {its['restart']}, so it never ends")
    return found


def _doubts(service: Service) -> list[str]:
    found = []
    if any(set(port.get("host_ip", "")) - set("0.:") for port in service.get("ports", [])):
        found.append("ports: the host's address is left out: a port is open to all that reach the floating IP")
    action = service.get("deploy", {}).get("update_config", {}).get("failure_action", "pause")
    if action != "pause":
        found.append(f"deploy.update_config.failure_action: {action} is left out: an update stops where it fails")
    return found + _doubts_of_logging(service.get("logging", {}))


def _doubts_of_logging(said: dict[str, Any]) -> list[str]:
    driver = said.get("driver", agent.LOG_DRIVER)
    if driver != agent.LOG_DRIVER:
        return [f"logging.driver: it is left out: the console log is what {agent.LOG_DRIVER} keeps"]
    found = []
    for option, value in said.get("options", {}).items():
        if option not in agent.LOG_OPTIONS:
            found.append(f"logging.options.{option}: it is left out: the console log has no such setting")
        elif agent.log_bound(option, value) is None:
            what = "a size of at least 16k, in whole k, m or g" if option == "max-size" else "a number from 1 to 100"
            found.append(f"logging.options.{option}: {value} is left out: it has to be {what}")
    return found


def _wanted(project: Project, name: str, service: Service, count: int, files: Given, privileges: Asked) -> Wanted:
    extra = service.get("x-openstack", {})
    limits = service.get("deploy", {}).get("resources", {})
    cpus = [service.get("cpus"), service.get("cpu_count"), *(limits.get(half, {}).get("cpus") for half in _HALVES)]
    if int(service.get("cpu_quota", 0)) > 0:
        cpus.append(service["cpu_quota"] / (service.get("cpu_period") or 100000))
    memory = [service.get("mem_limit"), *(limits.get(half, {}).get("memory") for half in _HALVES)]
    memory.append(agent.largest_in_memory(service))
    networks = service.get("networks") or {"default": None}
    reached = bool(service.get("ports")) and extra.get("floating_ip") != "none"
    ranked = sorted(networks, key=lambda key: -((networks[key] or {}).get("priority", 0)))
    return Wanted(
        name=name,
        service=service,
        replicas=count,
        image=image_of(project, name),
        vcpus=max(1, *(math.ceil(float(each)) for each in cpus if each), 1),
        memory=max(0, *(math.ceil(int(each) / 1048576) for each in memory if each), 0),
        privileges=privileges,
        volumes=[
            _volume(project, each) for each in service.get("volumes", []) if each.get("source") in project.volumes
        ],
        given=files,
        ports=service.get("ports", []),
        networks=[(key, networks[key] or {}) for key in ranked],
        floating=reached,
        forwards=_forwards(service) if reached else [],
        update=_update(service),
        extra=extra,
    )


def _update(service: Service) -> Update:
    said = service.get("deploy", {}).get("update_config", {})
    return Update(
        said=bool(said),
        parallelism=said.get("parallelism", 1),
        delay=forms.seconds(said["delay"]) or 0 if "delay" in said else 0,
        start_first=said.get("order") == "start-first",
    )


_HALVES = ("limits", "reservations")


def _volume(project: Project, volume: dict[str, Any]) -> str:
    name = project.volumes[volume["source"]]["name"]
    if not _VOLUME_NAME.fullmatch(name):
        raise ComposeError(f"volumes.{volume['source']}: {name!r} is no name of a volume")
    return f"{name}:{volume['target']}" + (":ro" if volume.get("read_only") else "")


def _shared_volumes(wanted: dict[str, Wanted]) -> list[str]:
    """Volumes are of a host, so servers that share one belong on one host."""
    users: dict[str, list[Wanted]] = {}
    for each in wanted.values():
        for volume in each.volumes:
            users.setdefault(volume.partition(":")[0], []).append(each)
    return [
        f"volumes.{volume}: {', '.join(each.name for each in those)} have it only on one host together; write"
        " x-openstack.host_group: affinity in each"
        for volume, those in users.items()
        if sum(each.replicas + each.update.start_first for each in those) > 1
        and any(each.extra.get("host_group") != "affinity" for each in those)
    ]


def known_as(other: Wanted, said: dict[str, Any], wanted: Wanted) -> list[str]:
    """The names by which one service knows another."""
    links = [link.partition(":") for link in wanted.service.get("links", [])]
    aliases = [alias or service for service, _, alias in links if service == other.name]
    more = [other.service[key] for key in ("container_name", "hostname") if key in other.service]
    return list(dict.fromkeys([other.name, *said.get("aliases", []), *more, *aliases]))
