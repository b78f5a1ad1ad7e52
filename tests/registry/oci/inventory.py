"""What a run of the tests could leave in the cloud, as one set of names."""

from __future__ import annotations

from harness.waiting import eventually
from openstack.connection import Connection

from oci import cloud


def inventory(admin: Connection) -> set[str]:
    """`kind id name` of all that the registry tests make, whosever it is."""
    servers = admin.compute.get("/servers?all_tenants=1").json()["servers"]
    projects = admin.identity.get("/projects").json()["projects"]
    users = admin.identity.get("/users").json()["users"]
    found = {"image": list(cloud.images(admin).values()), "server": servers, "project": projects, "user": users}
    return {f"{kind} {one['id']} {one['name']}" for kind, all_of_it in found.items() for one in all_of_it}


def left_since(admin: Connection, before: set[str]) -> set[str]:
    """What has come and does not go."""
    left: set[str] = set()

    def is_gone() -> bool:
        nonlocal left
        left = inventory(admin) - before
        return not left

    try:
        eventually(is_gone, "the cloud as it was", 240)
    except AssertionError:
        return left
    return set()
