"""Whether everybody has the same servers: Nova, Docker, the kernel, Open vSwitch, Neutron, Placement and Glance.

The databases are asked, as in `leaks`: nothing hides on a further page, and it costs little.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Iterator

from harness.lab import Lab

_CONTAINERS = {
    "active": {"running"},
    "stopped": {"exited", "created"},
    "paused": {"paused"},
    "suspended": {"paused", "exited"},
    "rescued": {"running"},
    # One that was off has a container that never ran.
    "resized": {"running", "exited", "created"},
    "error": {"running", "exited", "created", "paused", None},
    "shelved": {"exited", "created"},
    "shelved_offloaded": {None},
    "soft-delete": {"exited", "created"},
}
"""What Docker says of the container, by Nova's state; None is no container."""

_POWER = {"running": {1}, "paused": {3}, "exited": {4}, "created": {4}}
"""Nova's numbers."""

_POWER_SUSPENDED = {"paused": {7}, "exited": {4, 7}}
"""In memory; and on disk, or in memory until Docker ended."""

_OVER = ("finished", "confirmed", "reverted", "error", "failed", "completed", "done", "cancelled")
"""Of a migration that nobody works on. One that is `finished` waits for its user."""


@dataclasses.dataclass(frozen=True)
class Server:
    """Nova's record."""

    id: str
    name: str
    vm_state: str
    task_state: str
    power_state: int
    host: str
    resources: tuple[int, int, int]
    """VCPU, MEMORY_MB, DISK_GB."""

    @property
    def is_here(self) -> bool:
        return self.host != "None"

    @property
    def has_network(self) -> bool:
        """Whether its ports must be plugged: in ERROR nobody knows how far it came."""
        return self.is_here and self.vm_state not in ("error", "shelved_offloaded")


