"""Images that an operator has the hosts of an aggregate get before anybody launches them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.lab import Lab, Side
from harness.logs import Tail
from harness.servers import Servers
from harness.waiting import eventually
from openstack.connection import Connection

# nova-compute answers for its drivers, and says `unsupported`.
pytestmark = [pytest.mark.agent, pytest.mark.amqp]


@pytest.fixture
def aggregate(admin: Connection, side: Side, unique: Callable[[str], str]) -> Iterator[str]:
    """One with this host."""
    made = admin.compute.create_aggregate(name=unique("aggregate"))
    admin.compute.add_host_to_aggregate(made, side.host)
    yield made.name
    admin.compute.remove_host_from_aggregate(made, side.host)
    admin.compute.delete_aggregate(made)


def _read_of(log: Tail, image: str) -> int:
    """How many bytes of an image Glance has given away."""
    answers = re.findall(rf'"GET /v2/images/{image}/file" \d+ (\d+)B', log.text())
    return sum(map(int, answers))


def test_an_image_that_an_aggregate_caches_is_launched_without_reading_it_from_glance(
    lab: Lab, launch: Launcher, servers: Servers, aggregate: str, add_image: Callable[..., str], tiny: Archive
) -> None:
    data = tiny.with_file("etc/edition", b"cached\n").tar()
    image = add_image(data, "cached")
    glance = Tail(lab.log("glance"))
    command = [str(lab.state / "bin" / "openstack"), "--os-cloud", "admin", "--os-compute-api-version", "2.81"]
    lab.run([*command, "aggregate", "cache", "image", aggregate, image])
    eventually(lambda: image in lab.docker("images", "--format", "{{.Repository}}"), "the image on the host")
    # No more than what tells its layers apart is read anew: what all images of tiny have is there.
    assert _read_of(glance, image) > 0
    glance = Tail(lab.log("glance"))
    server_id = launch("cached", image=image)["id"]
    assert lab.docker("exec", f"nova-{server_id}", "cat", "/etc/edition") == "cached"
    # Whether its user may read it is asked with one byte.
    assert _read_of(glance, image) < 1000 < len(data)
