"""The section [docker_container] of heat.conf."""

from __future__ import annotations

import ipaddress

from oslo_config import cfg

GROUP = "docker_container"

OPTIONS = [
    cfg.ListOpt(
        "endpoint_networks",
        default=[],
        help="Networks, as 192.0.2.0/24, in which a template may name a Docker. Without any, all addresses but those of"
        " this host's loopback, link-local ones and multicast.",
    ),
    cfg.IntOpt(
        "answer_seconds",
        default=600,
        min=1,
        help="How long a resource waits for its Docker to answer: a server that has just become ACTIVE may be starting"
        " it. The stack's own timeout counts too.",
    ),
    cfg.IntOpt("pull_seconds", default=1800, min=1, help="How long a Docker may take to pull an image."),
]

cfg.CONF.register_opts(OPTIONS, GROUP)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def endpoint_networks() -> list[Network]:
    """Raises ValueError for what is no network."""
    return [ipaddress.ip_network(text) for text in cfg.CONF[GROUP].endpoint_networks]


def answer_seconds() -> int:
    return int(cfg.CONF[GROUP].answer_seconds)


def pull_seconds() -> int:
    return int(cfg.CONF[GROUP].pull_seconds)
