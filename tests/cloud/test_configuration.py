"""What image, flavor and user say of one server: environment, command, limits and more, as the process sees them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from conftest import Launcher
from harness import logs
from harness.archives import Archive
from harness.lab import AGENT_PROGRAM, Lab, Side
from harness.servers import Refused, Servers
from openstack.connection import Connection

pytestmark = pytest.mark.agent

AddImage = Callable[..., str]

SAY = """sh -c '
echo "$GREETING/$COLOUR in $(pwd) as $(id -u):$(id -g)"
grep -q "^[^ ]* / [^ ]* ro" /proc/mounts && echo "a sealed root"
exec sleep 9999'"""

SERVICE = """#container-config
entrypoint:
  - sh
  - -c
  - |
    [ -e /began ] || { touch /began; echo "a bad end"; exit 3; }
    echo "$GREETING from $PLACE in $COLOUR"
    echo "open files $(ulimit -Sn) of $(ulimit -Hn)"
    echo "queue $(cat /proc/sys/net/core/somaxconn), score $(cat /proc/self/oom_score_adj)"
    grep "no-such-name" /etc/hosts
    echo "$(hostname) with $FROM_A_LINE"
    grep -o "[^ ]*.shop.example" /etc/hosts
    grep nameserver /etc/resolv.conf | head -n 1
    echo "secret of $(wc -c </run/secrets/password) bytes, $(ls -n /run/secrets/password | cut -c 1-10)"
    cat /etc/app.conf
    ping -c 1 127.0.0.1 | grep loss
    exec sleep 9999
environment: {GREETING: good day}
env_file: |
  # The environment wins.
  GREETING=lost
  FROM_A_LINE='a line'
hostname: till-1
ulimits: {nofile: {soft: 100, hard: 200}}
sysctls: [net.core.somaxconn=77]
extra_hosts: ["no-such-name:192.0.2.7"]
oom_score_adj: 321
restart: on-failure
stop_grace_period: 1s
domainname: shop.example
dns: [192.0.2.53]
secrets: {password: kept-out-of-logs}
configs: {app: {content: "configured = yes", target: /etc/app.conf}}
"""


@pytest.fixture
def flavor(admin: Connection, side: Side, unique: Callable[[str], str]) -> Iterator[str]:
    """The usual flavor with more to say."""
    usual = admin.compute.find_flavor(side.flavor, ignore_missing=False)
    specs = admin.compute.fetch_flavor_extra_specs(usual).extra_specs
    name = unique("speaking")
    made = admin.compute.create_flavor(name=name, vcpus=usual.vcpus, ram=usual.ram, disk=usual.disk)
    said = {"docker:env:PLACE": "the flavor", "docker:env:COLOUR": "grey", "docker:pids_limit": "50"}
    admin.compute.create_flavor_extra_specs(made, {**specs, **said})
    yield name
    admin.compute.delete_flavor(made)


@pytest.mark.both_doors
def test_a_service_in_user_data_wins_over_metadata_and_metadata_over_the_flavor(
    lab: Lab, launch: Launcher, servers: Servers, flavor: str
) -> None:
    metadata = {"docker:env:COLOUR": "green", "docker:env:GREETING": "nothing", "docker:env:HIDDEN": "kept-out-of-logs"}
    server = launch("composed", flavor=flavor, metadata=metadata, user_data=SERVICE)
    for said in [
        "a bad end",
        "good day from the flavor in green",
        "open files 100 of 200",
        "queue 77, score 321",
        "192.0.2.7\tno-such-name",
        "till-1 with a line",
        "\ttill-1.shop.example\nnameserver 192.0.2.53",
        "secret of 16 bytes, -r--------",
        "configured = yes",
        ", 0% packet loss",
    ]:
        servers.wait_console(server["id"], said)
    assert servers.get(server["id"])["status"] == "ACTIVE"
    log = logs.whole(lab.log(AGENT_PROGRAM))
    assert server["id"] in log
    assert "kept-out-of-logs" not in log


def test_metadata_configures_a_server_and_wins_over_the_images_properties(
    add_image: AddImage, launch: Launcher, servers: Servers, tiny: Archive
) -> None:
    properties = {"docker_env:GREETING": "the image's", "docker_env:COLOUR": "green", "docker_user": "7:7"}
    image = add_image(tiny.running("/no/such/command").tar(), **properties)
    metadata = {
        "docker:env:GREETING": "good day",
        "docker:command": SAY,
        "docker:working_dir": "/srv/made",
        "docker:user": "1000:1001",
        "docker:read_only": "true",
    }
    server = launch("configured", image=image, metadata=metadata)
    servers.wait_console(server["id"], "good day/green in /srv/made as 1000:1001")
    servers.wait_console(server["id"], "a sealed root")


def test_what_only_a_flavor_may_say_and_what_it_limits_is_refused(launch: Launcher, flavor: str) -> None:
    service = "#container-config\npids_limit: 51\ncap_add: [ALL]\n"
    message = launch.failing("greedy", flavor=flavor, user_data=service)["fault"]["message"]
    assert "user_data cap_add: only a flavor can set it" in message
    assert "pids_limit: it is more than the flavor's" in message


def test_a_wrong_key_or_value_of_a_flavor_is_refused_when_it_is_set(
    admin: Connection, admin_servers: Servers, flavor: str
) -> None:
    made = admin.compute.find_flavor(flavor, ignore_missing=False).id

    def say(**specs: str) -> None:
        said = {f"docker:{key}": value for key, value in specs.items()}
        admin_servers.request("POST", f"/flavors/{made}/os-extra_specs", {"extra_specs": said}, "2.86")

    say(pids_limit="40", read_only="true", cap_add="NET_ADMIN")
    for key, value, words in [
        ("pids_limit", "abc", "docker:pids_limit has a wrong value (allowed: a number of at least 1; at most"),
        ("pid_limit", "40", "extra spec 'docker:pid_limit' does not appear to be a valid extra spec"),
        ("remove_volumes", "true", "docker:remove_volumes: only server metadata can set it"),
    ]:
        with pytest.raises(Refused, match=re.escape(words)) as refused:
            say(**{key: value})
        assert refused.value.status == 400
    said = admin_servers.request("GET", f"/flavors/{made}/os-extra_specs")["extra_specs"]
    assert (said["docker:pids_limit"], said["docker:cap_add"]) == ("40", "NET_ADMIN")


def test_glance_tells_everybody_what_a_container_can_be_told(user: Connection) -> None:
    for resource, key in [
        ("OS::Glance::Image", "docker_user"),
        ("OS::Nova::Flavor", "docker:cap_add"),
        ("OS::Nova::Server", "docker:env:TZ"),
    ]:
        listed = user.image.get("/metadefs/namespaces", params={"resource_types": resource}).json()["namespaces"]
        [name] = [entry["namespace"] for entry in listed if entry["namespace"].startswith("NovaDocker::")]
        namespace = user.image.get(f"/metadefs/namespaces/{name}", params={"resource_type": resource}).json()
        assert namespace["properties"][key]["description"]


@pytest.mark.both_doors
def test_wrong_keys_and_values_are_all_told_before_anything_is_made(launch: Launcher) -> None:
    metadata = {"docker:usr": "s3cret", "docker:tty": "s3cret"}
    server = launch.failing("mistaken", metadata=metadata)
    message = server["fault"]["message"]
    assert "docker:usr: there is no such key" in message
    assert "docker:tty: it is neither true nor false" in message
    assert "s3cret" not in str(server["fault"])
