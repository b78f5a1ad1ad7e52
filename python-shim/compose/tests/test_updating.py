"""How many servers of a service change at once, and in which order: `deploy.update_config`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_cloud import FakeCloud
from nova_docker_compose import claims
from nova_docker_compose.cloud import Api
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
from nova_docker_compose.slots import Place
from nova_docker_compose.translation import translate
from nova_docker_compose.up import Options, Up

Read = Callable[[str], Project]
Twice = Callable[[Callable[[], object], int], None]

FILE = "services: {web: {image: tiny, command: COMMAND, ports: [80], scale: COUNT, deploy: {update_config: {SAID}}}}"


def file(said: str, command: str = "serve", count: int = 1) -> str:
    return FILE.replace("SAID", said).replace("COMMAND", command).replace("COUNT", str(count))


def up(cloud: FakeCloud, project: Project, **options: Any) -> list[str]:
    told: list[str] = []
    Up(Api(cloud), project, Options(**options), told.append).run()
    return told


def states(cloud: FakeCloud) -> dict[str, str]:
    return {each["name"]: each["status"] for each in cloud.servers.values()}


def most_away(cloud: FakeCloud, project: Project) -> int:
    """How many servers were away at the same time during an `up`."""
    counts = [0]
    cloud.after = lambda number: counts.append(sum(each != "ACTIVE" for each in states(cloud).values()))
    up(cloud, project)
    cloud.after = lambda number: None
    return max(counts)


@pytest.mark.parametrize(
    ("said", "wanted"), [("", 1), ("parallelism: 1", 1), ("parallelism: 2", 2), ("parallelism: 0", 5)]
)
def test_so_many_change_at_once(cloud: FakeCloud, project_of: Read, said: str, wanted: int) -> None:
    up(cloud, project_of(file(said, count=5)))
    assert most_away(cloud, project_of(file(said, "other", 5))) == wanted
    assert set(states(cloud).values()) == {"ACTIVE"}


def test_the_pause_between_them_is_kept(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(file("delay: 10m", count=3)))
    begun = cloud.time
    up(cloud, project_of(file("delay: 10m", "other", 3)))
    assert 1200 <= (cloud.time - begun).total_seconds() < 1300


def reached(cloud: FakeCloud) -> set[str]:
    """The states of the servers at the floating IPs."""
    ports = {port["port"]: each["status"] for each in cloud.servers.values() for port in each["networks"]}
    return {ports[each["port_id"]] for each in cloud.things["floatingips"].values()}


@pytest.mark.parametrize("change", ["serve --fast", "serve, mem_limit: 100m"])
@pytest.mark.parametrize(("count", "more"), [(1, ""), (3, ", parallelism: 2")])
def test_with_start_first_a_server_is_always_behind_the_address(
    cloud: FakeCloud, project_of: Read, count: int, more: str, change: str
) -> None:
    up(cloud, project_of(file(f"order: start-first{more}", count=count)))
    before = {each["floating_ip_address"]: each["port_id"] for each in cloud.things["floatingips"].values()}
    seen = set[str]()
    fewest = [count]

    def look(number: int) -> None:
        seen.update(reached(cloud))
        fewest.append(sum(each == "ACTIVE" for each in states(cloud).values()))

    cloud.after = look
    told = up(cloud, project_of(file(f"order: start-first{more}", change, count)))
    assert (seen, min(fewest)) == ({"ACTIVE"}, count)
    stand_in = f"p-web-{count + 1}"
    assert told.index(f"{stand_in}: running") < told.index(f"{stand_in}: removing")
    assert sorted(states(cloud)) == [f"p-web-{number}" for number in range(1, count + 1)]
    assert {each["floating_ip_address"]: each["port_id"] for each in cloud.things["floatingips"].values()} == before
    again = up(cloud, project_of(file(f"order: start-first{more}", change, count)))
    assert {line.partition(": ")[2] for line in again} == {"running"}


def test_with_start_first_forwarded_ports_come_back_too(cloud: FakeCloud, project_of: Read) -> None:
    def forwarded() -> list[dict[str, Any]]:
        return [each for address in cloud.things["floatingips"].values() for each in address["forwardings"].values()]

    def serving() -> set[str]:
        ports = {port["port"]: each["status"] for each in cloud.servers.values() for port in each["networks"]}
        return {ports[each["internal_port_id"]] for each in forwarded()}

    text = file("order: start-first").replace("[80]", "['8080:80']")
    up(cloud, project_of(text))
    before, seen = [{**each} for each in forwarded()], set[str]()
    cloud.after = lambda number: seen.update(serving())
    up(cloud, project_of(text.replace("serve", "other")))
    assert (seen, forwarded()) == ({"ACTIVE"}, before)


def test_what_does_not_come_up_takes_nobody_s_place(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(file("order: start-first")))
    cloud.faults["p-web-2"] = "no such command"
    with pytest.raises(ComposeError, match="p-web-2: it is ERROR: no such command"):
        up(cloud, project_of(file("order: start-first", "typo")))
    assert states(cloud)["p-web-1"] == "ACTIVE"
    assert reached(cloud) == {"ACTIVE"}
    cloud.faults.clear()
    up(cloud, project_of(file("order: start-first", "other")))
    assert states(cloud) == {"p-web-1": "ACTIVE"}


def test_those_with_a_health_check_are_waited_for(cloud: FakeCloud, project_of: Read) -> None:
    text = file("order: start-first", count=1).replace("ports:", "healthcheck: {test: ask}, ports:")
    up(cloud, project_of(text))
    cloud.told["p-web-2"] = ["health:starting", "health:unhealthy"]
    with pytest.raises(ComposeError, match="p-web-2: it is unhealthy"):
        up(cloud, project_of(text.replace("serve", "other")))
    cloud.told = {"p-web-2": ["health:starting", "health:healthy"], "p-web-1": ["health:healthy"]}
    up(cloud, project_of(text.replace("serve", "other")))
    assert states(cloud) == {"p-web-1": "ACTIVE"}


@pytest.mark.parametrize(("before", "after", "changed"), [("healthy", "unhealthy", 1), ("unhealthy", "healthy", 2)])
def test_the_health_of_the_old_container_counts_no_more(
    cloud: FakeCloud, project_of: Read, before: str, after: str, changed: int
) -> None:
    text = file("parallelism: 1", count=2).replace("ports:", "healthcheck: {test: ask}, ports:")
    cloud.told = {f"p-web-{number}": [f"health:{before}"] for number in (1, 2)}
    up(cloud, project_of(text))
    old = {each["metadata"]["compose:hash"] for each in cloud.servers.values()}

    def tell(number: int) -> None:
        if cloud.requests[number - 1].endswith("/action"):
            cloud.told = {f"p-web-{number}": ["health:starting", f"health:{after}"] for number in (1, 2)}

    cloud.after = tell
    try:
        up(cloud, project_of(text.replace("serve", "other")))
    except ComposeError as error:
        assert (str(error), after) == ("p-web-1: it is unhealthy", "unhealthy")
    assert sum(each["metadata"]["compose:hash"] not in old for each in cloud.servers.values()) == changed


class Stopped(BaseException):
    """As Ctrl-C."""


def test_one_that_is_stopped_after_any_request_can_be_run_again(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh() -> FakeCloud:
        made = FakeCloud()
        made.keep_time(monkeypatch)
        up(made, project_of(file("order: start-first")))
        made.requests.clear()
        return made

    counted = fresh()
    up(counted, project_of(file("order: start-first", "other")))
    for stop_at in range(1, len(counted.requests)):
        made = fresh()
        (address,) = [each["floating_ip_address"] for each in made.things["floatingips"].values()]

        def stop(number: int, at: int = stop_at) -> None:
            if number == at:
                raise Stopped

        made.after = stop
        with pytest.raises(Stopped):
            up(made, project_of(file("order: start-first", "other")))
        made.after = lambda number: None
        up(made, project_of(file("order: start-first", "other")))
        assert states(made) == {"p-web-1": "ACTIVE"}, f"stopped after request {stop_at}"
        assert [each["floating_ip_address"] for each in made.things["floatingips"].values()] == [address]
        assert reached(made) == {"ACTIVE"}


def test_one_of_two_servers_that_is_stopped_after_any_request_can_be_run_again(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh() -> FakeCloud:
        made = FakeCloud()
        made.keep_time(monkeypatch)
        up(made, project_of(two))
        made.requests.clear()
        return made

    two = file("order: start-first", count=2).replace("deploy:", "x-openstack: {floating_ip: each}, deploy:")
    changed = project_of(two.replace("serve", "other"))
    counted = fresh()
    up(counted, changed)
    for stop_at in range(1, len(counted.requests)):
        made = fresh()
        before = leading(made)
        assert len(before) == 2

        def stop(number: int, at: int = stop_at) -> None:
            if number == at:
                raise Stopped

        made.after = stop
        with pytest.raises(Stopped):
            up(made, changed)
        made.after = lambda number: None
        up(made, changed)
        assert states(made) == {"p-web-1": "ACTIVE", "p-web-2": "ACTIVE"}, f"stopped after request {stop_at}"
        assert leading(made) == before, f"stopped after request {stop_at}"


def test_the_address_of_a_server_that_goes_is_not_in_the_way_of_others(cloud: FakeCloud, project_of: Read) -> None:
    text = file("order: start-first", count=3)
    up(cloud, project_of(text))
    before = leading(cloud)
    up(cloud, project_of(text.replace("scale: 3", "scale: 2").replace("serve", "other")))
    assert leading(cloud) == {address: name for address, name in before.items() if name != "p-web-3"}


def leading(cloud: FakeCloud) -> dict[str, str]:
    """The server that each floating IP leads to."""
    names = {port["id"]: port["name"] for port in cloud.things["ports"].values()}
    return {each["floating_ip_address"]: names[each["port_id"]] for each in cloud.things["floatingips"].values()}


@pytest.mark.parametrize("seed", range(6))
def test_two_at_once_are_as_one(cloud: FakeCloud, project_of: Read, two_at_once: Twice, seed: int) -> None:
    up(cloud, project_of(file("order: start-first", count=2)))
    before, seen = leading(cloud), set[str]()

    def look(number: int) -> None:
        with cloud.lock:
            seen.update(reached(cloud))

    cloud.after = look
    changed = project_of(file("order: start-first", "other", 2))
    two_at_once(lambda: up(cloud, changed), seed)
    assert states(cloud) == {"p-web-1": "ACTIVE", "p-web-2": "ACTIVE"}
    assert (leading(cloud), seen) == (before, {"ACTIVE"})
    assert sum(each == "POST /servers" for each in cloud.requests) == 3, "two, and one that stands in"
    assert "ports p-web-0 claim" not in cloud.left()


def test_one_who_waits_for_another_s_update_says_so_and_then_makes_its_own(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_SECONDS", float("inf"))
    up(cloud, project_of(file("order: start-first", count=2)))
    first, second = (project_of(file("order: start-first", command, 2)) for command in ("other", "third"))
    told = list[str]()
    waits = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        waits.set()

    other = threading.Thread(target=Up(Api(cloud), second, Options(), tell).run)

    def look(number: int) -> None:
        if "p-web-3" in states(cloud) and not other.ident:
            other.start()
            assert waits.wait(600)

    cloud.after = look
    up(cloud, first)
    other.join()
    assert told[0] == "p-web: another command changes its servers; waiting for it"
    assert "p-web-2: rebuilding" in told
    assert states(cloud) == {"p-web-1": "ACTIVE", "p-web-2": "ACTIVE"}


def test_an_update_that_takes_long_keeps_others_waiting(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = cloud._add("networks", {"name": "p_default", "description": "compose:p"})
    place = Place("web", 1, [{"network_id": network["id"]}])
    told, over = list[str](), threading.Event()
    begun = cloud.time

    def renewals() -> int:
        return sum(each.startswith("PUT") for each in cloud.requests)

    def sleep(seconds: float) -> None:
        """In each half minute of the cloud there is a renewal, whatever the machine does."""
        cloud.sleep(seconds)
        done = (cloud.time - begun).total_seconds()
        while renewals() < done // 30 and not over.is_set():
            threading.Event().wait(0.001)

    monkeypatch.setattr(claims, "_RENEWED_SECONDS", 0.002)
    monkeypatch.setattr("time.sleep", sleep)

    def wait() -> None:
        with claims.all_claimed(Api(cloud), "p", place, told.append):
            told.append("mine")

    other = threading.Thread(target=wait)
    with claims.all_claimed(Api(cloud), "p", place, told.append):
        other.start()
        while other.is_alive() and (cloud.time - begun).total_seconds() < 300:
            threading.Event().wait(0.001)
        told.append("done")
        over.set()
    other.join()
    assert told == ["p-web: another command changes its servers; waiting for it", "done", "mine"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("hostname: h", "hostname: two servers, as deploy.update_config.order: start-first has them, cannot have one"),
        ("networks: {n: {ipv4_address: 10.9.0.4}}", "networks.n: two servers"),
    ],
)
def test_what_two_servers_cannot_have_is_refused(project_of: Read, said: str, told: str) -> None:
    text = (
        f"services: {{a: {{image: x, {said}, deploy: {{update_config: {{order: start-first}}}}}}}}\nnetworks: {{n: }}"
    )
    with pytest.raises(ComposeError, match=f"services.a.{told}"):
        translate(project_of(text))


def test_what_is_left_out_is_told(project_of: Read) -> None:
    said = "failure_action: rollback, monitor: 5s, max_failure_ratio: 0.5"
    warnings = translate(project_of(file(said))).warnings
    assert [each.partition(" is left out")[0].partition(": it")[0] for each in warnings] == [
        "services.web.deploy.update_config.monitor",
        "services.web.deploy.update_config.max_failure_ratio",
        "services.web.deploy.update_config.failure_action: rollback",
    ]
    with pytest.raises(ComposeError, match="parallelism: it must be 0"):
        translate(project_of(file("parallelism: -1")))
