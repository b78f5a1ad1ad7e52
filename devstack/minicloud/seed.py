"""Fills the cloud through the public APIs. Runs in the virtual environment.

    python -m minicloud.seed STATE_DIR PART...

Each part looks before it makes, so that it can run on every `up`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openstack

from minicloud import options as options_module
from minicloud import passwords as passwords_module
from minicloud.layout import EXTERNAL_CIDR, EXTERNAL_HOST_ADDRESS, REGION, Layout, url

CONTAINER_TRAIT = "CUSTOM_HV_DOCKER"
SERVICE_USERS = ("nova", "glance", "placement", "neutron", "cinder", "heat")
ROLES = ("admin", "service", "member", "reader", "heat_stack_user", "heat_stack_owner")
CATALOG = (
    ("glance", "image", url("glance"), None),
    ("placement", "placement", url("placement"), None),
    ("nova", "compute", url("nova-api", "/v2.1"), None),
    ("neutron", "network", url("neutron-api"), None),
    ("heat", "orchestration", url("heat-api", "/v1/%(tenant_id)s"), "heat"),
    ("heat-cfn", "cloudformation", url("heat-api-cfn", "/v1"), "heat"),
    ("cinder", "block-storage", url("cinder-api", "/v3/%(project_id)s"), "cinder"),
)
FLAVORS = (
    # name, vcpus, MiB of memory, GiB of disk, where it may run
    ("c1.tiny", 1, 64, 1, "required"),
    ("c1.small", 1, 256, 2, "required"),
    ("c1.medium", 2, 1024, 5, "required"),
    ("fake.tiny", 1, 64, 1, "forbidden"),
)
PRIVATE_CIDR = "10.64.0.0/24"
PRIVATE_CIDR_6 = "fd64:6e6f:7661::/64"
PRIVATE_GATEWAY_6 = "fd64:6e6f:7661::1"


class Seeder:
    """The parts of the seed, each a method."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.options = options_module.load(layout.options_file)
        self.passwords = passwords_module.load(layout.passwords_file)
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(layout.clouds_file)

    def connection(self, user: str = "admin") -> Any:
        """A client for one of the users. Any: the SDK types each service as the union of all its API versions."""
        return openstack.connect(cloud=user)

    # ------------------------------------------------------------ identity

    def identity(self) -> None:
        identity = self.connection().identity
        projects = {
            name: identity.find_project(name) or identity.create_project(name=name, domain_id="default")
            for name in ("admin", "service", "demo")
        }
        known = {role.name: role for role in identity.roles()}
        roles = {name: known.get(name) or identity.create_role(name=name) for name in ROLES}
        users = {user.name: user for user in identity.users(domain_id="default")}

        def user(name: str, password: str, project: str, *granted: str) -> None:
            account = users.get(name) or identity.create_user(
                name=name, password=password, domain_id="default", default_project_id=projects[project].id
            )
            for role in granted:
                identity.assign_project_role_to_user(projects[project], account, roles[role])

        for name in SERVICE_USERS:
            user(name, self.passwords["service"], "service", "admin", "service")
        user("admin", self.passwords["admin"], "admin", "admin", "heat_stack_owner")
        user("demo", self.passwords["demo"], "demo", "member", "heat_stack_owner")
        self._catalog(identity)

    def _catalog(self, identity: Any) -> None:
        services = {service.name: service for service in identity.services()}
        endpoints = {(endpoint.service_id, endpoint.interface) for endpoint in identity.endpoints()}
        for name, kind, address, extra in CATALOG:
            service = services.get(name)
            if extra is not None and extra not in self.options.extras:
                # Horizon and the clients offer what the catalog has, so it must name only what runs.
                if service is not None:
                    identity.delete_service(service)
                continue
            service = service or identity.create_service(name=name, type=kind)
            for interface in ("public", "internal", "admin"):
                if (service.id, interface) not in endpoints:
                    identity.create_endpoint(service_id=service.id, interface=interface, url=address, region_id=REGION)

    # ------------------------------------------------------------ network

    def network(self) -> None:
        network = self.connection().network
        self._wait_for_agents(network)
        public = network.find_network("public") or network.create_network(
            name="public",
            is_router_external=True,
            provider_network_type="flat",
            provider_physical_network="public",
        )
        if network.find_subnet("public-v4") is None:
            network.create_subnet(
                name="public-v4",
                network_id=public.id,
                ip_version=4,
                cidr=EXTERNAL_CIDR,
                gateway_ip=EXTERNAL_HOST_ADDRESS.partition("/")[0],
                enable_dhcp=False,
                allocation_pools=[{"start": "172.24.4.10", "end": "172.24.4.250"}],
            )
        demo = self.connection("demo")
        self._private(demo, public.id)
        self._default_group(demo)

    def _wait_for_agents(self, network: Any, seconds: float = 300) -> None:
        """Routers and DHCP ports that are made before their agents report would stay unbound."""
        wanted = {"Open vSwitch agent", "DHCP agent", "L3 agent"}
        if self.options.network == "ovn":
            wanted = {"OVN Controller Gateway agent", "OVN Metadata agent"}
        hosts = {self.options.host}
        end = time.monotonic() + seconds
        while True:
            alive = {agent.agent_type for agent in network.agents() if agent.is_alive and agent.host in hosts}
            if wanted <= alive:
                return
            if time.monotonic() > end:
                logs = "ovn-*.log and neutron-*.log" if self.options.network == "ovn" else "neutron-*.log"
                raise SystemExit(
                    f"no live report of {', '.join(sorted(wanted - alive))} in {seconds:.0f} s;"
                    f" see {logs} in {self.layout.log}"
                )
            time.sleep(0.5)

    def _private(self, demo: Any, public_id: str) -> None:
        """The demo project's own network: IPv4, IPv6, and a router to `public`."""
        network = demo.network
        private = network.find_network("private") or network.create_network(name="private")
        subnets = {subnet.name: subnet for subnet in network.subnets(network_id=private.id)}
        if "private-v4" not in subnets:
            subnets["private-v4"] = network.create_subnet(
                name="private-v4", network_id=private.id, ip_version=4, cidr=PRIVATE_CIDR
            )
        if "private-v6" not in subnets and Path("/proc/sys/net/ipv6").exists():
            subnets["private-v6"] = network.create_subnet(
                name="private-v6",
                network_id=private.id,
                ip_version=6,
                cidr=PRIVATE_CIDR_6,
                # The default would be the network's first address, which any router may take.
                gateway_ip=PRIVATE_GATEWAY_6,
                ipv6_address_mode="slaac",
                ipv6_ra_mode="slaac",
            )
        router = network.find_router("router") or network.create_router(
            name="router", external_gateway_info={"network_id": public_id}
        )
        attached = {address["subnet_id"] for port in network.ports(device_id=router.id) for address in port.fixed_ips}
        for subnet in subnets.values():
            if subnet.id not in attached:
                network.add_interface_to_router(router, subnet_id=subnet.id)

    def _default_group(self, demo: Any) -> None:
        """Let ssh, http and ping into servers of the demo project's default group."""
        network = demo.network
        group = network.find_security_group("default", project_id=demo.current_project_id)
        have = {(rule["ethertype"], rule["protocol"], rule["port_range_min"]) for rule in group.security_group_rules}
        for kind, protocol, port in (
            ("IPv4", "icmp", None),
            ("IPv4", "tcp", 22),
            ("IPv4", "tcp", 80),
            ("IPv6", "ipv6-icmp", None),
            ("IPv6", "tcp", 22),
            ("IPv6", "tcp", 80),
        ):
            if (kind, protocol, port) not in have:
                network.create_security_group_rule(
                    security_group_id=group.id,
                    direction="ingress",
                    ether_type=kind,
                    protocol=protocol,
                    port_range_min=port,
                    port_range_max=port,
                )

    # ------------------------------------------------------------ compute

    def compute(self) -> None:
        admin = self.connection()
        # A flavor may name only a trait that Placement knows, and the agent may come later than its flavors.
        response = admin.placement.put(f"/traits/{CONTAINER_TRAIT}", microversion="1.6")
        response.raise_for_status()
        for name, vcpus, memory, disk, trait in FLAVORS:
            flavor = admin.compute.find_flavor(name) or admin.compute.create_flavor(
                name=name, vcpus=vcpus, ram=memory, disk=disk
            )
            admin.compute.create_flavor_extra_specs(flavor, {f"trait:{CONTAINER_TRAIT}": trait})
        self._key_pair()

    def _key_pair(self) -> None:
        """Nova makes the pair, and its private half is kept here. Either is useless without the other."""
        compute = self.connection("demo").compute
        path = self.layout.demo_key
        existing = compute.find_keypair("demo")
        if existing is not None and path.exists():
            return
        if existing is not None:
            compute.delete_keypair(existing)
        if not path.exists():
            _make_key(path)
        compute.create_keypair(name="demo", public_key=_public_half(path))

    # ------------------------------------------------------------ images

    def images(self) -> None:
        image = self.connection().image
        for name in ("tiny", *(["debian"] if "debian" in self.options.extras else [])):
            self._image(
                image,
                name,
                self.layout.cache / f"{name}.tar",
                container_format="docker",
                min_ram=0,
                properties={"img_hv_type": "docker"},
            )
        if self.options.fake_compute:
            path = self.layout.cache / "fake.img"
            path.write_bytes(b"\0" * 65536)
            self._image(image, "fake", path, container_format="bare", min_ram=0, properties={})

    def _image(self, image: Any, name: str, path: Path, **fields: Any) -> None:
        """Upload a file, unless Glance already has exactly this one."""
        import hashlib

        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha512").hexdigest()
        for existing in list(image.images(name=name, visibility="public")):
            if existing.status == "active" and existing.hash_value == digest:
                return
            image.delete_image(existing)
        properties = fields.pop("properties")
        created = image.create_image(
            name=name, disk_format="raw", visibility="public", allow_duplicates=True, **fields, **properties
        )
        with path.open("rb") as stream:
            created.data = stream
            response = image.put(
                f"/images/{created.id}/file", headers={"Content-Type": "application/octet-stream"}, data=stream
            )
        if response.status_code >= 300:
            image.delete_image(created)
            raise SystemExit(f"uploading {path} as image {name}: {response.status_code} {response.text}")

    # ------------------------------------------------------------ extras

    def heat(self) -> None:
        """The domain in which Heat makes the users of its stacks."""
        identity = self.connection().identity
        domain = identity.find_domain("heat") or identity.create_domain(name="heat")
        admins = [user for user in identity.users(domain_id=domain.id) if user.name == "heat_domain_admin"]
        admin = (
            admins[0]
            if admins
            else identity.create_user(
                name="heat_domain_admin", password=self.passwords["heat_domain"], domain_id=domain.id
            )
        )
        identity.assign_domain_role_to_user(domain, admin, identity.find_role("admin"))

    def cinder(self) -> None:
        storage = self.connection().block_storage
        if not any(kind.name == "nfs" for kind in storage.types()):
            storage.create_type(name="nfs", extra_specs={"volume_backend_name": "nfs"})


def _make_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    from minicloud.files import write_file

    text = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_file(path, text.decode(), mode=0o600)


def _public_half(path: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def main(arguments: list[str]) -> None:
    seeder = Seeder(Layout.at(arguments[0]))
    parts: dict[str, Callable[[], None]] = {
        name: getattr(seeder, name) for name in ("identity", "network", "compute", "images", "heat", "cinder")
    }
    for name in arguments[1:]:
        parts[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
