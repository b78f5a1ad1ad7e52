"""Server groups: which servers belong on one host, or on several."""

from __future__ import annotations

from nova_docker_compose.cloud import Api, CloudError, Json
from nova_docker_compose.translation import Wanted

_POLICIES = ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")


def make(api: Api, project: str, wanted: Wanted) -> str | None:
    """The group of servers that belong on one host, which all services share, or of a service's that do not."""
    policy = wanted.extra.get("host_group")
    if policy is None:
        return None
    name = f"{project}_{policy}" + (f"_{wanted.name}" if "anti" in policy else "")

    def there() -> list[Json]:
        found = api.request("compute", "GET", "/os-server-groups")["server_groups"]
        return sorted((each for each in found if each["name"] == name), key=lambda each: str(each["id"]))

    if not there():
        api.request("compute", "POST", "/os-server-groups", {"server_group": {"name": name, "policy": policy}})
    return str(there()[0]["id"])


def remove(api: Api, project: str) -> None:
    """Removes those of a project that have no servers any more."""
    for group in api.request("compute", "GET", "/os-server-groups")["server_groups"]:
        names = [f"{project}_{policy}" for policy in _POLICIES]
        mine = group["name"] in names or any(group["name"].startswith(f"{name}_") for name in names)
        if mine and not group["members"]:
            try:
                api.request("compute", "DELETE", f"/os-server-groups/{group['id']}")
            except CloudError as error:
                if error.status != 404:
                    raise
