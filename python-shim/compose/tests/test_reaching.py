"""Floating IPs, and ports of them that are forwarded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_cloud import FakeCloud
from nova_docker_compose.cloud import Api
from nova_docker_compose.down import down
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.floating import forwarded_to, reached_at
from nova_docker_compose.heat import Template
from nova_docker_compose.project import Project
from nova_docker_compose.translation import translate
from nova_docker_compose.up import Options, Up

Read = Callable[[str], Project]
Twice = Callable[[Callable[[], object], int], None]

FORWARDED = "services: {web: {image: tiny, ports: ['8080:80', '53:53/udp']}}"
WHOLE = "services: {web: {image: tiny, ports: ['80:80', '53:53/udp']}}"


def up(cloud: FakeCloud, project: Project, **options: Any) -> list[str]:
    told: list[str] = []
    Up(Api(cloud), project, Options(**options), told.append).run()
    return told


def reached(cloud: FakeCloud) -> list[str]:
    """The ports that are reached of each floating IP, without its address."""
    return [
        at.partition(":")[2]
        for ways in forwarded_to(Api(cloud), "p").values()
        for way in ways
        for at in reached_at(*way)
    ]


def test_a_published_port_that_is_another_than_the_container_s_is_forwarded(cloud: FakeCloud, project_of: Read) -> None:
    told = up(cloud, project_of(FORWARDED))
    (address,) = cloud.things["floatingips"].values()
    assert address["port_id"] is None
    assert reached(cloud) == ["53->53/udp", "8080->80/tcp"]
    shown = address["floating_ip_address"]
    assert f"p-web-1: reached at {shown}:53->53/udp, {shown}:8080->80/tcp" in told
    cloud.requests.clear()
    up(cloud, project_of(FORWARDED))
    assert [each for each in cloud.requests if not each.startswith("GET")] == []


def test_each_replica_has_its_own_ports_where_the_file_asks_for_it(cloud: FakeCloud, project_of: Read) -> None:
    text = "services: {web: {image: tiny, ports: ['8080:80'], scale: 3, x-openstack: {floating_ip: each}}}"
    up(cloud, project_of(text))
    assert reached(cloud) == ["8080->80/tcp"] * 3
    up(cloud, project_of(text), scale={"web": 1})
    assert reached(cloud) == ["8080->80/tcp"]
    assert len(cloud.things["floatingips"]) == 1


def test_other_ports_keep_the_address(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(WHOLE))
    (address,) = cloud.things["floatingips"].values()
    assert address["port_id"]
    for text, wanted in (
        (FORWARDED, ["53->53/udp", "8080->80/tcp"]),
        (FORWARDED.replace("8080", "8081"), ["53->53/udp", "8081->80/tcp"]),
        (WHOLE, []),
    ):
        up(cloud, project_of(text))
        assert reached(cloud) == wanted
        (now,) = cloud.things["floatingips"].values()
        assert now["floating_ip_address"] == address["floating_ip_address"]
    assert now["port_id"]


def test_a_service_without_ports_any_more_has_no_address(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(FORWARDED))
    up(cloud, project_of("services: {web: {image: tiny}}"))
    assert not cloud.things["floatingips"]


def test_down_leaves_no_forwarding(cloud: FakeCloud, project_of: Read) -> None:
    up(cloud, project_of(FORWARDED))
    down(Api(cloud), "p", False, lambda line: None)
    assert cloud.left() == []


def test_nothing_is_made_where_neutron_forwards_no_ports(cloud: FakeCloud, project_of: Read) -> None:
    cloud.can_forward = False
    words = r"services.web.ports: 8080:80 cannot be had: .*forwards no ports .*; write 80:80"
    with pytest.raises(ComposeError, match=words):
        up(cloud, project_of(FORWARDED))
    with pytest.raises(ComposeError, match=words):
        Template(Api(cloud), project_of(FORWARDED), lambda line: None).make()
    assert cloud.left() == []
    up(cloud, project_of(WHOLE))


@pytest.mark.parametrize(
    ("ports", "told"),
    [
        ("['8080:80', '8081:80']", "80/tcp is the container's port twice"),
        ("['8080:80', '8080:81']", "8080/tcp is published port twice"),
        ("['8080:80', '80']", "80/tcp is the container's port twice"),
    ],
)
def test_a_port_is_forwarded_once(project_of: Read, ports: str, told: str) -> None:
    with pytest.raises(ComposeError, match=f"services.web.ports: {told}"):
        translate(project_of(f"services: {{web: {{image: tiny, ports: {ports}}}}}"))


@pytest.mark.parametrize("ports", ["['80']", "['80:80']", "['0:80']", "['79-81:80']", "['8000-8001:8000-8001']"])
def test_a_port_that_is_published_as_it_is_needs_no_forwarding(project_of: Read, ports: str) -> None:
    assert translate(project_of(f"services: {{web: {{image: tiny, ports: {ports}}}}}")).wanted["web"].forwards == []


def test_the_template_of_heat_forwards_the_same(cloud: FakeCloud, project_of: Read) -> None:
    made = Template(Api(cloud), project_of(FORWARDED), lambda line: None).make()["resources"]
    forwards = [each["properties"] for each in made.values() if each["type"] == "OS::Neutron::FloatingIPPortForward"]
    assert [(each["protocol"], each["external_port"], each["internal_port_number"]) for each in forwards] == [
        ("tcp", 8080, 80),
        ("udp", 53, 53),
    ]
    (address,) = [each for each in made.values() if each["type"] == "OS::Neutron::FloatingIP"]
    assert "port_id" not in address["properties"]


@pytest.mark.parametrize("text", [WHOLE, FORWARDED])
def test_a_floating_ip_that_is_not_to_be_had_is_told(cloud: FakeCloud, project_of: Read, text: str) -> None:
    cloud.most_addresses = 0
    with pytest.raises(ComposeError, match=r"^services.web.ports: POST /floatingips: Quota exceeded"):
        up(cloud, project_of(text))
    cloud.most_addresses = 1
    up(cloud, project_of(text))
    assert len(cloud.things["floatingips"]) == 1


class Stopped(BaseException):
    """As Ctrl-C."""


@pytest.mark.parametrize(("first", "then"), [(None, FORWARDED), (WHOLE, FORWARDED), (FORWARDED, WHOLE)])
def test_an_up_that_is_stopped_after_any_request_is_gone_on_with(
    cloud: FakeCloud, project_of: Read, monkeypatch: pytest.MonkeyPatch, first: str | None, then: str
) -> None:
    def fresh() -> FakeCloud:
        made = FakeCloud()
        made.keep_time(monkeypatch)
        if first is not None:
            up(made, project_of(first))
            made.requests.clear()
        return made

    counted = fresh()
    up(counted, project_of(then))
    total = len(counted.requests)
    wanted = (reached(counted), [bool(each["port_id"]) for each in counted.things["floatingips"].values()])
    for stop_at in range(1, total):
        made = fresh()
        before = {each["floating_ip_address"] for each in made.things["floatingips"].values()}

        def stop(number: int, at: int = stop_at) -> None:
            if number == at:
                raise Stopped

        made.after = stop
        with pytest.raises(Stopped):
            up(made, project_of(then))
        made.after = lambda number: None
        up(made, project_of(then))
        there = made.things["floatingips"].values()
        assert (reached(made), [bool(each["port_id"]) for each in there]) == wanted, f"stopped after request {stop_at}"
        assert before <= {each["floating_ip_address"] for each in there}, f"stopped after request {stop_at}"


@pytest.mark.parametrize("seed", range(12))
def test_two_ups_at_once_forward_everything_once(
    cloud: FakeCloud, project_of: Read, two_at_once: Twice, seed: int
) -> None:
    project = project_of(FORWARDED)
    two_at_once(lambda: up(cloud, project), seed)
    assert reached(cloud) == ["53->53/udp", "8080->80/tcp"]
    assert len(cloud.things["floatingips"]) == 1
