"""What `up` and `down` make of a cloud, whatever they find there."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from fake_cloud import FakeCloud
from nova_docker_compose.cloud import Api
from nova_docker_compose.down import down
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
from nova_docker_compose.slots import mac_address
from nova_docker_compose.up import Options, Up

Read = Callable[[str], Project]
Twice = Callable[[Callable[[], object], int], None]

TWO = """
services:
  web: {image: 'web:v1', links: ['db:mysql'], ports: [80], scale: 2, command: serve}
  db: {image: db, volumes: ['data:/d']}
volumes: {data: }
"""
ALL_OF_TWO = [
    "floatingips",
    "floatingips",
    "networks p_default",
    "p-db-1",
    "p-web-1",
    "p-web-2",
    "ports ",
    "ports p-db-1",
    "ports p-web-1",
    "ports p-web-2",
    "routers p",
    "security-groups p",
    "security-groups p-web",
    "subnets p_default",
]


def up(cloud: FakeCloud, project: Project, **options: Any) -> list[str]:
    """Runs it; returns what it told."""
    told: list[str] = []
    Up(Api(cloud), project, Options(**options), told.append).run()
    return told


def left(cloud: FakeCloud) -> list[str]:
    """What there is, without the words that say who made a port and the ids of floating IPs."""
    return sorted(_short(each) for each in cloud.left())


def _short(thing: str) -> str:
    kind, _, name = thing.partition(" ")
    if kind == "floatingips":
        return kind
    return f"{kind} {name.partition(' ')[0]}" if kind == "ports" else thing


def states(cloud: FakeCloud) -> dict[str, str]:
    return {each["name"]: each["status"] for each in cloud.servers.values()}


def identities(cloud: FakeCloud) -> dict[str, str]:
    return {each["name"]: each["id"] for each in cloud.servers.values()}


def configuration(cloud: FakeCloud, name: str) -> Any:
    server = next(each for each in cloud.servers.values() if each["name"] == name)
    return yaml.safe_load(base64.b64decode(server["user_data"]))


def test_up_makes_everything_in_order_and_says_so(cloud: FakeCloud, project_of: Read) -> None:
    told = up(cloud, project_of(TWO))
    assert left(cloud) == ALL_OF_TWO
    assert set(states(cloud).values()) == {"ACTIVE"}
    assert told.index("p-db-1: running") < told.index("p-web-1: creating")
    assert any(line.startswith("p-web-1: reached at 172.24.4.") for line in told)


def test_up_returns_when_the_floating_ips_can_be_reached(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    assert [each["status"] for each in cloud.things["floatingips"].values()] == ["ACTIVE", "ACTIVE"]


def test_a_floating_ip_that_neutron_does_not_vouch_for_is_a_warning(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "_reached", dict)
    assert any(
        line.startswith("warning: Neutron does not say yet that 172.24.4.") for line in up(cloud, project_of(TWO))
    )


def test_a_server_knows_the_others_of_its_network_by_their_names(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    addresses = {
        port["name"].partition(" ")[0]: port["fixed_ips"][0]["ip_address"] for port in cloud.things["ports"].values()
    }
    hosts = configuration(cloud, "p-web-1")["extra_hosts"]
    assert hosts == {"db": [addresses["p-db-1"]], "mysql": [addresses["p-db-1"]]}
    assert configuration(cloud, "p-db-1")["extra_hosts"] == {"web": [addresses["p-web-1"], addresses["p-web-2"]]}


def test_the_group_of_a_service_is_open_for_its_ports_and_the_project_s_within(
    cloud: FakeCloud, project_of: Read
) -> None:
    up(cloud, project_of(TWO))
    groups = {each["name"]: each for each in cloud.things["security-groups"].values()}
    web = [
        (rule["ethertype"], rule["protocol"], rule["port_range_min"])
        for rule in groups["p-web"]["security_group_rules"]
    ]
    assert sorted(web) == [("IPv4", "tcp", 80), ("IPv6", "tcp", 80)]
    inside = groups["p"]["security_group_rules"]
    assert {rule["remote_group_id"] for rule in inside} == {groups["p"]["id"]}
    up(cloud, project_of(TWO.replace("[80]", "[443]")))
    assert {rule["port_range_min"] for rule in groups["p-web"]["security_group_rules"]} == {443}


def test_up_again_changes_nothing(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    before = identities(cloud)
    cloud.requests.clear()
    up(cloud, project_of(TWO))
    assert [each for each in cloud.requests if not each.startswith("GET")] == []
    assert identities(cloud) == before


def test_a_change_rebuilds_only_its_service_in_its_place(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    before = identities(cloud)
    told = up(cloud, project_of(TWO.replace("serve", "serve --fast")))
    assert identities(cloud) == before
    assert [line for line in told if "rebuild" in line] == ["p-web-1: rebuilding", "p-web-2: rebuilding"]
    assert configuration(cloud, "p-web-2")["command"] == ["serve", "--fast"]
    assert [line for line in up(cloud, project_of(TWO.replace("serve", "serve --fast"))) if "build" in line] == []


def test_another_flavor_makes_servers_anew_with_their_addresses(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    before, ports = identities(cloud), {each["id"] for each in cloud.things["ports"].values()}
    up(cloud, project_of(TWO.replace("command: serve", "command: serve, mem_limit: 100m")))
    assert {name for name, each in identities(cloud).items() if before[name] == each} == {"p-db-1"}
    assert {each["id"] for each in cloud.things["ports"].values()} == ports
    assert {each["flavorRef"] for each in cloud.servers.values()} == {"c1.small", "c1.tiny"}


def test_what_has_changed_can_be_left_alone_and_what_has_not_be_rebuilt(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    assert not any("rebuild" in line for line in up(cloud, project_of(TWO.replace("serve", "x")), no_recreate=True))
    assert "p-db-1: rebuilding" in up(cloud, project_of(TWO), force_recreate=True)


def test_scaling_down_removes_the_highest_number_first_with_its_port_and_address(
    cloud: FakeCloud, project_of: Read
) -> None:
    project = project_of(TWO)
    up(cloud, project, scale={"web": 4})
    told = up(cloud, project, services=["web"], scale={"web": 1}, no_recreate=True)
    assert [line for line in told if line.endswith("removing")] == [f"p-web-{number}: removing" for number in (4, 3, 2)]
    assert told.index("p-web-4: stopped") < told.index("p-web-4: removing")
    assert sorted(states(cloud)) == ["p-db-1", "p-web-1"]
    assert len(cloud.things["floatingips"]) == 1
    up(cloud, project, services=["web"], scale={"web": 0})
    assert sorted(states(cloud)) == ["p-db-1"]


def test_a_server_that_is_made_later_knows_the_services_that_are_there(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    up(cloud, project_of(TWO), services=["web"], scale={"web": 3}, no_recreate=True)
    assert configuration(cloud, "p-web-3")["extra_hosts"] == configuration(cloud, "p-web-1")["extra_hosts"]


def test_a_server_in_a_state_that_compose_does_not_make_is_left_to_its_user(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    next(each for each in cloud.servers.values() if each["name"] == "p-db-1")["status"] = "SUSPENDED"
    with pytest.raises(ComposeError, match="p-db-1: it is SUSPENDED; bring it to ACTIVE first"):
        up(cloud, project_of(TWO))


def test_what_failed_stopped_or_was_deleted_is_repaired(cloud: FakeCloud, project_of: Read) -> None:
    project = project_of(TWO)
    cloud.faults["p-web-2"] = "no such command"
    with pytest.raises(ComposeError, match="p-web-2: it is ERROR: no such command"):
        up(cloud, project)
    assert states(cloud) == {"p-db-1": "ACTIVE", "p-web-1": "ACTIVE", "p-web-2": "ERROR"}
    cloud.faults.clear()
    servers = {each["name"]: each for each in cloud.servers.values()}
    servers["p-web-1"]["status"] = "SHUTOFF"
    del cloud.servers[servers["p-db-1"]["id"]]
    next(p for p in cloud.things["ports"].values() if p["name"].startswith("p-db-1"))["device_id"] = ""
    up(cloud, project)
    assert left(cloud) == ALL_OF_TWO
    assert set(states(cloud).values()) == {"ACTIVE"}


def test_a_dependent_of_a_failed_service_is_not_made(cloud: FakeCloud, project_of: Read) -> None:
    cloud.faults["p-db-1"] = "it ended"
    with pytest.raises(ComposeError, match="p-db-1: it is ERROR: it ended"):
        up(cloud, project_of(TWO))
    assert list(states(cloud)) == ["p-db-1"]


def test_nothing_is_made_when_an_image_or_a_flavor_is_missing(cloud: FakeCloud, project_of: Read) -> None:
    with pytest.raises(ComposeError) as caught:
        up(cloud, project_of("services: {a: {image: nope}, b: {image: tiny, mem_limit: 9g}, c: {image: tiny}}"))
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["services.a", "services.b"]
    assert left(cloud) == []
    assert all(each.startswith("GET") for each in cloud.requests)


def test_servers_of_services_that_are_gone_are_named_and_removed_when_asked(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    one = project_of("services: {db: {image: db, volumes: ['data:/d']}}\nvolumes: {data: }")
    assert "warning: no service of the files has p-web-1, p-web-2; --remove-orphans removes them" in up(cloud, one)
    up(cloud, one, remove_orphans=True)
    assert list(states(cloud)) == ["p-db-1"]


def test_servers_of_a_service_whose_profile_is_off_are_left_alone(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of("services: {a: {image: tiny}, b: {image: tiny}}"))
    told = up(cloud, project_of("services: {a: {image: tiny}, b: {image: tiny, profiles: [x]}}"), remove_orphans=True)
    assert sorted(states(cloud)) == ["p-a-1", "p-b-1"]
    assert not any("orphans" in line for line in told)


def test_networks_are_made_with_their_ranges_and_external_ones_are_used(cloud: FakeCloud, project_of: Read) -> None:
    own = cloud._add("networks", {"name": "shared", "description": ""})
    up(
        cloud,
        project_of(
            "services: {a: {image: tiny, networks: {back: {ipv4_address: 10.7.0.9}, out: }}}\n"
            "networks: {out: {external: true, name: shared}, back: {internal: true, ipam: {config:"
            " [{subnet: 10.7.0.0/24, gateway: 10.7.0.3, ip_range: 10.7.0.128/25}]}}}"
        ),
    )
    (subnet,) = cloud.things["subnets"].values()
    assert (subnet["cidr"], subnet["gateway_ip"]) == ("10.7.0.0/24", "10.7.0.3")
    assert subnet["allocation_pools"] == [{"start": "10.7.0.128", "end": "10.7.0.254"}]
    ports = {each["network_id"]: each for each in cloud.things["ports"].values()}
    assert ports[subnet["network_id"]]["fixed_ips"] == [{"ip_address": "10.7.0.9"}]
    assert own["id"] in ports
    assert not cloud.things["routers"], "an internal network has none"
    down(Api(cloud), "p", False, lambda line: None)
    assert left(cloud) == ["networks shared"]


def test_an_external_network_that_is_not_there_is_told_before_anything_is_made(
    cloud: FakeCloud, project_of: Read
) -> None:
    text = "services: {a: {image: tiny, networks: [own, out]}}\nnetworks: {own: , out: {external: true, name: nowhere}}"
    with pytest.raises(ComposeError, match=r"^networks.out: it is external, and the cloud has no network nowhere$"):
        up(cloud, project_of(text))
    assert left(cloud) == []


def test_down_leaves_nothing_and_tells_the_agent_of_volumes(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    seen: list[str] = []
    cloud.after = lambda number: seen.extend(
        each["metadata"].get("docker:remove_volumes", "") for each in cloud.servers.values()
    )
    assert down(Api(cloud), "p", True, lambda line: None)
    assert "true" in seen
    assert left(cloud) == []
    assert not down(Api(cloud), "p", False, lambda line: None)


def test_down_with_volumes_also_takes_servers_that_failed(cloud: FakeCloud, project_of: Read) -> None:
    cloud.faults["p-db-1"] = "it ended"
    with pytest.raises(ComposeError):
        up(cloud, project_of(TWO))
    told: list[str] = []
    down(Api(cloud), "p", True, told.append)
    assert left(cloud) == []
    assert any("p-db-1 is ERROR: a volume of its own stays" in line for line in told)


def test_down_leaves_other_projects_alone(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(TWO))
    other = project_of(TWO)
    other.name = "p2"
    up(cloud, other)
    down(Api(cloud), "p2", False, lambda line: None)
    assert left(cloud) == ALL_OF_TWO


def test_servers_that_belong_on_one_host_share_a_group(cloud: FakeCloud, project_of: Read) -> None:
    group = "x-openstack: {host_group: affinity}"
    up(cloud, project_of(f"services: {{a: {{image: tiny, {group}}}, b: {{image: tiny, {group}}}}}"))
    assert [each["name"] for each in cloud.groups.values()] == ["p_affinity"]
    down(Api(cloud), "p", False, lambda line: None)
    assert not cloud.groups


class Stopped(BaseException):
    """As Ctrl-C."""


def test_an_up_that_is_stopped_after_any_request_can_be_run_again(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_of(TWO)
    up(cloud, project)
    total = len(cloud.requests)
    for stop_at in range(1, total):
        fresh = FakeCloud()
        fresh.keep_time(monkeypatch)

        def stop(number: int, at: int = stop_at) -> None:
            if number == at:
                raise Stopped

        fresh.after = stop
        with pytest.raises(Stopped):
            up(fresh, project)
        up(fresh, project)
        assert left(fresh) == ALL_OF_TWO, f"stopped after request {stop_at}"
        assert set(states(fresh).values()) == {"ACTIVE"}


@pytest.mark.parametrize("may_choose_address", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_two_ups_at_once_make_everything_once(
    cloud: FakeCloud, project_of: Read, two_at_once: Twice, seed: int, may_choose_address: bool
) -> None:
    cloud.may_choose_address = may_choose_address
    project = project_of(TWO)
    two_at_once(lambda: up(cloud, project), seed)
    assert left(cloud) == ALL_OF_TWO
    assert sum(each == "POST /servers" for each in cloud.requests) == 3


@pytest.mark.parametrize("change", ["serve --fast", "serve, mem_limit: 100m"])
@pytest.mark.parametrize("seed", range(6))
def test_two_ups_at_once_change_everything(
    cloud: FakeCloud, project_of: Read, two_at_once: Twice, seed: int, change: str
) -> None:
    up(cloud, project_of(TWO))
    cloud.conflict = (409, 500)[seed % 2]
    changed = project_of(TWO.replace("serve", change))
    two_at_once(lambda: up(cloud, changed), seed)
    assert left(cloud) == ALL_OF_TWO
    assert set(states(cloud).values()) == {"ACTIVE"}
    assert all("command" in configuration(cloud, name) for name in ("p-web-1", "p-web-2"))


@pytest.mark.parametrize("tells_time", [True, False])
def test_the_claim_of_a_command_that_has_died_ends(cloud: FakeCloud, project_of: Read, tells_time: bool) -> None:
    cloud.tells_time = tells_time
    up(cloud, project_of(TWO))
    for server in list(cloud.servers.values()):
        cloud.answer("compute", "DELETE", f"/servers/{server['id']}", {"microversion": "2.90"})
    claim = {"name": "p-web-1 claim", "description": "compose:p", "security_groups": [], "fixed_ips": []}
    place = next(each for each in cloud.things["ports"].values() if each["name"] == "p-web-1")
    address = mac_address(cloud.current_project_id, "p-web-1 claim", place["network_id"])
    cloud._add("ports", {**claim, "network_id": place["network_id"], "mac_address": address})
    begun = cloud.time
    up(cloud, project_of(TWO))
    assert left(cloud) == ALL_OF_TWO
    assert 60 <= (cloud.time - begun).total_seconds() < 120
