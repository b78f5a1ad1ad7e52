"""Ranges of addresses and numbers that a file says."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from nova_docker_compose.agent import log_bound
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
from nova_docker_compose.subnets import subnet_of
from nova_docker_compose.translation import translate

Read = Callable[[str], Project]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("subnet: 10.0.0.0/99", "'10.0.0.0/99' does not appear to be an IPv4 or IPv6 network"),
        ("subnet: 10.0.0.0/24, gateway: 10.0.1.1", "10.0.1.1 is not in 10.0.0.0/24"),
        ("subnet: 10.0.0.0/24, ip_range: 10.0.0.0/8", "10.255.255.255 is not in 10.0.0.0/24"),
        (
            f"subnet: '{'ffff:' * 7}ffff/128'",
            "340282366920938463463374607431768211456 (>= 2**128) is not permitted as an IPv6 address",
        ),
        ("subnet: 10.0.0.0/24, ip_range: 10.0.0.0/31", "10.0.0.0/31 has no address for a server"),
        ("subnet: 10.0.0.0/24, ip_range: 10.0.0.255", "10.0.0.255/32 has no address for a server"),
        ("subnet: 10.0.0.0/24, gateway: x", "'x' does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_ranges_that_are_none_are_refused(project_of: Read, said: str, problem: str) -> None:
    project = project_of(
        f"services: {{a: {{image: x, networks: [n]}}}}\nnetworks: {{n: {{ipam: {{config: [{{{said}}}]}}}}}}"
    )
    with pytest.raises(ComposeError, match=f"^networks.n.ipam.config: {re.escape(problem)}$"):
        translate(project)


@pytest.mark.parametrize(
    ("said", "pools"),
    [
        (
            {"subnet": "172.28.0.0/16", "ip_range": "172.28.5.0/24", "gateway": "172.28.5.254"},
            ["172.28.5.0-172.28.5.253", "172.28.5.255-172.28.5.255"],
        ),
        ({"subnet": "10.0.0.0/24", "ip_range": "10.0.0.0/24"}, ["10.0.0.2-10.0.0.254"]),
        (
            {"subnet": "10.0.0.0/24", "ip_range": "10.0.0.0/25", "gateway": "10.0.0.9"},
            ["10.0.0.1-10.0.0.8", "10.0.0.10-10.0.0.127"],
        ),
        ({"subnet": "10.0.0.0/24", "ip_range": "10.0.0.0/24", "gateway": "10.0.0.254"}, ["10.0.0.1-10.0.0.253"]),
        ({"subnet": "10.0.0.0/31", "ip_range": "10.0.0.0/31"}, ["10.0.0.0-10.0.0.0"]),
        ({"subnet": "fd00::/64", "ip_range": "fd00::/120"}, ["fd00::2-fd00::ff"]),
        (
            {"subnet": "fd00::/64", "ip_range": "fd00::/64", "gateway": "fd00::5"},
            ["fd00::1-fd00::4", "fd00::6-fd00::ffff:ffff:ffff:ffff"],
        ),
    ],
)
def test_a_pool_leaves_out_what_no_server_can_have(said: dict[str, str], pools: list[str]) -> None:
    assert [f"{each['start']}-{each['end']}" for each in subnet_of(said)["allocation_pools"]] == pools


def test_a_number_of_any_length_is_no_size() -> None:
    assert log_bound("max-size", "9" * 5000) is None
    assert log_bound("max-file", "9" * 5000) is None


def test_the_largest_range_is_no_trouble(project_of: Read) -> None:
    said = "subnet: '::/0', ip_range: '::/0'"
    assert translate(
        project_of(f"services: {{a: {{image: x, networks: [n]}}}}\nnetworks: {{n: {{ipam: {{config: [{{{said}}}]}}}}}}")
    ).wanted
