"""The examples of devstack/examples/fig, made from Debian's packages and brought up as their README says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from harness.compose import Compose, page
from harness.examples import EXAMPLES, make_images, set_wordpress_up
from harness.lab import Lab
from harness.load import Load
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.long, pytest.mark.full]


@pytest.fixture
def example(
    lab: Lab, tenant: Tenant, admin: Connection, user: Connection, unique: Callable[[str], str]
) -> Iterator[Callable[[str], Compose]]:
    """The command in the directory of an example, whose images are in Glance; nothing is left of either."""
    made: list[Compose] = []

    def ready(name: str) -> Compose:
        command = Compose(lab, tenant, admin, EXAMPLES / "fig" / name, unique(name).lower())
        made.append(command)
        make_images(lab, command, name)
        return command

    yield ready
    for command in made:
        command("down", "--volumes")
    for image in user.image.images(owner=tenant.project_id):
        user.image.delete_image(image)


def test_a_balancer_follows_its_web_servers_and_loses_no_request(example: Callable[[str], Compose], lab: Lab) -> None:
    compose = example("balanced")
    compose("up")
    # From here on no request may fail.
    load = Load(compose("port", "lb", "80").strip())
    with load.going_on():
        host = f"{compose.project}-web-{{}}".format
        eventually(lambda: load.seen_since() == {host(1)}, "the one web server's page")
        compose("scale", "web==5")
        five = {host(number) for number in range(1, 6)}
        eventually(lambda: load.seen_since() == five, "pages of five web servers", interval=3)

        lab.docker("kill", f"nova-{compose.ps()['web-2']['ID']}")
        eventually(lambda: load.seen_since() == five - {host(2)}, "pages of those that live", interval=3)
        eventually(lambda: host(2) not in _balanced(compose), "the balancer's word that it goes without the dead one")

        compose("scale", "web==2")
        eventually(lambda: load.seen_since() == {host(1), host(2)}, "pages of the two that are left", interval=3)
        eventually(lambda: _balanced(compose) == {host(1), host(2)}, "the balancer's word that two are left")
    assert load.failures == []


def _balanced(compose: Compose) -> set[str]:
    """The web servers that the balancer has said it uses."""
    said = [line for line in compose("logs", "lb").splitlines() if "web servers: " in line]
    return set(said[-1].partition("web servers: ")[2].split()[::2])


def test_wordpress_writes_into_its_database_which_survives_both_containers(
    example: Callable[[str], Compose], unique: Callable[[str], str]
) -> None:
    compose = example("wordpress")
    compose.set(DB_PASSWORD=f"it's {unique('secret')}")
    compose("up")
    address = compose("port", "web", "80").strip()
    eventually(lambda: "WordPress" in page(f"{address}/wp-admin/install.php"), "the page that sets WordPress up")
    title = unique("diary")
    set_wordpress_up(address, title)
    assert title in page(address)

    before = compose.ps()
    # Both containers are made anew: what is left is the volume.
    compose("up", "--force-recreate")
    assert {name: each["ID"] for name, each in compose.ps().items()} == {
        name: each["ID"] for name, each in before.items()
    }
    eventually(lambda: title in page(address), "the page out of the database")
