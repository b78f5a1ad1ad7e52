"""The template that `convert` writes, against what `up` makes, and against Heat's own library."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from fake_cloud import FakeCloud
from heat.common.exception import StackValidationFailed
from heat.engine import constraints, resource
from heat.engine import stack as stacks
from heat.engine import template as templates
from heat.engine.clients.os import neutron
from heat.engine.hot import functions
from heat.tests import utils
from nova_docker_compose.cloud import Api
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.heat import Template
from nova_docker_compose.project import Project
from nova_docker_compose.up import Options, Up

Read = Callable[[str], Project]
Json = dict[str, Any]

APPLICATION = """
services:
  lb: {image: tiny, ports: [80], networks: {front: , back: {aliases: [gate]}}, stop_grace_period: 5s}
  web:
    image: 'web:v1'
    scale: 3
    links: ['db:store']
    networks: [back]
    environment: {A: '{b}', MORE: "two\\nlines"}
    x-openstack: {key_name: k, metadata: {owner: me}, host_group: anti-affinity}
  db: {image: db, networks: [back], volumes: ['data:/d'], container_name: store, depends_on: [job]}
  job: {image: db, networks: [back], extra_hosts: ['h=192.0.2.1'], x-openstack: {host_group: affinity}}
  watch: {image: tiny, networks: [back], links: [web]}
networks: {front: , back: {internal: true, ipam: {config: [{subnet: 10.9.0.0/24}, {subnet: 'fd00::/64'}]}}}
volumes: {data: }
"""


def template_of(cloud: FakeCloud, project: Project) -> Json:
    return Template(Api(cloud), project, lambda _: None).make()


_FUNCTIONS = ("get_resource", "get_attr", "str_replace", "list_join")


class Stack:
    """What Heat makes of a template, as far as these templates go, with the addresses that `up` had."""

    def __init__(self, template: Json, cloud: FakeCloud) -> None:
        self._resources = template["resources"]
        self._cloud = cloud

    def servers(self) -> dict[str, Json]:
        """The servers by their names."""
        found = []
        for each in self._resources.values():
            if each["type"] == "OS::Nova::Server":
                found.append(self._resolved(each["properties"]))
            if each["type"] == "OS::Heat::ResourceGroup":
                found += self._members(each["properties"])
        return {each["name"]: each for each in found}

    def _members(self, group: Json, *only: str) -> list[Json]:
        assert group["removal_policies"] == [{"resource_list": ["0"]}]
        said = group["resource_def"]["properties"]
        properties = self._resolved({key: said[key] for key in only or said})
        numbers = range(1, group["count"] + 1)
        return [{**properties, "name": properties["name"].replace("%index%", str(number))} for number in numbers]

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._resolved(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and next(iter(value)) in _FUNCTIONS:
            return getattr(self, f"_{next(iter(value))}")(next(iter(value.values())))
        return {key: self._resolved(item) for key, item in value.items()}

    def _get_resource(self, name: str) -> str:
        assert name in self._resources
        return name

    def _get_attr(self, path: list[Any]) -> Any:
        properties = self._resources[path[0]]["properties"]
        if path[1] == "first_address":
            return [self._addresses(each["name"])[0] for each in self._members(properties, "name")]
        assert path[1::2] == ["fixed_ips", "ip_address"]
        return self._addresses(properties["name"], path[0].rpartition("-")[2])[path[2]]

    def _addresses(self, port: str, network: str = "back") -> list[str]:
        """Those that a port has in the cloud."""
        names = {each["id"]: each["name"] for each in self._cloud.things["networks"].values()}
        there = self._cloud.things["ports"].values()
        found = next(each for each in there if (each["name"], names[each["network_id"]]) == (port, f"p_{network}"))
        return [each["ip_address"] for each in found["fixed_ips"]]

    def _str_replace(self, arguments: Json) -> str:
        text = arguments["template"]
        for word, value in arguments["params"].items():
            text = text.replace(word, self._resolved(value))
        return str(text)

    def _list_join(self, arguments: list[Any]) -> str:
        return str(arguments[0].join(self._resolved(arguments[1])))


def definition_of_heat(server: Json) -> Json:
    kept = {key: server.get(key) for key in ("image", "flavor", "key_name")}
    return {**kept, "metadata": server.get("metadata", {}), "user_data": yaml.safe_load(server.get("user_data", ""))}


def definition_of_up(server: Json) -> Json:
    own = {key: value for key, value in server["metadata"].items() if not key.startswith("compose:")}
    said = yaml.safe_load(base64.b64decode(server.get("user_data", "")))
    # Nova makes the ports of a ResourceGroup: only who comes after it knows it, by one address of each.
    if server["name"] == "p-watch-1":
        said["extra_hosts"]["web"] = [each for each in said["extra_hosts"]["web"] if ":" not in each]
    else:
        said["extra_hosts"].pop("web", None)
    kept = {"image": server["imageRef"], "flavor": server["flavorRef"], "key_name": server.get("key_name")}
    return {**kept, "metadata": own, "user_data": said}


@pytest.fixture
def two_addresses(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports on the network of two ranges have an address of each."""
    new_port = cloud._new_port

    def new(port: Json) -> None:
        new_port(port)
        name = next(each["name"] for each in cloud.things["networks"].values() if each["id"] == port["network_id"])
        if name == "p_back" and port["fixed_ips"]:
            number = port["fixed_ips"][0]["ip_address"].rpartition(".")[2]
            port["fixed_ips"] = [{"ip_address": f"10.9.0.{number}"}, {"ip_address": f"fd00::{number}"}]

    monkeypatch.setattr(cloud, "_new_port", new)