@dataclasses.dataclass(frozen=True)
class Books:
    """The servers of one project, as everybody has them at one moment."""

    lab: Lab
    project_id: str

    def servers(self) -> list[Server]:
        """Those that a compute host has been told of."""
        rows = self._rows(
            "SELECT uuid, display_name, vm_state, task_state, power_state, host, vcpus, memory_mb, root_gb"
            " FROM nova.instances WHERE deleted = 0 AND project_id = %(project)s"
        )
        return [
            Server(*row[:4], int(row[4]) if row[4] != "None" else 0, row[5], tuple(map(int, row[6:])))  # type: ignore[arg-type]
            for row in rows
        ]

    def stuck(self) -> list[Server]:
        """Servers of the host that somebody still works on, or seems to."""
        return [each for each in self.servers() if each.is_here and (each.task_state != "None" or _builds(each))]

    def lost(self) -> list[str]:
        """Servers that are on their way to a host and reached none: what a conductor or a broker had when it ended."""
        on_the_way = [each.id for each in self.servers() if not each.is_here and each.task_state != "None"]
        on_the_way += [each.id for each in self.servers() if not each.is_here and _builds(each)]
        # A conductor had asked the scheduler, and had not written a server down yet.
        on_the_way += itertools.chain.from_iterable(
            self._rows("SELECT instance_uuid FROM nova_api.build_requests WHERE project_id = %(project)s")
        )
        return [each for each in dict.fromkeys(on_the_way) if not self._reached_the_host(each)]

    def disagreements(self) -> list[str]:
        """One line for each thing that somebody has and another has not, with its ids."""
        servers = [each for each in self.servers() if each.id not in self.lost()]
        return [
            *self._in_nova(servers),
            *self._in_docker(servers),
            *self._on_the_host(servers),
            *self._in_neutron(servers),
            *self._in_placement(servers),
            *self._in_glance(servers),
        ]

    def _rows(self, statement: str, **arguments: str) -> list[list[str]]:
        found = self.lab.sql(statement, {"project": self.project_id, **arguments})
        return [line.split("\t") for line in found.splitlines()]

    def _reached_the_host(self, server_id: str) -> bool:
        """Whether the last thing that was asked of a server has an event of a compute host."""
        return bool(
            self._rows(
                "SELECT event FROM nova.instance_actions_events WHERE event LIKE 'compute%%' AND action_id ="
                " (SELECT MAX(id) FROM nova.instance_actions WHERE instance_uuid = %(server)s)",
                server=server_id,
            )
        )

    def _in_nova(self, servers: list[Server]) -> Iterator[str]:
        for each in servers:
            # The API deletes by itself what no host has; while Neutron is away it fails, and may be asked again.
            is_apis = not each.is_here and each.task_state == "deleting"
            if not is_apis and (each.task_state != "None" or each.vm_state not in _CONTAINERS):
                yield f"server {each.id} is stuck: {each.vm_state}, task {each.task_state}, host {each.host}"
        faults = {
            server
            for [server] in self._rows(
                "SELECT f.instance_uuid FROM nova.instance_faults f JOIN nova.instances i ON i.uuid = f.instance_uuid"
                " WHERE i.project_id = %(project)s"
            )
        }
        yield from (
            f"server {each.id} is in error, and nobody says why"
            for each in servers
            if each.vm_state == "error" and each.id not in faults
        )
        states = {each.id: each.vm_state for each in servers}
        for migration, server, status in self._rows(
            "SELECT m.uuid, m.instance_uuid, m.status FROM nova.migrations m JOIN nova.instances i"
            " ON i.uuid = m.instance_uuid WHERE i.deleted = 0 AND i.project_id = %(project)s"
        ):
            if status not in _OVER and server in states:
                yield f"migration {migration} of server {server} ({states[server]}) is stuck: {status}"

    def _in_docker(self, servers: list[Server]) -> Iterator[str]:
        listed = self.lab.docker("ps", "--all", "--format", "{{.Names}} {{.State}}").splitlines()
        containers = dict(line.split() for line in listed)
        for each in servers:
            state = containers.pop(f"nova-{each.id}", None)
            allowed = _CONTAINERS.get(each.vm_state, {state}) if each.is_here else {None}
            if state not in allowed:
                yield f"server {each.id} is {each.vm_state} on host {each.host}, and its container {state}"
            elif state and each.vm_state != "error" and each.power_state not in _powers(each)[state]:
                yield f"the container of server {each.id} is {state}, and Nova's power state {each.power_state}"
            aside = containers.pop(f"nova-{each.id}-aside", None)
            if (aside is not None) != (each.vm_state in ("resized", "rescued")) and each.vm_state != "error":
                yield f"server {each.id} is {each.vm_state}, and its container that was set aside {aside}"
        yield from (f"container {name} has no server" for name in self._ours(containers))

    def _on_the_host(self, servers: list[Server]) -> Iterator[str]:
        spaces = {name.removeprefix("nova-") for name in os.listdir("/run/netns") if name.startswith("nova-")}
        for each in servers:
            if each.has_network and each.id not in spaces:
                yield f"server {each.id} ({each.vm_state}) has no network namespace"
        may_have = {each.id for each in servers if each.has_network or each.vm_state == "error"}
        yield from (f"network namespace nova-{name} has no server" for name in self._ours(spaces - may_have))

    def _in_neutron(self, servers: list[Server]) -> Iterator[str]:
        ports = self._rows(
            "SELECT p.id, p.device_id, p.status, b.host, b.vif_type FROM neutron.ports p"
            " LEFT JOIN neutron.ml2_port_bindings b ON b.port_id = p.id"
            " WHERE p.project_id = %(project)s AND p.device_owner NOT LIKE 'network:%%'"
        )
        plugged = self._plugged()
        by_id = {each.id: each for each in servers}
        lost = set(self.lost())
        for port, server_id, status, host, vif_type in ports:
            server = by_id.get(server_id)
            of = f"port {port} of server {server_id}"
            if server is None and server_id not in lost:
                yield f"{of}: there is no such server"
            elif server is not None and server.has_network:
                if (host, vif_type, status) != (server.host, "ovs", "ACTIVE"):
                    yield f"{of} ({server.vm_state}) is {status}, bound to host {host} as {vif_type}"
                if (port, server_id) not in plugged:
                    yield f"{of} ({server.vm_state}) is not plugged into Open vSwitch"
        known = {(port, server_id) for port, server_id, *_ in ports}
        yield from (f"Open vSwitch has port {port} of server {of}" for port, of in sorted(plugged - known))
        caches = dict(
            self._rows(
                "SELECT c.instance_uuid, c.network_info FROM nova.instance_info_caches c JOIN nova.instances i"
                " ON i.uuid = c.instance_uuid WHERE i.deleted = 0 AND i.project_id = %(project)s"
            )
        )
        for each in servers:
            cached = sorted(vif["id"] for vif in json.loads(caches.get(each.id, "[]")))
            owned = sorted(port for port, server_id in known if server_id == each.id)
            if each.vm_state != "error" and cached != owned:
                yield f"server {each.id} ({each.vm_state}): Nova's cache has ports {cached}, Neutron {owned}"

    def _plugged(self) -> set[tuple[str, str]]:
        """Port and server of every interface of the project's servers in Open vSwitch."""
        found = self.lab.vsctl(
            "--format=json", "--columns=external_ids", "find", "Interface", 'external_ids:vm-uuid!=""'
        )
        tables = [dict(pairs) for [(_, pairs)] in json.loads(found)["data"]]
        ours = self._ever()
        return {(table["iface-id"], table["vm-uuid"]) for table in tables if table["vm-uuid"] in ours}

    def _in_placement(self, servers: list[Server]) -> Iterator[str]:
        held: dict[str, dict[str, int]] = collections.defaultdict(dict)
        for consumer, resource, used in self._rows(
            "SELECT c.uuid, r.name, a.used FROM placement.allocations a"
            " JOIN placement.consumers c ON c.uuid = a.consumer_id"
            " JOIN placement.resource_classes r ON r.id = a.resource_class_id"
            " JOIN placement.projects p ON p.id = c.project_id WHERE p.external_id = %(project)s"
        ):
            held[consumer][resource] = int(used)
        for each in servers:
            wanted = dict(zip(("VCPU", "MEMORY_MB", "DISK_GB"), each.resources, strict=True))
            wanted = wanted if each.is_here and each.vm_state != "shelved_offloaded" else {}
            found = held.pop(each.id, {})
            if found != wanted:
                yield f"server {each.id} ({each.vm_state}) holds {found} in Placement instead of {wanted}"
        awaited = {
            migration
            for migration, server_id in self._rows(
                "SELECT uuid, instance_uuid FROM nova.migrations WHERE status = 'finished'"
            )
            if any(each.id == server_id and each.vm_state in ("resized", "error") for each in servers)
        }
        for consumer in set(held) - awaited - set(self.lost()):
            yield f"consumer {consumer} holds {held[consumer]} in Placement, and is no server"

    def _in_glance(self, servers: list[Server]) -> Iterator[str]:
        on_the_shelf = ("shelved", "shelved_offloaded")
        shelved = {f"{each.name}-shelved" for each in servers if each.vm_state in on_the_shelf}
        in_error = {f"{each.name}-shelved" for each in servers if each.vm_state == "error"}
        images = self._rows("SELECT id, name, status FROM glance.images WHERE deleted = 0 AND owner = %(project)s")
        for image, name, status in images:
            if status != "active":
                yield f"image {image} ({name}) is stuck: {status}"
            if name.endswith("-shelved") and name not in shelved | in_error:
                yield f"image {image} ({name}) is of no server on the shelf"
        for name in shelved - {name for _, name, _ in images}:
            yield f"the image {name} of a server on the shelf is gone"

    def _ours(self, names: Iterable[str]) -> list[str]:
        """Those of the names that hold the id of a server which the project has, or had."""
        ever = self._ever()
        return sorted(name for name in names if any(server_id in name for server_id in ever))

    def _ever(self) -> set[str]:
        return {row[0] for row in self._rows("SELECT uuid FROM nova.instances WHERE project_id = %(project)s")}


def _powers(server: Server) -> dict[str, set[int]]:
    return _POWER_SUSPENDED if server.vm_state == "suspended" else _POWER


def _builds(server: Server) -> bool:
    return server.vm_state == "building"
