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
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from fake_neutron import PROJECT, FakeNeutron, Json, Refusal, one


class Answer:
    """What requests returns."""

    def __init__(self, status: int, content: Any, date: datetime) -> None:
        self.status_code = status
        self.text = "" if content is None else json.dumps(content)
        self.content = self.text.encode()
        self.headers = {"Date": email.utils.format_datetime(date, usegmt=True)}

    def json(self) -> Any:
        return json.loads(self.text)


class _Adapter:
    def __init__(self, cloud: FakeCloud, service: str) -> None:
        self._cloud = cloud
        self._service = service

    def request(self, path: str, method: str, **more: Any) -> Answer:
        assert more.pop("raise_exc") is False
        return self._cloud.answer(self._service, method, path, more)


class FakeCloud(FakeNeutron):
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
        self.tells_time = True
        """Whether answers have a date: uWSGI gives none."""
        self.can_forward = True
        """Whether Neutron forwards ports of floating IPs."""
        self.most_addresses = 1000
        """So many floating IPs are to be had."""
        self.full = False
        """Whether Glance takes no image any more."""
        self.login = {"username": "demo", "password": "secret", "user_domain_name": "Default"}
        self.config = SimpleNamespace(get_auth_args=lambda: self.login)
        self.lock = threading.RLock()
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

    def keep_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Time is this cloud's from now on, and goes by without waiting."""
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(time, "monotonic", lambda: self.time.timestamp())

    def sleep(self, seconds: float) -> None:
        """Takes the place of time.sleep."""
        with self.lock:
            self.time += timedelta(seconds=seconds)
        # Another thread gets its turn.
        threading.Event().wait(0.001)

    def answer(self, service: str, method: str, path: str, more: Json) -> Answer:
        with self.lock:
            self.time += timedelta(milliseconds=50)
            self.requests.append(f"{method} {path}")
            number = len(self.requests)
            handler = getattr(self, f"_{service}")
            try:
                status, content = 200, handler(method, path.strip("/").split("/"), more.get("json"), more)
            except Refusal as refusal:
                status, content = refusal.status, {"error": {"message": str(refusal), "code": refusal.status}}
            made = Answer(status, content, self.time)
            if not self.tells_time:
                del made.headers["Date"]
        self.after(number)
        return made

    def _now(self) -> str:
        return self.time.strftime("%Y-%m-%dT%H:%M:%SZ")

    # ------------------------------------------------------------ Glance

    def _image(self, method: str, parts: list[str], body: Json | None, more: Json) -> Json | None:
        if method != "GET":
            return self._image_change(method, parts, body, more)
        if len(parts) == 2:
            return dict(one({each["id"]: each for each in self.images}, parts[1]))
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
        image = one({each["id"]: each for each in self.images}, parts[1])
        if method == "DELETE":
            self.images.remove(image)
        elif self.full:
            raise Refusal(413, "the quota is exceeded")
        else:
            image.update({"status": "active", "content": more["data"].read().decode()})
        return None

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
        server = one(self.servers, parts[1])
        if method == "DELETE" and len(parts) == 4:
            if server.pop("told", None) != parts[3]:
                raise Refusal(404, "no such tag")
            return None
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
            elif one(self.things["ports"], port["port"])["device_id"]:
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
        if server.get("looks"):
            # The agent tells of a container that is rebuilt in its own time.
            server["looks"] -= 1
            return [server["told"]] if "told" in server else []
        server["told"] = tags.pop(0) if len(tags) > 1 else tags[0]
        if server["told"].startswith("exit:"):
            server["status"] = "SHUTOFF"
        return [server["told"]]

    def _act(self, server: Json, body: Json) -> Json | None:
        action, arguments = next(iter(body.items()))
        if action == "os-getConsoleOutput" and server["status"] == "ERROR" and "log" not in server:
            raise Refusal(409, "Instance is not ready")
        if action == "os-getConsoleOutput":
            lines = server.get("log", "one\ntwo\nthree\n").splitlines()
            return {"output": "\n".join(lines[-arguments.get("length", 1000) :])}
        if server["OS-EXT-STS:task_state"] is not None:
            raise Refusal(self.conflict, f"Cannot '{action}' while in task_state <class 'UnexpectedTaskStateError'>")
        # One that is rebuilt while it is stopped stays so.
        rebuilt = server["status"]
        following = {"os-start": "ACTIVE", "os-stop": "SHUTOFF", "reboot": "ACTIVE", "rebuild": rebuilt}[action]
        if action == "rebuild":
            server.update({key: arguments[key] for key in ("imageRef", "metadata", "user_data")})
            server |= {"status": "REBUILD", "looks": 20}
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