@pytest.mark.usefixtures("two_addresses")
def test_both_ways_end_in_equal_servers(cloud: FakeCloud, project_of: Read) -> None:
    project = project_of(APPLICATION)
    Up(Api(cloud), project, Options(), lambda _: None).run()
    stack = Stack(template_of(cloud, project), cloud)
    of_up = {each["name"]: definition_of_up(each) for each in cloud.servers.values()}
    assert {name: definition_of_heat(each) for name, each in stack.servers().items()} == of_up
    assert set(of_up) == {"p-lb-1", "p-web-1", "p-web-2", "p-web-3", "store", "p-job-1", "p-watch-1"}
    assert len(of_up["p-watch-1"]["user_data"]["extra_hosts"]["web"]) == 3


def test_both_ways_end_in_equal_networks_rules_and_groups(cloud: FakeCloud, project_of: Read) -> None:
    project = project_of(APPLICATION)
    Up(Api(cloud), project, Options(), lambda _: None).run()
    resources = template_of(cloud, project)["resources"]

    def of(kind: str, *keys: str) -> list[tuple[Any, ...]]:
        found = [each["properties"] for each in resources.values() if each["type"] == kind]
        return sorted(tuple(each.get(key) for key in keys) for each in found)

    there = cloud.things
    assert of("OS::Neutron::Net", "name") == [("p_back",), ("p_front",)]
    assert {("10.9.0.0/24", 4), ("fd00::/64", 6)} < set(of("OS::Neutron::Subnet", "cidr", "ip_version"))
    assert len(of("OS::Neutron::Subnet")) == len(there["subnets"])
    assert len(of("OS::Neutron::RouterInterface")) == 1, "an internal network has none"
    assert len(of("OS::Neutron::FloatingIP")) == len(there["floatingips"])
    assert of("OS::Nova::ServerGroup", "name", "policies") == [
        ("p_affinity", ["affinity"]),
        ("p_anti-affinity_web", ["anti-affinity"]),
    ]
    assert sorted(each["name"] for each in cloud.groups.values()) == ["p_affinity", "p_anti-affinity_web"]
    rules = {
        each["name"]: {
            (rule["ethertype"], rule.get("protocol"), rule.get("port_range_min"))
            for rule in each["security_group_rules"]
        }
        for each in there["security-groups"].values()
    }
    assert rules == {
        name: {(rule["ethertype"], rule.get("protocol"), rule.get("port_range_min")) for rule in said}
        for name, said in of("OS::Neutron::SecurityGroup", "name", "rules")
    }


