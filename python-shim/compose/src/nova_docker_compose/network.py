"""A project's networks, its router and its security groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from nova_docker_compose.cloud import MARK, Api, CloudError, Json, of_project
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
from nova_docker_compose.subnets import free_range, subnet_of
from nova_docker_compose.translation import Wanted

_BUSY = 409


class Networks:
    """Makes what servers are plugged into. All of it can be done again, and by several at once."""

    def __init__(self, api: Api, project: Project, tell: Callable[[str], None]) -> None:
        self._api = api
        self._project = project
        self._tell = tell
        self.ids: dict[str, str] = {}
        """Of the networks by their keys."""
        self.owned: set[str] = set()
        """Ids of those that are the project's own."""

    def make(self, wanted: Iterable[Wanted]) -> None:
        """Makes what is missing of networks, subnets and the router. Raises ComposeError."""
        used = {key for each in wanted for key, _ in each.networks if each.replicas}
        mine = {key: part for key, part in self._project.networks.items() if key in used}
        for key, part in mine.items():
            if part.get("external"):
                self.ids[key] = self._external(key, part["name"])
        own = {key: part for key, part in mine.items() if not part.get("external")}
        networks = self._unique("networks", {part["name"]: {} for part in own.values()})
        subnets = of_project(self._api, self._project.name, "subnets")
        for key, part in own.items():
            self.ids[key] = networks[part["name"]]["id"]
            self.owned.add(self.ids[key])
            subnets += self._subnets(part, networks[part["name"]], subnets)
        reachable = [self.ids[key] for key, part in own.items() if not part.get("internal")]
        if reachable:
            self._router([each for each in subnets if each["network_id"] in reachable])

    def _external(self, key: str, name: str) -> str:
        found = self._api.listed("network", "/networks", "networks", name=name)
        if not found:
            raise ComposeError(f"networks.{key}: it is external, and the cloud has no network {name}")
        if len(found) > 1:
            raise ComposeError(f"networks.{key}: it is external, and there are {len(found)} networks {name}")
        return str(found[0]["id"])

    def groups(self, wanted: Iterable[Wanted]) -> dict[str, str]:
        """The security groups of the project (under '') and of its services with ports, with their rules."""
        project = self._project.name
        names = {"": project, **{each.name: f"{project}-{each.name}" for each in wanted if each.ports}}
        made = self._unique("security-groups", {name: {} for name in names.values()})
        common = made[project]
        ways = ("IPv4", "IPv6")
        inside = [{"ethertype": way, "remote_group_id": common["id"]} for way in ways]
        self._rules(common, inside)
        for each in wanted:
            if each.ports:
                rules = [
                    {"ethertype": way, "protocol": protocol, "port_range_min": port, "port_range_max": port}
                    for way in ways
                    for protocol, port in sorted({(port["protocol"], port["target"]) for port in each.ports})
                ]
                self._rules(made[names[each.name]], rules)
        return {key: made[name]["id"] for key, name in names.items()}

    def _rules(self, group: Json, wanted: list[Json]) -> None:
        def key(rule: Json) -> tuple[Any, ...]:
            parts = ("ethertype", "protocol", "port_range_min", "port_range_max", "remote_group_id")
            return tuple(rule.get(part) for part in parts)

        there = {key(rule): rule["id"] for rule in group["security_group_rules"] if rule["direction"] == "ingress"}
        for rule in wanted:
            if key(rule) not in there:
                body = {"security_group_id": group["id"], "direction": "ingress", **rule}
                self._tolerant("POST", "/security-group-rules", {"security_group_rule": body}, _BUSY)
        for known, rule_id in there.items():
            if known not in {key(rule) for rule in wanted}:
                self._tolerant("DELETE", f"/security-group-rules/{rule_id}", None, 404)

    def _unique(self, kind: str, names: dict[str, Json]) -> dict[str, Json]:
        """One of each name, though Neutron lets several have it: the oldest stays."""
        found = {each["name"]: each for each in reversed(of_project(self._api, self._project.name, kind))}
        missing = [name for name in names if name not in found]
        if not missing:
            return found
        single = kind.replace("-", "_").removesuffix("s")
        made = []
        for name in missing:
            self._tell(f"{single.replace('_', ' ')} {name}: created")
            body = {"name": name, "description": MARK + self._project.name, **names[name]}
            made.append(self._api.request("network", "POST", f"/{kind}", {single: body})[single])
        wait_out(self._api, max(each["created_at"] for each in made))
        found = {each["name"]: each for each in reversed(of_project(self._api, self._project.name, kind))}
        for each in made:
            if found[each["name"]]["id"] != each["id"]:
                self._tolerant("DELETE", f"/{kind}/{each['id']}", None, 404)
        return found

    def _subnets(self, part: Json, network: Json, others: list[Json]) -> list[Json]:
        """Makes the subnets that are missing; returns them."""
        there = [each for each in others if each["network_id"] == network["id"]]
        said = [each for each in part.get("ipam", {}).get("config", []) if each.get("subnet")]
        bodies = [subnet_of(each) for each in said]
        if not said and not there:
            bodies = [{"cidr": free_range(network["id"], others), "ip_version": 4}]
        made = []
        for body in bodies:
            if body["cidr"] in {each["cidr"] for each in there}:
                continue
            body |= {"network_id": network["id"], "name": network["name"], "description": MARK + self._project.name}
            try:
                made.append(self._api.request("network", "POST", "/subnets", {"subnet": body})["subnet"])
            except CloudError as error:
                # Another `up` has made it meanwhile: Neutron has no two of one range on a network.
                again = self._api.listed("network", "/subnets", "subnets", network_id=network["id"], cidr=body["cidr"])
                if error.status not in (400, _BUSY) or not again:
                    raise
                made += again
        return made

    def _router(self, subnets: list[Json]) -> None:
        outside = outside_network(self._api)
        if outside is None:
            self._tell("warning: the cloud has no network outside: the project's networks end at their edge")
            return
        name = self._project.name
        body = {"external_gateway_info": {"network_id": outside}}
        router = self._unique("routers", {name: body})[name]
        attached = self._attached(router)
        for subnet in subnets:
            if subnet["id"] not in attached:
                try:
                    path = f"/routers/{router['id']}/add_router_interface"
                    self._api.request("network", "PUT", path, {"subnet_id": subnet["id"]})
                except CloudError:
                    # Another `up` may have done it meanwhile.
                    if subnet["id"] not in self._attached(router):
                        raise

    def _attached(self, router: Json) -> set[str]:
        """The ids of the subnets that a router is in."""
        ports = self._api.listed("network", "/ports", "ports", device_id=router["id"])
        return {address["subnet_id"] for port in ports for address in port["fixed_ips"]}

    def _tolerant(self, method: str, path: str, body: Any, *allowed: int) -> None:
        """A request that another has made already: its refusal is no failure."""
        try:
            self._api.request("network", method, path, body)
        except CloudError as error:
            if error.status not in allowed:
                raise


def more_groups(api: Api, wanted: Wanted) -> list[str]:
    """The ids of the security groups that a service names. Raises ComposeError for one that is not there."""
    ids = []
    for name in wanted.extra.get("security_groups", []):
        found = api.listed("network", "/security-groups", "security_groups", name=name, project_id=api.project_id())
        if not found:
            raise ComposeError(f"x-openstack.security_groups: there is no security group {name}")
        ids.append(str(found[0]["id"]))
    return ids


def outside_network(api: Api) -> str | None:
    """The id of the network where floating IPs are from."""
    found = api.listed("network", "/networks", "networks", **{"router:external": True})
    found.sort(key=lambda each: (not each.get("is_default"), each["name"]))
    return str(found[0]["id"]) if found else None


def wait_out(api: Api, created_at: str) -> None:
    """Waits until the second is over in which something was made: only then does its age tell it from its twin."""
    end = datetime.fromisoformat(created_at.replace("Z", "+00:00")) + timedelta(seconds=1)
    left = (end - api.now).total_seconds()
    # A clock that is far off has nothing to say.
    time.sleep(min(max(left, 0), 2))
