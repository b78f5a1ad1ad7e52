"""Ranges of addresses and numbers that a file says."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from nova_docker_compose.agent import log_bound
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
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
        ("subnet: 10.0.0.0/24, gateway: x", "'x' does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_ranges_that_are_none_are_refused(project_of: Read, said: str, problem: str) -> None:
    project = project_of(
        f"services: {{a: {{image: x, networks: [n]}}}}\nnetworks: {{n: {{ipam: {{config: [{{{said}}}]}}}}}}"
    )
    with pytest.raises(ComposeError, match=f"^networks.n.ipam.config: {re.escape(problem)}$"):
        translate(project)


def test_a_number_of_any_length_is_no_size() -> None:
    assert log_bound("max-size", "9" * 5000) is None
    assert log_bound("max-file", "9" * 5000) is None


def test_the_largest_range_is_no_trouble(project_of: Read) -> None:
    said = "subnet: '::/0', ip_range: '::/0'"
    assert translate(
        project_of(f"services: {{a: {{image: x, networks: [n]}}}}\nnetworks: {{n: {{ipam: {{config: [{{{said}}}]}}}}}}")
    ).wanted