def test_heat_s_own_library_takes_the_template(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A cloud has to be asked whether a flavor is there, and what Neutron can.
    monkeypatch.setattr(constraints.CustomConstraint, "validate", lambda *_: None)
    monkeypatch.setattr(resource.Resource, "rpc_client", lambda _: None)
    monkeypatch.setattr(neutron.NeutronClientPlugin, "has_extension", lambda *_: True)
    monkeypatch.setattr(neutron.NeutronClientPlugin, "find_resourceid_by_name_or_id", lambda self, kind, name: name)
    template = yaml.safe_load(yaml.safe_dump(template_of(cloud, project_of(APPLICATION))))
    stack = checked(templates.Template(template))
    assert set(stack.dependencies) == set(stack.resources.values()), "they need each other in no circle"
    groups = [each for each in stack.resources.values() if each.type() == "OS::Heat::ResourceGroup"]
    members = [checked(group.child_template()).resources for group in groups]
    names = [{key: each.properties["name"] for key, each in found.items()} for found in members]
    assert names == [{"1": "p-web-1", "2": "p-web-2", "3": "p-web-3"}], "Heat would count from 0"
    template["resources"]["server-lb-1"]["properties"]["flavour"] = "x"
    with pytest.raises(StackValidationFailed, match="flavour"):
        checked(templates.Template(template))


@pytest.mark.parametrize("first", [0, 1])
def test_ports_are_forwarded_to_the_address_of_ipv4(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(constraints.CustomConstraint, "validate", lambda *_: None)
    monkeypatch.setattr(neutron.NeutronClientPlugin, "has_extension", lambda *_: True)
    monkeypatch.setattr(neutron.NeutronClientPlugin, "find_resourceid_by_name_or_id", lambda self, kind, name: name)
    text = "services: {web: {image: tiny, ports: ['8080:80']}}"
    template = yaml.safe_load(yaml.safe_dump(template_of(cloud, project_of(text))))
    checked(templates.Template(template))
    forwarding = template["resources"]["address-web-1-8080-tcp"]["properties"]
    said = forwarding["internal_ip_address"]["yaql"]
    assert said["data"] == {"get_attr": [forwarding["internal_port"]["get_resource"], "fixed_ips"]}
    addresses = [{"subnet_id": "s", "ip_address": "fd00::4"}, {"subnet_id": "t", "ip_address": "10.9.0.4"}]
    made = {**said, "data": [addresses[first], addresses[1 - first]]}
    assert functions.Yaql(None, "yaql", made).result() == "10.9.0.4"


def checked(template: templates.Template) -> stacks.Stack:
    """A template whose resources have what Heat asks for, and nothing that it does not know."""
    stack = stacks.Stack(utils.dummy_context(), "p", template, strict_validate=False)
    template.validate()
    for each in stack.resources.values():
        each.reparse(False)
        each.properties.validate()
    return stack


def test_what_heat_has_no_word_for_is_a_warning(cloud: FakeCloud, project_of: Read) -> None:
    told: list[str] = []
    text = """
services:
  a: {image: tiny, hostname: h, depends_on: {b: {condition: service_completed_successfully}}}
  b: {image: tiny, post_start: [{command: x}], pre_stop: [{command: y}], deploy: {update_config: {delay: 1s}}}
"""
    Template(Api(cloud), project_of(text), told.append).make()
    assert {line.partition(": ")[2].partition(": ")[0] for line in told} == {
        "services.a.hostname",
        "services.a.depends_on.b",
        "services.b",
        "services.b.post_start",
        "services.b.pre_stop",
        "services.b.deploy.update_config",
    }


def test_a_refusal_ends_it_as_it_ends_up(cloud: FakeCloud, project_of: Read) -> None:
    with pytest.raises(ComposeError, match=r"services.a.pid"):
        template_of(cloud, project_of("services: {a: {image: tiny, pid: host}}"))
