"""A cloud in memory that answers as Nova, Neutron and Glance do to the requests that the commands make.

It knows what matters to them: that names are not unique and MAC addresses are, what a server's port says, and that time
goes by. Two servers can ask for one port: Nova looks before it plugs, and so lets both begin.
"""

from __future__ import annotations

import email.utils
import itertools
import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

Json = dict[str, Any]
PROJECT = "0" * 32


class Answer:
    """What requests returns."""

    def __init__(self, status: int, content: Any, date: datetime) -> None:
        self.status_code = status
        self.text = "" if content is None else json.dumps(content)
        self.content = self.text.encode()
        self.headers = {"Date": email.utils.format_datetime(date, usegmt=True)}

    def json(self) -> Any:
        return json.loads(self.text)


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Adapter:
    def __init__(self, cloud: FakeCloud, service: str) -> None:
        self._cloud = cloud
        self._service = service

    def request(self, path: str, method: str, **more: Any) -> Answer:
        assert more.pop("raise_exc") is False
        return self._cloud.answer(self._service, method, path, more)


class FakeCloud:
    """Stands for an openstack.connection.Connection."""

    def __init__(self) -> None:
        self.compute, self.network, self.image = (_Adapter(self, name) for name in ("compute", "network", "image"))
        self.current_project_id = PROJECT
        self.session = SimpleNamespace(verify="/ca.pem")
        self.has_consoles = True
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.requests: list[str] = []
        self.after: Callable[[int], None] = lambda number: None
        """Called after each request with its number; what it raises is as if the user had stopped the command."""
        self.faults: dict[str, str] = {}
        """Servers that are to fail, by name."""
        self.told: dict[str, list[str]] = {}
        """Tags that the agent writes, by the name of the server: another with every look, once it runs."""
        self.may_choose_address = True
        self.conflict = 409
        """What Nova answers where two want to change a server; 500 where both come at the same moment."""
        self.can_forward = True
        """Whether Neutron forwards ports of floating IPs."""
        self.full = False
        """Whether Glance takes no image any more."""
        self.login = {"username": "demo", "password": "secret", "user_domain_name": "Default"}
        self.config = SimpleNamespace(get_auth_args=lambda: self.login)
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self.servers: dict[str, Json] = {}
        self.groups: dict[str, Json] = {}
        self.things: dict[str, dict[str, Json]] = {
            kind: {} for kind in ("networks", "subnets", "ports", "routers", "security-groups", "floatingips")
        }
        self._add("networks", {"name": "public", "router:external": True, "description": ""})
        self.images = [
            {"id": f"{number:08x}-0000-0000-0000-000000000000", "name": name, "status": "active", "size": 1 << 20}
            for number, name in enumerate(("tiny", "web:v1", "db:latest"), 1)
        ]
        for image in self.images:
            image.update({"created_at": "2026", "owner": PROJECT, "min_ram": 0, "min_disk": 0})
        self.flavors = [
            self._flavor("c1.tiny", 1, 64, {}),
            self._flavor("c1.small", 1, 256, {}),
            self._flavor("c1.fuse", 2, 512, {"docker:cap_add": "SYS_ADMIN, MKNOD"}),
            {**self._flavor("vm", 1, 32, {}), "extra_specs": {"trait:CUSTOM_HV_DOCKER": "forbidden"}},
        ]

    def _flavor(self, name: str, vcpus: int, ram: int, specs: Json) -> Json:
        specs = {"trait:CUSTOM_HV_DOCKER": "required", **specs}
        return {"id": name, "name": name, "vcpus": vcpus, "ram": ram, "disk": 1, "extra_specs": specs}

    def sleep(self, seconds: float) -> None:
        """Takes the place of time.sleep."""
        with self._lock:
            self.time += timedelta(seconds=seconds)
        # Another thread gets its turn.
        threading.Event().wait(0.001)

    def answer(self, service: str, method: str, path: str, more: Json) -> Answer:
        with self._lock:
            self.time += timedelta(milliseconds=50)
            self.requests.append(f"{method} {path}")
            number = len(self.requests)
            handler = getattr(self, f"_{service}")
            try:
                status, content = 200, handler(method, path.strip("/").split("/"), more.get("json"), more)
            except Refusal as refusal:
                status, content = refusal.status, {"error": {"message": str(refusal), "code": refusal.status}}
            made = Answer(status, content, self.time)
        self.after(number)
        return made

    def _now(self) -> str:
        return self.time.strftime("%Y-%m-%dT%H:%M:%SZ")

    # ------------------------------------------------------------ Glance

    def _image(self, method: str, parts: list[str], body: Json | None, more: Json) -> Json | None:
        if method != "GET":
            return self._image_change(method, parts, body, more)
        if len(parts) == 2:
            return dict(_one({each["id"]: each for each in self.images}, parts[1]))
        params = more.get("params", {})
        name = params.get("name", "").removeprefix("eq:")
        found = [each for each in self.images if not name or each["name"] == name]
        # Pages of two.
        at = next((number + 1 for number, each in enumerate(found) if each["id"] == params.get("marker")), 0)
        return {"images": found[at : at + 2], **({"next": "/v2/images?more"} if len(found) > at + 2 else {})}

    def _image_change(self, method: str, parts: list[str], body: Json | None, more: Json) -> Json | None:
        if method == "POST":
            assert body is not None
            made = {"id": f"image-{next(self._ids)}", "status": "queued", "owner": PROJECT, "created_at": self._now()}
            self.images.append({**made, "min_ram": 0, "min_disk": 0, **body})
            return self.images[-1]
        image = _one({each["id"]: each for each in self.images}, parts[1])
        if method == "DELETE":
            self.images.remove(image)
        elif self.full:
            raise Refusal(413, "the quota is exceeded")
        else:
            image.update({"status": "active", "content": more["data"].read().decode()})
        return None

    # ------------------------------------------------------------ Neutron

    def _network(self, method: str, parts: list[str], body: Json | None, more: Json) -> Json | None:
        kind = parts[0]
        if kind == "security-group-rules":
            return self._rule(method, parts, body)
        if kind == "extensions":
            if parts[1] != "floating-ip-port-forwarding" or not self.can_forward:
                raise Refusal(404, "no such extension")
            return {"extension": {}}
        if parts[2:3] == ["port_forwardings"]:
            return self._forwarding(method, _one(self.things[kind], parts[1]), parts[3:], body)
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
        thing = _one(things, parts[1])
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
        thing.update(body[single])
        return {single: thing}

    def _forwarding(self, method: str, address: Json, parts: list[str], body: Json | None) -> Json | None:
        if not self.can_forward:
            raise Refusal(404, "no such resource")
        mine = address["forwardings"]
        if method == "GET":
            return {"port_forwardings": list(mine.values())}
        if method == "DELETE":
            _one(mine, parts[0])
            del mine[parts[0]]
            return None
        assert body is not None
        identity = parts[0] if parts else f"forwarding-{next(self._ids)}"
        made = {**mine.get(identity, {}), **body["port_forwarding"], "id": identity}
        if address["port_id"] or made["internal_ip_address"] not in [
            each["ip_address"] for each in _one(self.things["ports"], made["internal_port_id"])["fixed_ips"]
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

    # ------------------------------------------------------------ Nova

    def _compute(self, method: str, parts: list[str], body: Json | None, more: Json) -> Json | None:
        assert more["microversion"] == "2.90"
        params = more.get("params", {})
        if parts == ["flavors", "detail"]:
            return {"flavors": self.flavors}
        if parts[0] == "os-server-groups":
            return self._server_group(method, parts, body)
        if parts == ["servers", "detail"] and "name" in params:
            return {"servers": [each for each in self.servers.values() if re.search(params["name"], each["name"])]}
        if parts == ["servers", "detail"]:
            return {
                "servers": [self._shown(each) for each in list(self.servers.values()) if params["tags"] in each["tags"]]
            }
        if parts == ["servers"]:
            assert body is not None
            return {"server": self._launch(body["server"])}
        server = _one(self.servers, parts[1])
        if method == "DELETE":
            for port in self._ports(server):
                port["device_id"] = ""
                if port["name"] == "":
                    del self.things["ports"][port["id"]]
            del self.servers[server["id"]]
            return None
        if method == "GET":
            return {"server": self._shown(server)}
        assert body is not None
        if parts[2] == "remote-consoles":
            if not self.has_consoles:
                raise Refusal(400, "Unavailable console type serial.")
            return {"remote_console": {**body["remote_console"], "url": f"wss://proxy:6083/?token={server['id']}"}}
        if parts[2] == "metadata":
            if server["status"] in ("BUILD", "ERROR"):
                raise Refusal(409, "Cannot 'update_server_metadata' instance while it is in vm_state")
            server["metadata"].update(body["metadata"])
            return body
        return self._act(server, body)

    def _ports(self, server: Json) -> list[Json]:
        return [
            self.things["ports"][port["port"]] for port in server["networks"] if port["port"] in self.things["ports"]
        ]

    def _launch(self, body: Json) -> Json:
        groups = [group["name"] for group in body.get("security_groups", [])]
        for port in body["networks"]:
            if "uuid" in port:
                # Nova makes one, which goes with the server.
                made = {"name": "", "description": "", "network_id": port["uuid"], "security_groups": groups}
                port["port"] = self._add("ports", made)["id"]
            elif _one(self.things["ports"], port["port"])["device_id"]:
                raise Refusal(409, "Port is in use")
        identity = f"server-{next(self._ids)}"
        task = {"status": "BUILD", "OS-EXT-STS:task_state": "spawning", "created": self._now(), "steps": 3}
        self.servers[identity] = {"id": identity, **body, **task}
        return {"id": identity}

    def _shown(self, server: Json) -> Json:
        """A server goes on by one step whenever somebody looks."""
        if server["steps"]:
            server["steps"] -= 1
            if server["status"] == "BUILD" and not self.faults.get(server["name"]):
                for port in self._ports(server):
                    port["device_id"] = server["id"]
            if not server["steps"]:
                fault = self.faults.get(server["name"])
                server.update({"status": server.pop("next", "ACTIVE"), "OS-EXT-STS:task_state": None})
                if fault:
                    server.update({"status": "ERROR", "fault": {"message": fault}})
        tags = server["tags"] + self._told(server)
        fixed = [
            {"addr": each["ip_address"], "OS-EXT-IPS:type": "fixed"}
            for port in self._ports(server)
            for each in port["fixed_ips"]
        ]
        ports = {port["id"] for port in self._ports(server)}
        floating = [
            {"addr": each["floating_ip_address"], "OS-EXT-IPS:type": "floating"}
            for each in self.things["floatingips"].values()
            if each["port_id"] in ports
        ]
        return json.loads(json.dumps({**server, "tags": tags, "addresses": {"net": fixed + floating}}))

    def _told(self, server: Json) -> list[str]:
        tags = self.told.get(server["name"], [])
        if server["steps"] or not tags:
            return []
        if len(tags) > 1:
            return [tags.pop(0)]
        if tags[0].startswith("exit:"):
            server["status"] = "SHUTOFF"
        return [tags[0]]

    def _act(self, server: Json, body: Json) -> Json | None:
        action, arguments = next(iter(body.items()))
        if action == "os-getConsoleOutput" and server["status"] == "ERROR" and "log" not in server:
            raise Refusal(409, "Instance is not ready")
        if action == "os-getConsoleOutput":
            lines = server.get("log", "one\ntwo\nthree\n").splitlines()
            return {"output": "\n".join(lines[-arguments.get("length", 1000) :])}
        if server["OS-EXT-STS:task_state"] is not None:
            raise Refusal(self.conflict, f"Cannot '{action}' while in task_state <class 'UnexpectedTaskStateError'>")
        following = {"os-start": "ACTIVE", "os-stop": "SHUTOFF", "reboot": "ACTIVE", "rebuild": "ACTIVE"}[action]
        if action == "rebuild":
            server.update({key: arguments[key] for key in ("imageRef", "metadata", "user_data")})
            server["status"] = "REBUILD"
        server.update({"OS-EXT-STS:task_state": action, "next": following, "steps": 2})
        return None

    def _server_group(self, method: str, parts: list[str], body: Json | None) -> Json | None:
        if method == "POST":
            assert body is not None
            identity = f"group-{next(self._ids)}"
            self.groups[identity] = {"id": identity, "members": [], **body["server_group"]}
            return {"server_group": self.groups[identity]}
        if method == "DELETE":
            del self.groups[parts[1]]
            return None
        return {"server_groups": list(self.groups.values())}

    # ------------------------------------------------------------ for tests

    def left(self) -> list[str]:
        """What there is but for what was there at the beginning."""
        things = [
            f"{kind} {each['name'] if 'name' in each else each['id']}"
            for kind, all_ in self.things.items()
            for each in all_.values()
        ]
        return sorted(
            [each for each in things if each != "networks public"] + [each["name"] for each in self.servers.values()]
        )


def _one(things: dict[str, Json], identity: str) -> Json:
    if identity not in things:
        raise Refusal(404, f"{re.sub('[^a-z0-9-]', '', identity)} could not be found")
    return things[identity]
