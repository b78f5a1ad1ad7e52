"""Everything that a test could leave behind, on every layer, as one set of names.

The databases are asked and not the APIs: it is one question instead of a dozen, and nothing is on a further page,
hidden, or another project's.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable

from harness.lab import Lab
from harness.waiting import TimedOut, eventually


@dataclasses.dataclass(frozen=True)
class _Record:
    """Rows of a database that are something which a test could leave behind."""

    kind: str
    name: str
    """SQL: what the thing is called, a list for CONCAT_WS."""
    place: str
    """SQL: what follows FROM."""
    project: str | None = "project_id"
    """The column with its project; None when it has none, or belongs to whoever makes the project."""


_CONSUMERS = (
    "placement.allocations a JOIN placement.consumers c ON c.uuid = a.consumer_id"
    " JOIN placement.projects p ON p.id = c.project_id WHERE TRUE"
)
_RECORDS = (
    _Record("server", "uuid, display_name", "nova.instances WHERE deleted = 0"),
    _Record("server without a host", "uuid, display_name", "nova_cell0.instances WHERE deleted = 0"),
    _Record("request of a server", "instance_uuid", "nova_api.build_requests WHERE TRUE"),
    _Record("server group", "uuid, name", "nova_api.instance_groups WHERE TRUE"),
    _Record("quota", "project_id, resource", "nova_api.quotas WHERE TRUE"),
    _Record("allocation", "c.uuid", _CONSUMERS, "p.external_id"),
    # Ports of routers and of DHCP come and go with their networks, and later than those.
    _Record("port", "id, 'of', device_owner, device_id", "neutron.ports WHERE device_owner NOT LIKE 'network:%'"),
    _Record("floating address", "floating_ip_address", "neutron.floatingips WHERE TRUE"),
    _Record("network", "id, name", "neutron.networks WHERE TRUE"),
    _Record("router", "id, name", "neutron.routers WHERE TRUE"),
    # Neutron makes a project's default group with whatever it makes or changes for the project, also after its end.
    _Record("security group", "id, name", "neutron.securitygroups WHERE name <> 'default'"),
    _Record("image", "id, name, status", "glance.images WHERE deleted = 0", "owner"),
    _Record("project", "id, name", "keystone.project WHERE TRUE", None),
    _Record("user", "user_id, name", "keystone.local_user WHERE TRUE", None),
    _Record("key pair", "user_id, name", "nova_api.key_pairs WHERE TRUE", None),
    _Record("flavor", "flavorid, name", "nova_api.flavors WHERE TRUE", None),
    _Record("trait", "name", "placement.traits WHERE TRUE", None),
)
_RECORDS_OF_CINDER = (
    _Record("volume", "id, display_name", "cinder.volumes WHERE deleted = 0"),
    _Record("volume snapshot", "id, display_name", "cinder.snapshots WHERE deleted = 0"),
)
_RECORDS_OF_HEAT = (_Record("stack", "id, name", "heat.stack WHERE deleted_at IS NULL", "tenant"),)
_RECORDS_OF_EXTRAS = {"cinder": _RECORDS_OF_CINDER, "heat": _RECORDS_OF_HEAT}

_REGISTRY = "/glance/"
"""In the names of images that the agent has pulled: a cache, which the agent prunes."""


def of_project(lab: Lab, project_id: str) -> set[str]:
    """`kind name` of all that one project has now, with what its servers, also those that were, have on the host."""
    own = f"project_id = '{project_id}'"
    statement = f"{_records(lab, project_id)} UNION SELECT CONCAT('* ', uuid) FROM nova.instances WHERE {own}"  # noqa: S608, Keystone's id
    found = lab.sql(statement).splitlines()
    servers = tuple(line.removeprefix("* ") for line in found if line.startswith("* "))
    return {line for line in found if not line.startswith("* ")} | {
        thing for thing in _of_servers(lab) if thing.endswith(servers)
    }


def of_cloud(lab: Lab) -> set[str]:
    """`kind name` of all that there is now, on every layer, whoever's it is."""
    return set(lab.sql(_records(lab)).splitlines()) | _of_servers(lab) | _in_docker(lab)


def _records(lab: Lab, project_id: str | None = None) -> str:
    """The statement that lists all records, or those of one project."""
    extras = [_RECORDS_OF_EXTRAS.get(name, ()) for name in lab.options["extras"]]  # type: ignore[attr-defined]
    return " UNION ".join(
        f"SELECT CONCAT_WS(' ', '{record.kind}', {record.name}) FROM {record.place}"  # noqa: S608, nothing of a user's
        + (f" AND {record.project} = '{project_id}'" if project_id else "")
        for record in (*_RECORDS, *itertools.chain.from_iterable(extras))
        if record.project or not project_id
    )


def _of_servers(lab: Lab) -> set[str]:
    """What servers have on the host; each name ends in its server's id."""
    # Without Docker there is nothing that it could have left.
    names = lab.docker("ps", "--all", "--format", "{{.Names}}", check=False).split()
    found = {f"container {name}" for name in names if name.startswith("nova-")}
    found |= {f"namespace {name}" for name in os.listdir("/run/netns") if name.startswith("nova-")}
    rows = lab.vsctl("--format=json", "--columns=name,external_ids", "find", "Interface", 'external_ids:vm-uuid!=""')
    for name, (_, pairs) in json.loads(rows)["data"]:
        found.add(f"Open vSwitch port {name} of {dict(pairs)['vm-uuid']}")
    return found


def _in_docker(lab: Lab) -> set[str]:
    """What is no server's: other containers, volumes, and images that did not come from the agent's registry."""
    found = {f"container {name}" for name in lab.docker("ps", "--all", "--format", "{{.Names}}").split()}
    found |= {f"Docker volume {name}" for name in lab.docker("volume", "ls", "--quiet").split()}
    shown = ("--digests", "--no-trunc", "--format", "{{.Repository}} {{.Digest}} {{.ID}}")
    images = lab.docker("images", *shown).splitlines()
    return found | {f"Docker image {image}" for image in images if _REGISTRY not in image}


def assert_nothing_new(look: Callable[[], set[str]], before: set[str], seconds: float = 300) -> None:
    """Fail unless all that `look` finds and was not there `before` goes away within `seconds`."""
    last: set[str] = set()

    def clean() -> bool:
        nonlocal last
        last = look() - before
        return not last

    try:
        eventually(clean, "nothing left behind", seconds)
    except TimedOut:
        raise AssertionError("left behind:\n  " + "\n  ".join(sorted(last))) from None
