"""DockerInc::Docker::Container: Heat makes a container of a Docker that listens in a server of this cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import images
from harness.archives import Archive
from harness.compose import Compose
from harness.examples import make_images
from harness.heat import TEMPLATES, Heat
from harness.lab import Lab
from harness.tenant import Tenant
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.heat, pytest.mark.full, pytest.mark.long]


@pytest.fixture
def docker_flavor(admin: Connection, unique: Callable[[str], str]) -> Iterator[str]:
    """A flavor whose servers may have a Docker of their own."""
    made = admin.compute.create_flavor(name=unique("docker"), vcpus=1, ram=1024, disk=5)
    specs = {"trait:CUSTOM_HV_DOCKER": "required", "docker:cap_add": "SYS_ADMIN,NET_ADMIN,MKNOD"}
    admin.compute.create_flavor_extra_specs(made, specs)
    yield made.name
    admin.compute.delete_flavor(made)


@pytest.fixture
def docker_image(
    lab: Lab, tenant: Tenant, admin: Connection, user: Connection, unique: Callable[[str], str], tmp_path: Path
) -> Iterator[str]:
    """The image docker-host, which brings the image `tiny` along: there is no registry to pull from."""
    command = Compose(lab, tenant, admin, TEMPLATES, "images")
    make_images(lab, command, "../heat/docker", "--archives", str(tmp_path))
    archive = Archive.read(tmp_path / "docker-host.tar").with_file("images/tiny.tar", lab.tiny_archive.read_bytes())
    image = images.upload(user, unique("docker-host"), archive.tar(), img_hv_type="docker")
    yield image
    user.image.delete_image(image)


@pytest.fixture
def network(
    lab: Lab, tenant: Tenant, user: Connection, admin: Connection, unique: Callable[[str], str]
) -> Iterator[str]:
    """A network with IPv4 alone, to whose servers the host, where Heat's engine is, has a way through the router."""
    neutron, name = user.network, unique("docker")
    made = neutron.create_network(name=name)
    # The first two numbers are no other test's, the third is the worker's.
    subnet = neutron.create_subnet(
        network_id=made.id, ip_version=4, cidr=f"10.231.{tenant.subnet.cidr.split('.')[1]}.0/24"
    )
    neutron.add_interface_to_router(tenant.router, subnet_id=subnet.id)
    gateway = admin.network.get_router(tenant.router.id).external_gateway_info["external_fixed_ips"][0]["ip_address"]
    lab.run(["ip", "route", "add", subnet.cidr, "via", gateway])
    yield name
    lab.run(["ip", "route", "del", subnet.cidr, "via", gateway])
    neutron.remove_interface_from_router(tenant.router, subnet_id=subnet.id)
    neutron.delete_network(made)


def test_a_template_has_a_server_and_a_container_of_the_docker_in_it(
    network: str, docker_flavor: str, docker_image: str, heat: Heat, tenant: Tenant, lab: Lab
) -> None:
    # `heat` comes after the way to the servers: it takes the container away through it.
    stack = heat("docker", network=network, key_name=tenant.name, flavor=docker_flavor, image=docker_image)
    server = f"nova-{stack.resource('my_instance')}"

    def inside(*words: str) -> str:
        return lab.docker("exec", server, "docker", "--host=tcp://127.0.0.1:2375", *words)

    container = stack.resource("my_docker_container")
    assert inside("ps", "--no-trunc", "--format", "{{.ID}} {{.Image}}") == f"{container} tiny"
    assert stack.output("container") == inside("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container)
    assert "tiny: starting" in stack.output("log")
    stack.act("check")
    inside("kill", container)
    assert "exited" in stack.act("check", "FAILED")
    inside("start", container)
    # Heat suspends nothing whose check has failed.
    stack.act("check")

    # The container is stopped in a server that runs, and started in one that runs again.
    stack.act("suspend")
    stack.act("resume")
    assert inside("ps", "--no-trunc", "--format", "{{.ID}}") == container
