"""The dashboard, as a user sees it: one story from the login to the deleted server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.archives import Archive
from harness.dashboard import CHROMIUM, Dashboard, browser
from harness.lab import Lab, Side
from harness.servers import Servers
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

SERVICE = """#container-config
entrypoint: [sh, -c, 'echo "$GREETING with $PASSWORD as $(id -u)"; exec sleep 9999']
environment: {GREETING: good day}
"""
"""What is pasted into the launch dialog."""

DATABASE = """#container-config
entrypoint: [sh, -c, 'echo "$SECRET" >> /data/rows; exec httpd -f -p 3306 -h /data']
environment: {SECRET: s3cret}
volumes: ["rows:/data"]
"""
WEB = """sh -c 'until wget -qO /tmp/rows "http://$DB_PORT_3306_TCP_ADDR:3306/rows"; do sleep 1; done;\
 echo "read $(cat /tmp/rows)"; exec sleep 9999'"""

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts" / "horizon"

pytestmark = pytest.mark.long


@pytest.fixture
def dashboard(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Dashboard]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"no {CHROMIUM}; install it with: apt-get install chromium")
    pictures = ARTIFACTS / request.node.name
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    with browser() as started:
        page = started.new_page(viewport={"width": 1400, "height": 1000})
        shown = Dashboard(page, "http://127.0.0.1:8080", pictures)
        yield shown
        shown.picture("last")


@pytest.fixture
def name(unique: Callable[[str], str], servers: Servers, user: Connection) -> Iterator[str]:
    """A name for a server and its snapshot, which are taken away also when the story breaks off."""
    chosen = unique("from-horizon")
    yield chosen
    for server in user.compute.servers(name=chosen):
        servers.delete(server.id)
        servers.wait_gone(server.id)
    for image in user.image.images(name=f"{chosen}-snapshot"):
        user.image.delete_image(image)


@pytest.fixture
def pair(unique: Callable[[str], str], servers: Servers, user: Connection) -> Iterator[tuple[str, str]]:
    """Names for two servers, which are taken away."""
    names = unique("database"), unique("web")
    yield names
    for name in names:
        for server in user.compute.servers(name=name):
            servers.delete(server.id)
            servers.wait_gone(server.id)


def test_the_life_of_a_server(
    dashboard: Dashboard, name: str, side: Side, tenant: Tenant, key_name: str, user: Connection, servers: Servers
) -> None:
    dashboard.log_in(tenant.name, tenant.password)
    descriptions = dashboard.launch(
        name,
        side.image,
        side.flavor,
        tenant.network.name,
        key_name,
        user_data=SERVICE,
        listed={"docker:init": "true", "docker:user": "1000"} if side.real else {},
        custom={"docker:env:PASSWORD": "s3cret"},
    )
    if side.real:
        assert "who the command runs as" in descriptions["docker:user"]
    dashboard.wait_status(name, "Active")
    [server] = user.compute.servers(name=name)
    for address in servers.addresses(server.id):
        assert address in dashboard.row(name).inner_text()

    said = "good day with s3cret as 1000"
    if side.real:
        servers.wait_console(server.id, said)
    log = dashboard.console_log(name)
    if side.real:
        assert said in log
        # A shell of the server's own, because its command has no terminal.
        dashboard.serial_console(name, "echo [$((40 + 2))]", "[42]")
    dashboard.open_instances()
    dashboard.act(name, "soft_reboot")
    eventually(lambda: _actions(servers, server.id, "reboot") == ["Success"], "the reboot done")
    dashboard.open_instances()
    dashboard.wait_status(name, "Active")

    dashboard.snapshot(name, f"{name}-snapshot")
    # Nova's fake driver takes no pictures: its snapshots wait for ever.
    dashboard.wait_image(f"{name}-snapshot", "Active" if side.real else "Queued")

    servers.wait_idle(server.id)
    dashboard.open_instances()
    dashboard.act(name, "delete")
    servers.wait_gone(server.id)
    dashboard.open_instances()
    assert dashboard.row(name).count() == 0


@pytest.mark.agent
@pytest.mark.amqp
@pytest.mark.full
def test_what_the_menu_of_a_server_offers(
    dashboard: Dashboard, name: str, side: Side, tenant: Tenant, user: Connection, servers: Servers
) -> None:
    image = user.image.find_image(side.image, ignore_missing=False).id
    small = user.compute.find_flavor("c1.small", ignore_missing=False).id
    servers.create(name)
    [server] = user.compute.servers(name=name)
    servers.wait(server.id, "ACTIVE")
    dashboard.log_in(tenant.name, tenant.password)

    def then(status: str) -> None:
        servers.wait_idle(server.id)
        dashboard.open_instances()
        dashboard.wait_status(name, status)

    then("Active")
    dashboard.fill_in(name, "rescue", image=image)
    then("Rescue")
    dashboard.press(name, "unrescue")
    servers.wait(server.id, "ACTIVE")
    then("Active")
    dashboard.press(name, "suspend")
    servers.wait(server.id, "SUSPENDED")
    then("Suspended")
    dashboard.press(name, "suspend")
    servers.wait(server.id, "ACTIVE")
    then("Active")
    dashboard.press(name, "shelve")
    servers.wait(server.id, "SHELVED_OFFLOADED")
    then("Shelved Offloaded")
    dashboard.press(name, "shelve")
    servers.wait(server.id, "ACTIVE")
    then("Active")
    dashboard.fill_in(name, "rebuild", image=image)
    eventually(lambda: _actions(servers, server.id, "rebuild") == ["Success"], "the rebuild done")
    then("Active")
    dashboard.fill_in(name, "resize", flavor=small)
    servers.wait(server.id, "VERIFY_RESIZE")
    then("Confirm or Revert Resize/Migrate")
    dashboard.press(name, "confirm")
    servers.wait(server.id, "ACTIVE")
    assert servers.get(server.id)["flavor"]["original_name"] == "c1.small"
    then("Active")
    dashboard.fill_in(name, "resize", flavor=user.compute.find_flavor("c1.tiny", ignore_missing=False).id)
    servers.wait(server.id, "VERIFY_RESIZE")
    then("Confirm or Revert Resize/Migrate")
    dashboard.press(name, "revert")
    servers.wait(server.id, "ACTIVE")
    assert servers.get(server.id)["flavor"]["original_name"] == "c1.small"
    then("Active")
    # The dashboard has no backup, and nothing that brings a deleted server back.
    offered = dashboard.offers(name)
    assert ("resize" in offered, offered & {"backup", "restore"}) == (True, set())


@pytest.mark.agent
@pytest.mark.both_doors
@pytest.mark.full
def test_an_application_of_two_servers(
    dashboard: Dashboard,
    side: Side,
    tenant: Tenant,
    key_name: str,
    user: Connection,
    servers: Servers,
    add_image: Callable[..., str],
    tiny: Archive,
    unique: Callable[[str], str],
    pair: tuple[str, str],
) -> None:
    database, web = pair
    image = add_image(tiny.configured(ExposedPorts={"3306/tcp": {}}).tar(), "database")
    image_name = user.image.get_image(image).name
    network = tenant.network.name
    dashboard.log_in(tenant.name, tenant.password)
    removed = {"docker:remove_volumes": "true"}
    dashboard.launch(database, image_name, side.flavor, network, key_name, user_data=DATABASE, listed=removed)
    dashboard.wait_status(database, "Active")
    listed, linked = {"docker:entrypoint": WEB}, {"docker:link:db": database}
    dashboard.launch(web, side.image, side.flavor, network, key_name, listed=listed, custom=linked)
    dashboard.wait_status(web, "Active")
    [server] = user.compute.servers(name=web)
    servers.wait_console(server.id, "read s3cret")
    assert "read s3cret" in dashboard.console_log(web)


@pytest.mark.agent
@pytest.mark.full
def test_the_forms_of_flavors_and_images_list_the_keys_with_their_descriptions(
    dashboard: Dashboard,
    lab: Lab,
    side: Side,
    admin: Connection,
    add_image: Callable[..., str],
    tiny: Archive,
    unique: Callable[[str], str],
) -> None:
    image = add_image(tiny.tar(), unique("described"))
    admin.image.update_image(image, visibility="public")
    usual = admin.compute.find_flavor(side.flavor, ignore_missing=False)
    name = unique("described")
    flavor = admin.compute.create_flavor(name=name, vcpus=usual.vcpus, ram=usual.ram, disk=usual.disk)
    try:
        passwords = json.loads((lab.state / "passwords.json").read_text())
        dashboard.log_in("admin", passwords["admin"])
        group = "Container (defaults and limits of the flavor)"
        values = {"docker:cap_add": "NET_ADMIN", "docker:pids_limit": "99"}
        descriptions = dashboard.change_metadata("admin/flavors", name, group, values)
        assert "more capabilities than the usual ones" in descriptions["docker:cap_add"]
        specs = eventually(lambda: admin.compute.fetch_flavor_extra_specs(flavor).extra_specs, "the extra specs")
        assert values.items() <= specs.items()
        image_name, group = admin.image.get_image(image).name, "Container (defaults of the image)"
        descriptions = dashboard.change_metadata("admin/images", image_name, group, {"docker_user": "1000"})
        assert "who the command runs as" in descriptions["docker_user"]
        eventually(lambda: admin.image.get_image(image).properties.get("docker_user") == "1000", "the property")
    finally:
        admin.compute.delete_flavor(flavor)


def _actions(servers: Servers, server_id: str, action: str) -> list[str]:
    """Results of all the actions of one kind: an action that has no message went well."""
    found = servers.request("GET", f"/servers/{server_id}/os-instance-actions")["instanceActions"]
    server = servers.get(server_id)
    idle = server["OS-EXT-STS:task_state"] is None
    return [entry["message"] or "Success" for entry in found if entry["action"] == action and idle]
