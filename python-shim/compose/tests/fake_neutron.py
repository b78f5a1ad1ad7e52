"""The Neutron of the cloud in memory: it knows that names are not unique, and MAC addresses are."""

from __future__ import annotations

import itertools
import re
from typing import Any

Json = dict[str, Any]
PROJECT = "0" * 32


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeNeutron:
    """What a FakeCloud has of it."""

    things: dict[str, dict[str, Json]]
    may_choose_address: bool
    can_forward: bool
    most_addresses: int
    _ids: itertools.count[int]

    def _now(self) -> str:
        raise NotImplementedError

    def _network(self, method: str, parts: list[str], body: Json | None, more: Json) -> Json | None:
        kind = parts[0]
        if kind == "security-group-rules":
            return self._rule(method, parts, body)
        if kind == "extensions":
            if parts[1] != "floating-ip-port-forwarding" or not self.can_forward:
                raise Refusal(404, "no such extension")
            return {"extension": {}}
        if parts[2:3] == ["port_forwardings"]:
            return self._forwarding(method, one(self.things[kind], parts[1]), parts[3:], body)
        things = self.things[kind]
        single = kind.replace("-", "_").removesuffix("s")
        if method == "POST":
            assert body is not None
            return {single: self._add(kind, body[single])}
        if len(parts) == 1:
            params = more.get("params", {})
            found = [each for each in things.values() if all(each.get(key) == value for key, value in params.items())]
            if kind == "floatingips":
                return {kind: [self._reached(each) for each in found]}
            return {kind.replace("-", "_"): found}
        thing = one(things, parts[1])
        if len(parts) == 3:
            assert body is not None
            return self._interface(thing, parts[2], body["subnet_id"])
        if method == "GET":
            return {single: thing}
        if method == "DELETE":
            return self._remove(kind, thing)
        assert body is not None
        if kind == "floatingips" and body[single].get("port_id") and thing["forwardings"]:
            raise Refusal(409, "in use by port forwarding")
        if kind == "floatingips":
            self._associate(thing, body[single]["port_id"])
        thing.update({**body[single], "updated_at": self._now()})
        return {single: thing}

    def _associate(self, address: Json, port_id: str | None) -> None:
        if port_id is None:
            return
        one(self.things["ports"], port_id)
        if any(each["port_id"] == port_id for each in self.things["floatingips"].values() if each is not address):
            raise Refusal(409, "Cannot associate floating IP with port: it already has a floating IP")

    def _forwarding(self, method: str, address: Json, parts: list[str], body: Json | None) -> Json | None:
        if not self.can_forward:
            raise Refusal(404, "no such resource")
        mine = address["forwardings"]
        if method == "GET":
            return {"port_forwardings": list(mine.values())}
        if method == "DELETE":
            one(mine, parts[0])
            del mine[parts[0]]
            return None
        assert body is not None
        identity = parts[0] if parts else f"forwarding-{next(self._ids)}"
        made = {**mine.get(identity, {}), **body["port_forwarding"], "id": identity}
        if address["port_id"] or made["internal_ip_address"] not in [
            each["ip_address"] for each in one(self.things["ports"], made["internal_port_id"])["fixed_ips"]
        ]:
            raise Refusal(400, "bad request")
        for other in self.things["floatingips"].values():
            if other["port_id"] == made["internal_port_id"]:
                raise Refusal(409, "the port has a floating IP")
            for each in other["forwardings"].values():
                outside = other is address and each["external_port"] == made["external_port"]
                keys = ("internal_port_id", "internal_port")
                inside = [each[key] for key in keys] == [made[key] for key in keys]
                if each["id"] != identity and each["protocol"] == made["protocol"] and (outside or inside):
                    raise Refusal(400, "There is a port collision")
        mine[identity] = made
        return {"port_forwarding": made}

    def _add(self, kind: str, body: Json) -> Json:
        identity = f"{next(self._ids) * 7919 % 10007:05d}-{kind}"
        thing = {"id": identity, "project_id": PROJECT, "created_at": self._now(), **body}
        if kind == "ports":
            self._new_port(thing)
        elif kind == "subnets":
            if any(
                (each["network_id"], each["cidr"]) == (body["network_id"], body["cidr"])
                for each in self.things[kind].values()
            ):
                raise Refusal(400, "overlaps with another subnet")
        elif kind == "security-groups":
            thing["security_group_rules"] = []
        elif kind == "floatingips":
            thing.setdefault("port_id", None)
            thing["forwardings"] = {}
            if len(self.things[kind]) >= self.most_addresses:
                raise Refusal(409, "Quota exceeded for resources: ['floatingip']")
            if thing["port_id"] and any(each["port_id"] == body["port_id"] for each in self.things[kind].values()):
                raise Refusal(409, "already associated")
            thing["floating_ip_address"] = f"172.24.4.{next(self._ids) % 250}"
            thing |= {"status": "DOWN", "looks": 3}
        self.things[kind][identity] = thing
        return thing

    def _reached(self, address: Json) -> Json:
        """A router learns of a floating IP in its own time."""
        if address["looks"]:
            address["looks"] -= 1
        elif address["status"] == "DOWN":
            address["status"] = "ACTIVE"
        return dict(address)

    def _new_port(self, port: Json) -> None:
        if port.get("mac_address") and not self.may_choose_address:
            raise Refusal(403, "disallowed by policy")
        port["mac_address"] = port.get("mac_address") or f"fa:16:3e:00:00:{next(self._ids) % 256:02x}"
        port.setdefault("device_owner", "")
        port.setdefault("device_id", "")
        same = [
            each
            for each in self.things["ports"].values()
            if (each["network_id"], each["mac_address"]) == (port["network_id"], port["mac_address"])
        ]
        if same:
            raise Refusal(409, "MAC address in use")
        port.setdefault("fixed_ips", [{"ip_address": f"10.0.0.{next(self._ids)}"}])

    def _interface(self, router: Json, action: str, subnet: str) -> Json:
        ports = self.things["ports"]
        mine = [each for each in ports.values() if each["device_id"] == router["id"] and each["subnet"] == subnet]
        if action == "remove_router_interface":
            for port in mine:
                del ports[port["id"]]
            return {}
        if mine:
            raise Refusal(400, "Router already has a port on subnet")
        network = self.things["subnets"][subnet]["network_id"]
        body = {"name": "", "description": "", "network_id": network, "device_id": router["id"], "subnet": subnet}
        port = self._add("ports", {**body, "device_owner": "network:router_interface", "security_groups": []})
        port["fixed_ips"] = [{"subnet_id": subnet, "ip_address": "10.0.0.1"}]
        return {}

    def _remove(self, kind: str, thing: Json) -> None:
        ports = self.things["ports"].values()
        used = {
            "networks": [each for each in ports if each["network_id"] == thing["id"]],
            "routers": [each for each in ports if each["device_id"] == thing["id"]],
            "security-groups": [each for each in ports if thing["id"] in each.get("security_groups", [])],
        }.get(kind)
        if used:
            raise Refusal(409, f"{kind} {thing['id']} is in use")
        if kind == "floatingips" and thing["forwardings"]:
            raise Refusal(409, "in use by port forwarding")
        del self.things[kind][thing["id"]]
        if kind == "ports":
            for address in self.things["floatingips"].values():
                if address["port_id"] == thing["id"]:
                    address["port_id"] = None
                gone = [
                    each["id"] for each in address["forwardings"].values() if each["internal_port_id"] == thing["id"]
                ]
                for identity in gone:
                    del address["forwardings"][identity]
        if kind == "networks":
            gone = [each for each in self.things["subnets"].values() if each["network_id"] == thing["id"]]
            for each in gone:
                del self.things["subnets"][each["id"]]

    def _rule(self, method: str, parts: list[str], body: Json | None) -> Json | None:
        groups = self.things["security-groups"].values()
        if method == "DELETE":
            for group in groups:
                group["security_group_rules"] = [
                    each for each in group["security_group_rules"] if each["id"] != parts[1]
                ]
            return None
        assert body is not None
        rule = {**body["security_group_rule"], "id": f"rule-{next(self._ids)}"}
        rules = self.things["security-groups"][rule["security_group_id"]]["security_group_rules"]
        if any({**each, "id": ""} == {**rule, "id": ""} for each in rules):
            raise Refusal(409, "rule exists")
        rules.append(rule)
        return {"security_group_rule": rule}


def one(things: dict[str, Json], identity: str) -> Json:
    if identity not in things:
        raise Refusal(404, f"{re.sub('[^a-z0-9-]', '', identity)} could not be found")
    return things[identity]
