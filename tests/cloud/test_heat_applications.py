"""The applications of devstack/examples as stacks: groups that scale under load, and a WordPress with its database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.compose import Compose, page
from harness.examples import make_images, set_wordpress_up
from harness.heat import TEMPLATES, Heat, Stack
from harness.lab import Lab
from harness.load import Load
from harness.servers import Servers
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.heat, pytest.mark.full, pytest.mark.long]


@pytest.fixture
def images(lab: Lab, tenant: Tenant, admin: Connection, user: Connection) -> Iterator[Callable[[str], None]]:
    """Makes the images of an example of fig/, in Glance, for as long as the test lasts."""

    def make(example: str) -> None:
        command = Compose(lab, tenant, admin, TEMPLATES, "images")
        make_images(lab, command, example)

    yield make
    for image in user.image.images(owner=tenant.project_id):
        user.image.delete_image(image)


def _balanced(servers: Servers, stack: Stack) -> set[str]:
    """The web servers that the balancer has said it uses."""
    said = [line for line in servers.console(stack.resource("balancer")).splitlines() if "web servers: " in line]
    return set(said[-1].partition("web servers: ")[2].split()[::2]) if said else set()


def _follows(servers: Servers, stack: Stack, load: Load, names: set[str]) -> None:
    eventually(lambda: _balanced(servers, stack) == names, f"the balancer uses {names}")
    load.seen_since()
    eventually(lambda: load.seen_since() == names, f"pages of {names}", interval=3)


def test_a_balancer_follows_a_group_that_a_stack_update_scales(
    images: Callable[[str], None], heat: Heat, servers: Servers, tenant: Tenant
) -> None:
    images("balanced")
    stack = heat("balanced", network=tenant.name)
    load = Load(stack.output("address"))
    with load.going_on():
        two = set(stack.output("names"))
        assert len(two) == 2
        _follows(servers, stack, load, two)
        stack.update(servers=4)
        four = set(stack.output("names"))
        assert len(four) == 4
        assert four > two
        _follows(servers, stack, load, four)
        stack.update(servers=1)
        _follows(servers, stack, load, set(stack.output("names")))
    assert load.failures == []


def test_a_balancer_follows_a_group_that_scales_by_signals(
    images: Callable[[str], None], heat: Heat, servers: Servers, tenant: Tenant
) -> None:
    images("balanced")
    stack = heat("autoscaling", network=tenant.name, most=2)
    load = Load(stack.output("address"))
    with load.going_on():
        first = set(stack.output("names"))
        assert len(first) == 1
        _follows(servers, stack, load, first)
        stack.signal("more")
        two = eventually(lambda: names if len(names := set(stack.output("names"))) == 2 else None, "a second server")
        _follows(servers, stack, load, two)
        stack.signal("fewer")
        one = eventually(lambda: names if len(names := set(stack.output("names"))) == 1 else None, "one server")
        _follows(servers, stack, load, one)
    assert load.failures == []


def test_wordpress_writes_into_its_database_which_survives_a_rebuild(
    images: Callable[[str], None], heat: Heat, servers: Servers, tenant: Tenant, unique: Callable[[str], str]
) -> None:
    images("wordpress")
    secret = f'it\'s "{unique("secret")}"'
    stack = heat("wordpress", network=tenant.name, db_password=secret, remove_data="true")
    address = stack.output("address")
    eventually(lambda: "WordPress" in page(f"{address}/wp-admin/install.php"), "the page that sets WordPress up")
    title = unique("diary")
    set_wordpress_up(address, title)
    assert title in page(address)

    database = servers.get(stack.resource("db"))
    servers.action(database["id"], "rebuild", {"imageRef": database["image"]["id"]})
    servers.wait(database["id"], "ACTIVE")
    # The container is another one: what is left is the volume.
    eventually(lambda: title in page(address), "the page out of the database")


def test_the_templates_are_all_tested() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_heat*.py"))
    assert [path.stem for path in TEMPLATES.glob("*.yaml") if f'("{path.stem}"' not in tests] == []
