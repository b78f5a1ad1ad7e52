"""The host of the compute service under test, as operators see it: service, hypervisor, resource provider."""

from __future__ import annotations

from keystoneauth1.exceptions import ClientException

from harness.servers import Json, Refused, Servers
from harness.waiting import eventually


def service(admin: Servers) -> Json:
    """The record of the compute service."""
    path = f"/os-services?binary=nova-compute&host={admin.side.host}"
    [found] = admin.request("GET", path)["services"]
    return found


def hypervisor(admin: Servers) -> Json:
    found = admin.request("GET", "/os-hypervisors/detail")["hypervisors"]
    [own] = [entry for entry in found if entry["service"]["host"] == admin.side.host]
    return own


def provider(admin: Servers) -> str:
    """The resource provider: it has the hypervisor's id."""
    return str(hypervisor(admin)["id"])


def traits(admin: Servers) -> list[str]:
    """The traits of the resource provider."""
    path = f"/resource_providers/{provider(admin)}/traits"
    return admin.connection.placement.get(path, microversion="1.6").json()["traits"]


def wait_usable(admin: Servers, seconds: float = 300) -> None:
    """Wait until the scheduler may choose the host: its service is up and enabled, and no trait keeps servers away."""

    def usable() -> bool:
        seen = service(admin)
        up = (seen["state"], seen["status"]) == ("up", "enabled")
        return up and "COMPUTE_STATUS_DISABLED" not in traits(admin)

    eventually(usable, f"{admin.side.host} up and enabled", seconds)


def answers(admin: Servers) -> bool:
    """Whether Nova's API is at work, and what it asks."""
    try:
        admin.request("GET", "/os-hypervisors/detail")
    except (Refused, ClientException):
        return False
    return True
