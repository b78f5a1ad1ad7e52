"""Takes away what a project has in the cloud. It needs no file."""

from __future__ import annotations

from collections.abc import Callable

from nova_docker_compose import host_groups, slots
from nova_docker_compose.cloud import Api, CloudError, Json, Server, of_project
from nova_docker_compose.floating import addresses, release
from nova_docker_compose.hooks import Said
from nova_docker_compose.servers import Servers


def down(api: Api, project: str, volumes: bool, tell: Callable[[str], None], said: Said = dict) -> bool:
    """Removes servers, addresses, networks and groups; with `volumes` the named volumes too. Whether there were any."""
    servers = Servers(api, project, tell, said)
    going = servers.listed(oneoffs=True)
    if volumes:
        for server in going:
            _mark(servers, server, tell)
    servers.delete(going)
    found = bool(going)
    remove = _Remover(api, project, tell)
    for address in addresses(api, project):
        found = True
        tell(f"floatingip {address.body['floating_ip_address']}: removing")
        release(api, address)
    slots.remove(api, project)
    for router in of_project(api, project, "routers"):
        _detach(api, router)
    for kind in ("routers", "subnets", "networks", "security-groups"):
        found |= remove.all(kind)
    host_groups.remove(api, project)
    return found


def _mark(servers: Servers, server: Server, tell: Callable[[str], None]) -> None:
    """Tells the agent to remove the volumes with the server."""
    try:
        servers.set_metadata(server, {"docker:remove_volumes": "true"})
    except CloudError as error:
        # Nova changes no metadata of a server that is being made or has failed.
        if error.status != 409:
            raise
        tell(f"warning: {server.name} is {server.status}: a volume of its own stays for the agent's days of grace")


class _Remover:
    def __init__(self, api: Api, project: str, tell: Callable[[str], None]) -> None:
        self._api = api
        self._project = project
        self._tell = tell

    def all(self, kind: str) -> bool:
        """Removes all of a kind; whether there were any."""
        found = of_project(self._api, self._project, kind)
        for each in found:
            if kind != "subnets":
                self._tell(f"{kind.removesuffix('s').replace('-', ' ')} {each['name']}: removing")
            _gone(self._api, "DELETE", f"/{kind}/{each['id']}")
        return bool(found)


def _detach(api: Api, router: Json) -> None:
    for port in api.listed("network", "/ports", "ports", device_id=router["id"]):
        if port["device_owner"] == "network:router_gateway":
            continue
        for address in port["fixed_ips"]:
            path = f"/routers/{router['id']}/remove_router_interface"
            _gone(api, "PUT", path, {"subnet_id": address["subnet_id"]})


def _gone(api: Api, method: str, path: str, body: Json | None = None) -> None:
    try:
        api.request("network", method, path, body)
    except CloudError as error:
        if error.status != 404:
            raise
