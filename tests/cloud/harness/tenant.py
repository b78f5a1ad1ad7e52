"""A project of a worker's own, with all that its tests launch servers with."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
from openstack.connection import Connection

INGRESS = (("icmp", None), ("tcp", 22), ("tcp", 80))
"""What the default security group lets in: protocol and port."""


@dataclasses.dataclass(frozen=True)
class Tenant:
    """Project, user, network, router and key pair are all called `name`."""

    name: str
    project_id: str
    user_id: str
    password: str
    connection: Connection
    """As the user, who is a member of the project and no more."""
    network: Any
    subnet: Any
    subnet6: Any | None
    """None where the machine has no IPv6."""
    router: Any
    key: Path
    """The private half of the key pair."""


def has_ipv6() -> bool:
    return os.path.exists("/proc/sys/net/ipv6")


@contextlib.contextmanager
def tenant(admin: Connection, name: str, number: int, directory: Path) -> Iterator[Tenant]:
    """Make a tenant and take it away again. `number`, up to 99, is no other tenant's: its addresses are made of it."""
    with contextlib.ExitStack() as undo:
        project_id, user_id, password = _identity(admin, undo, name)
        connection = openstack.connect(
            auth={**_without_user(admin.auth), "username": name, "password": password, "project_id": project_id},
            region_name=admin.config.region_name,
            identity_api_version="3",
        )
        undo.callback(connection.close)
        # Neutron makes it when it is first looked for, and keeps it when its project goes.
        group = connection.network.find_security_group("default", ignore_missing=False, project_id=project_id)
        undo.callback(admin.network.delete_security_group, group.id)
        _let_in(connection, group.id)
        network, subnet, subnet6, router = _network(connection, undo, name, number)
        key = _key_pair(connection, undo, name, directory)
        yield Tenant(name, project_id, user_id, password, connection, network, subnet, subnet6, router, key)


def _without_user(auth: dict[str, Any]) -> dict[str, Any]:
    return {key: auth[key] for key in ("auth_url", "user_domain_name")}


def _identity(admin: Connection, undo: contextlib.ExitStack, name: str) -> tuple[str, str, str]:
    identity, password = admin.identity, secrets.token_hex(12)
    project = identity.create_project(name=name, domain_id="default")
    undo.callback(identity.delete_project, project)
    user = identity.create_user(name=name, password=password, domain_id="default", default_project_id=project.id)
    undo.callback(identity.delete_user, user)
    identity.assign_project_role_to_user(project, user, identity.find_role("member", ignore_missing=False))
    return project.id, user.id, password


def _let_in(connection: Connection, group_id: str) -> None:
    for kind in ("IPv4", "IPv6"):
        for protocol, port in INGRESS:
            connection.network.create_security_group_rule(
                security_group_id=group_id,
                direction="ingress",
                ether_type=kind,
                protocol="ipv6-icmp" if (kind, protocol) == ("IPv6", "icmp") else protocol,
                port_range_min=port,
                port_range_max=port,
            )


def _network(connection: Connection, undo: contextlib.ExitStack, name: str, number: int) -> tuple[Any, Any, Any, Any]:
    """A network with IPv4 and IPv6, and its router to `public`."""
    neutron = connection.network
    network = neutron.create_network(name=name)
    undo.callback(neutron.delete_network, network)
    subnet = neutron.create_subnet(
        name=f"{name}-v4", network_id=network.id, ip_version=4, cidr=f"10.{100 + number}.0.0/24"
    )
    subnet6 = None
    if has_ipv6():
        prefix = f"fd64:6e6f:7662:{number}::"
        subnet6 = neutron.create_subnet(
            name=f"{name}-v6",
            network_id=network.id,
            ip_version=6,
            cidr=f"{prefix}/64",
            gateway_ip=f"{prefix}1",
            ipv6_address_mode="slaac",
            ipv6_ra_mode="slaac",
        )
    public = neutron.find_network("public", ignore_missing=False)
    router = neutron.create_router(name=name, external_gateway_info={"network_id": public.id})
    undo.callback(neutron.delete_router, router)
    for each in (subnet, subnet6):
        if each is not None:
            neutron.add_interface_to_router(router, subnet_id=each.id)
            undo.callback(neutron.remove_interface_from_router, router, subnet_id=each.id)
    return network, subnet, subnet6, router


def _key_pair(connection: Connection, undo: contextlib.ExitStack, name: str, directory: Path) -> Path:
    path = directory / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    pair = connection.compute.create_keypair(name=name, public_key=path.with_suffix(".pub").read_text())
    undo.callback(connection.compute.delete_keypair, pair)
    return path
