"""A template of Heat for the same application: what `up` makes, but for what compose keeps in metadata for itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nova_docker_compose import agent, privileges
from nova_docker_compose.choosing import Choices, choose
from nova_docker_compose.cloud import Api, Json
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.network import outside_network
from nova_docker_compose.project import POST_START, PRE_STOP, Project, as_plain_yaml, needed_by
from nova_docker_compose.reaching import Reaching
from nova_docker_compose.slots import slot_name
from nova_docker_compose.subnets import free_range, subnet_of
from nova_docker_compose.translation import Wanted, known_as, translate

VERSION = "2018-08-31"

_FIRST_IPV4 = "coalesce($.data, []).select($.ip_address).where(not ':' in $).first(null)"
"""Of a port, for Neutron forwards IPv4 alone. Heat asks also when there is no port yet."""


class Template:
    """What becomes of a project."""

    def __init__(self, api: Api, project: Project, tell: Callable[[str], None]) -> None:
        self._api = api
        self._project = project
        self._tell = tell
        self._resources: dict[str, Json] = {}
        self._outputs: dict[str, Json] = {}
        self._subnets: dict[str, int] = {}
        """How many addresses a port has on each network, by its key."""
        self._wanted: dict[str, Wanted] = {}

    def make(self) -> Json:
        """The template. Raises ComposeError."""
        translation = translate(self._project)
        self._wanted = {name: each for name, each in translation.wanted.items() if each.replicas}
        for warning in [*translation.warnings, *_warnings(self._wanted)]:
            self._tell(f"warning: {warning}")
        Reaching(self._api, self._project.name, self._tell).check(self._wanted.values())
        picked = choose(Choices(self._api), list(self._wanted.values()))
        self._networks()
        self._groups()
        for wanted in self._wanted.values():
            if not _is_group(wanted):
                for number in range(1, wanted.replicas + 1):
                    self._ports(wanted, number)
        for name, wanted in self._wanted.items():
            self._servers(wanted, *picked[name])
        made: Json = {"heat_template_version": VERSION, "description": f"The Compose project {self._project.name}"}
        made["resources"] = self._resources
        return {**made, "outputs": self._outputs} if self._outputs else made

    def _add(self, name: str, kind: str, properties: Json, depends_on: list[str] | None = None) -> None:
        self._resources[name] = {"type": kind, **({"depends_on": depends_on} if depends_on else {})}
        self._resources[name]["properties"] = properties

    # ------------------------------------------------------------ networks

    def _networks(self) -> None:
        used = {key for wanted in self._wanted.values() for key, _ in wanted.networks}
        outside, taken, router = outside_network(self._api), list[Json](), False
        for key, part in self._project.networks.items():
            if key not in used:
                continue
            self._subnets[key] = 1
            if part.get("external"):
                continue
            self._add(f"network-{key}", "OS::Neutron::Net", {"name": part["name"]})
            ranges = _ranges(part, taken)
            taken += ranges
            self._subnets[key] = len(ranges)
            for number, properties in enumerate(ranges):
                mine = {"network": {"get_resource": f"network-{key}"}, "name": part["name"], **properties}
                self._add(f"subnet-{key}-{number}", "OS::Neutron::Subnet", mine)
                if not part.get("internal") and outside:
                    router = True
                    way = {"router": {"get_resource": "router"}, "subnet": {"get_resource": f"subnet-{key}-{number}"}}
                    self._add(f"interface-{key}-{number}", "OS::Neutron::RouterInterface", way)
        if router:
            gateway = {"network": outside}
            self._add("router", "OS::Neutron::Router", {"name": self._project.name, "external_gateway_info": gateway})

    def _network(self, key: str) -> Any:
        part = self._project.networks[key]
        return part["name"] if part.get("external") else {"get_resource": f"network-{key}"}

    def _of_network(self, key: str, kind: str) -> list[str]:
        return [name for name in self._resources if name.startswith(f"{kind}-{key}-")]

    def _groups(self) -> None:
        ways = ("IPv4", "IPv6")
        inside = [{"direction": "ingress", "ethertype": way, "remote_mode": "remote_group_id"} for way in ways]
        self._add("group", "OS::Neutron::SecurityGroup", {"name": self._project.name, "rules": inside})
        for name, wanted in self._wanted.items():
            opened = sorted({(port["protocol"], port["target"]) for port in wanted.ports})
            rules = [
                {"ethertype": way, "protocol": protocol, "port_range_min": port, "port_range_max": port}
                for way in ways
                for protocol, port in opened
            ]
            if rules:
                properties = {"name": f"{self._project.name}-{name}", "rules": rules}
                self._add(f"group-{name}", "OS::Neutron::SecurityGroup", properties)

    def _groups_of(self, wanted: Wanted) -> list[Any]:
        mine = ["group", *([f"group-{wanted.name}"] if wanted.ports else [])]
        return [*({"get_resource": name} for name in mine), *wanted.extra.get("security_groups", [])]

    def _ports(self, wanted: Wanted, number: int) -> None:
        for key, said in wanted.networks:
            properties: Json = {
                "name": slot_name(self._project.name, wanted.name, number),
                "network": self._network(key),
                "security_groups": self._groups_of(wanted),
            }
            fixed = [said[way] for way in ("ipv4_address", "ipv6_address") if way in said]
            if fixed:
                properties["fixed_ips"] = [{"ip_address": address} for address in fixed]
            if "mac_address" in said:
                properties["mac_address"] = said["mac_address"]
            self._add(_port(wanted, number, key), "OS::Neutron::Port", properties, self._of_network(key, "subnet"))

    # ------------------------------------------------------------ servers

    def _servers(self, wanted: Wanted, image: Json, flavor: Json) -> None:
        after = [each for other in needed_by(wanted.service) for each in self._servers_of(other)]
        properties = self._server(wanted, image, flavor)
        if _is_group(wanted):
            properties["name"] = slot_name(self._project.name, wanted.name, 0)[:-1] + "%index%"
            properties["networks"] = [{"network": self._network(key)} for key, _ in wanted.networks]
            properties["security_groups"] = self._groups_of(wanted)
            after += [each for key, _ in wanted.networks for each in self._of_network(key, "subnet")]
            group = {
                "count": wanted.replicas,
                # Heat counts from 0, compose from 1.
                "removal_policies": [{"resource_list": ["0"]}],
                "resource_def": {"type": "OS::Nova::Server", "properties": properties},
            }
            self._add(f"servers-{wanted.name}", "OS::Heat::ResourceGroup", group, after)
            return
        for number in range(1, wanted.replicas + 1):
            slot = slot_name(self._project.name, wanted.name, number)
            ports = [_port(wanted, number, key) for key, _ in wanted.networks]
            mine = {"name": wanted.service.get("container_name", slot), **properties}
            mine["networks"] = [{"port": {"get_resource": port}} for port in ports]
            self._add(f"server-{wanted.name}-{number}", "OS::Nova::Server", mine, after)
            if wanted.floating:
                self._floating_ip(wanted, number, ports[0])

    def _servers_of(self, service: str) -> list[str]:
        mine = {f"servers-{service}", *(f"server-{service}-{number}" for number in range(1, 1001))}
        return [name for name in self._resources if name in mine]

    def _server(self, wanted: Wanted, image: Json, flavor: Json) -> Json:
        made: Json = {"image": image["id"], "flavor": flavor["id"], "user_data_format": "RAW"}
        text, parameters = self._user_data(wanted, flavor)
        if text:
            made["user_data"] = {"str_replace": {"template": text, "params": parameters}} if parameters else text
        if wanted.extra.get("metadata"):
            made["metadata"] = {key: value or "" for key, value in wanted.extra["metadata"].items()}
        if "key_name" in wanted.extra:
            made["key_name"] = wanted.extra["key_name"]
        policy = wanted.extra.get("host_group")
        if policy:
            own = f"_{wanted.name}" if "anti" in policy else ""
            group, name = f"host-group-{policy}{own}", f"{self._project.name}_{policy}{own}"
            self._add(group, "OS::Nova::ServerGroup", {"name": name, "policies": [policy]})
            made["scheduler_hints"] = {"group": {"get_resource": group}}
        return made

    def _user_data(self, wanted: Wanted, flavor: Json) -> tuple[str, Json]:
        """What the agent reads, with words for the addresses, and what Heat puts in their places."""
        chosen = privileges.choices(wanted.privileges, flavor.get("extra_specs") or {})
        configuration = agent.configuration(
            wanted.service, wanted.volumes, wanted.given, {}, wanted.oneshot, chosen, flavor.get("extra_specs")
        )
        hosts: dict[str, list[str]] = {}
        parameters: Json = {}
        mine = {key for key, _ in wanted.networks}
        for other in self._wanted.values():
            for key, said in other.networks:
                if other is wanted or key not in mine:
                    continue
                addresses = self._addresses(wanted, other, key)
                parameters.update(addresses)
                for alias in known_as(other, said, wanted) if addresses else ():
                    known = hosts.setdefault(alias, [])
                    known += [word for word in addresses if word not in known]
        hosts.update(configuration.pop("extra_hosts", {}))
        if not configuration and not hosts:
            return "", {}
        agent.user_data({**configuration, "extra_hosts": hosts})
        # A list of Heat's fits in as JSON, which is YAML too.
        text = agent.BEGINNING + (as_plain_yaml(configuration) if configuration else "")
        return text + (f"extra_hosts: {json.dumps(hosts)}\n" if hosts else ""), parameters

    def _addresses(self, wanted: Wanted, other: Wanted, key: str) -> Json:
        """Words for the addresses of another service on a network, and what they are in Heat."""
        if not _is_group(other):
            return {
                f"@{_port(other, number, key)}.{at}@": {
                    "get_attr": [_port(other, number, key), "fixed_ips", at, "ip_address"]
                }
                for number in range(1, other.replicas + 1)
                for at in range(self._subnets[key])
            }
        # They have ports of Nova's, whose addresses are known when they run: only who comes after them can know.
        if other.name not in needed_by(wanted.service):
            return {}
        listed = {"get_attr": [f"servers-{other.name}", "first_address"]}
        return {f"@servers-{other.name}@": {"list_join": ['", "', listed]}}

    def _floating_ip(self, wanted: Wanted, number: int, port: str) -> None:
        outside = outside_network(self._api)
        if outside is None:
            raise ComposeError(f"services.{wanted.name}.ports: the cloud has no network outside")
        name = f"address-{wanted.name}-{number}"
        after = self._of_network(wanted.networks[0][0], "interface")
        properties: Json = {"floating_network": outside}
        if not wanted.forwards:
            properties["port_id"] = {"get_resource": port}
        self._add(name, "OS::Neutron::FloatingIP", properties, after)
        for protocol, published, target in wanted.forwards:
            forwarding = {
                "floating_ip": {"get_resource": name},
                "protocol": protocol,
                "external_port": published,
                "internal_port_number": target,
                "internal_port": {"get_resource": port},
                "internal_ip_address": {"yaql": {"expression": _FIRST_IPV4, "data": {"get_attr": [port, "fixed_ips"]}}},
            }
            self._add(f"{name}-{published}-{protocol}", "OS::Neutron::FloatingIPPortForward", forwarding, after)
        self._outputs[f"{wanted.name}-{number}"] = {
            "description": f"Where {slot_name(self._project.name, wanted.name, number)} is reached",
            "value": {"get_attr": [name, "floating_ip_address"]},
        }


def _is_group(wanted: Wanted) -> bool:
    """Whether a service becomes a ResourceGroup: its members are all alike and have no address of their own."""
    return wanted.replicas > 1 and not wanted.floating and len(wanted.networks) == 1


def _port(wanted: Wanted, number: int, key: str) -> str:
    return f"port-{wanted.name}-{number}-{key}"


def _ranges(part: Json, taken: list[Json]) -> list[Json]:
    said = [each for each in part.get("ipam", {}).get("config", []) if each.get("subnet")]
    made = [subnet_of(each) for each in said]
    return made or [{"cidr": free_range(part["name"], taken), "ip_version": 4}]


def _warnings(wanted: dict[str, Wanted]) -> list[str]:
    found = []
    for name, each in wanted.items():
        if "hostname" in each.service:
            found.append(f"services.{name}.hostname: it is left out: Heat makes it of the server's name")
        for hook in (POST_START, PRE_STOP):
            if each.service.get(hook):
                found.append(f"services.{name}.{hook}: it is left out: Heat runs no commands in a server")
        if each.update.said:
            found.append(
                f"services.{name}.deploy.update_config: it is left out: Heat's own groups have update policies"
            )
        for other, said in each.service.get("depends_on", {}).items():
            if said["condition"] != "service_started":
                found.append(f"services.{name}.depends_on.{other}: Heat waits until its servers are ACTIVE, no longer")
        if each.oneshot:
            found.append(f"services.{name}: Heat waits for a server that is ACTIVE; one that has ended is none")
    return found
