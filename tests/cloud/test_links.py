"""Links: other servers of the project in a server's hosts file and environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.lab import Lab
from harness.servers import Json, Servers
from harness.waiting import eventually

pytestmark = pytest.mark.agent

AddImage = Callable[..., str]

SAY = "sh -c 'cat /etc/hosts; env | sort; echo said; exec sleep 9999'"


@pytest.fixture
def named(servers: Servers) -> Iterator[Launcher]:
    """Launches servers of names that the test knows beforehand."""
    launcher = Launcher(servers, str)
    yield launcher
    launcher.take_away()


@pytest.fixture
def theirs(admin_servers: Servers, unique: Callable[[str], str]) -> Iterator[str]:
    """The name of a server of another project."""
    launcher = Launcher(admin_servers, unique)
    server = launcher("theirs")
    yield str(server["name"])
    launcher.take_away()


def _database(tiny: Archive) -> bytes:
    config = {**tiny.running("sleep", "9999").config}
    config["config"] = {**config["config"], "ExposedPorts": {"3306/tcp": {}}}
    return Archive(tiny.layers, config).tar()


@pytest.mark.full
@pytest.mark.both_doors
def test_a_server_finds_others_of_its_project_by_name_id_and_tag_and_follows_them(
    lab: Lab,
    add_image: AddImage,
    launch: Launcher,
    named: Launcher,
    servers: Servers,
    private_network: list[Json],
    theirs: str,
    tiny: Archive,
    unique: Callable[[str], str],
) -> None:
    image, name, tag = add_image(_database(tiny)), unique("db"), unique("tag")

    def database() -> tuple[str, str]:
        # It is linked to what is linked to it, which may not be there yet.
        back = {"docker:link:back": servers.get(web)["name"], "docker:link_wait": "optional"}
        server = named(name, image=image, networks=private_network, tags=[tag], metadata=back)
        return server["id"], servers.addresses(server["id"])[0]

    # It is launched before what it is linked to.
    links = {"docker:link:store": name, "docker:link:all": f"@{tag}", "docker:link_wait": "5m"}
    metadata = {**links, "docker:entrypoint": SAY, "docker:env:STORE_NAME": "mine"}
    web = launch.request("web", networks=private_network, metadata=metadata)
    first, address = database()
    servers.wait(web, "ACTIVE")
    log = servers.wait_console(web, "said")
    assert f"{address}\tall {name}\n" in log
    assert f"{address}\tstore {name}\n" in log
    for said in [
        "STORE_NAME=mine",
        f"STORE_PORT=tcp://{address}:3306",
        f"STORE_PORT_3306_TCP_ADDR={address}",
        "ALL_PORT_3306_TCP_PROTO=tcp",
    ]:
        assert f"{said}\n" in log

    # By its id, in user data; and a server of the same project that is not there is no trouble where that is said.
    service = (
        f'#container-config\nentrypoint: "{SAY}"\nlinks: ["{first}:byid", "{theirs}:other"]\nlink_wait: optional\n'
    )
    second = launch("second", networks=private_network, user_data=service)["id"]
    log = servers.wait_console(second, "said")
    assert f"{address}\tbyid {name}\n" in log
    assert "other" not in log and "OTHER" not in log, "another project's server is seen"

    refused = launch.failing("blind", metadata={"docker:link:db": theirs})["fault"]["message"]
    assert f'docker:link:db: the project has no other server with the name "{theirs}"' in refused

    def hosts() -> str:
        if lab.door != "amqp":
            servers.action(web, "reboot", {"type": "HARD"})
            servers.wait_idle(web)
        return lab.docker("exec", f"nova-{web}", "cat", "/etc/hosts")

    servers.delete(first)
    servers.wait_gone(first)
    eventually(lambda: "store" not in hosts(), "a hosts file without the server that has gone")
    again, address = database()
    eventually(lambda: f"{address}\tstore {name}\n" in hosts(), "a hosts file with the server that came again")
    back = f"{servers.addresses(web)[0]}\tback {servers.get(web)['name']}\n"
    assert back in lab.docker("exec", f"nova-{again}", "cat", "/etc/hosts")
