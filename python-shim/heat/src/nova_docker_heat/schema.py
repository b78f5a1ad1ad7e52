"""The properties and the attributes of DockerInc::Docker::Container.

Names and types are those of the plugin that Heat once had among its contributions, so that its templates go on. New are
docker_tls, and what can be changed in place.
"""

from __future__ import annotations

from typing import Any

from heat.engine import attributes, constraints, properties
from heat.engine.properties import Schema

from nova_docker_heat.transport import CA, CERTIFICATE, KEY

DOCKER_ENDPOINT, DOCKER_TLS, IMAGE, NAME = "docker_endpoint", "docker_tls", "image", "name"
CMD, ENV, HOSTNAME, USER = "cmd", "env", "hostname", "user"
TTY, OPEN_STDIN, STDIN_ONCE = "tty", "open_stdin", "stdin_once"
PORT_SPECS, PORT_BINDINGS, LINKS, DNS = "port_specs", "port_bindings", "links", "dns"
VOLUMES, VOLUMES_FROM, DEVICES, READ_ONLY = "volumes", "volumes_from", "devices", "read_only"
PRIVILEGED, CAP_ADD, CAP_DROP = "privileged", "cap_add", "cap_drop"
MEMORY, CPU_SHARES, CPU_SET, RESTART_POLICY = "memory", "cpu_shares", "cpu_set", "restart_policy"

POLICY_NAME, POLICY_COUNT = "Name", "MaximumRetryCount"
DEVICE_ON_HOST, DEVICE_IN_CONTAINER, DEVICE_PERMISSIONS = "path_on_host", "path_in_container", "permissions"

_STRING, _BOOLEAN, _INTEGER, _LIST, _MAP = (
    Schema.STRING,
    Schema.BOOLEAN,
    Schema.INTEGER,
    Schema.LIST,
    Schema.MAP,
)


def _pem(description: str, required: bool = False) -> Any:
    return properties.Schema(_STRING, description, required=required)


def _names(description: str, pattern: str) -> Any:
    one = properties.Schema(_STRING, constraints=[constraints.AllowedPattern(pattern)])
    return properties.Schema(_LIST, description, schema=one, default=[])


_CAPABILITY = r"(CAP_)?[A-Z_]{1,40}$"
_DEVICE = r"/dev(/[A-Za-z0-9_.:-]+)+$"

PROPERTIES: dict[str, Any] = {
    DOCKER_ENDPOINT: properties.Schema(
        _STRING,
        "Where Docker listens: an address, with or without a port (2375, or 2376 with docker_tls).",
        required=True,
    ),
    DOCKER_TLS: properties.Schema(
        _MAP,
        "Certificates in PEM, for a Docker that listens with TLS.",
        schema={
            CA: _pem("The authority that has signed Docker's certificate.", required=True),
            CERTIFICATE: _pem("The certificate by which Docker knows its client."),
            KEY: _pem("Its key."),
        },
        update_allowed=True,
    ),
    IMAGE: properties.Schema(_STRING, "The image; it is pulled where Docker does not have it.", required=True),
    NAME: properties.Schema(_STRING, "The container's name.", update_allowed=True),
    CMD: properties.Schema(_LIST, "Words of the command, in place of the image's.", default=[]),
    ENV: properties.Schema(_LIST, "Environment variables, each as NAME=VALUE.", default=[]),
    HOSTNAME: properties.Schema(_STRING, "The container's host name.", default=""),
    USER: properties.Schema(_STRING, "Who the command runs as: a name or a number.", default=""),
    TTY: properties.Schema(_BOOLEAN, "Whether the command has a terminal.", default=False),
    OPEN_STDIN: properties.Schema(_BOOLEAN, "Whether standard input stays open.", default=False),
    STDIN_ONCE: properties.Schema(_BOOLEAN, "Whether it closes after the first client.", default=False),
    PORT_SPECS: properties.Schema(_LIST, "Ports that are open in the container, as 80 or 53/udp.", default=[]),
    PORT_BINDINGS: properties.Schema(_MAP, "For each port of the container a port of the host.", default={}),
    LINKS: properties.Schema(_MAP, "Other containers by name, each with its name in this one.", default={}),
    DNS: properties.Schema(_LIST, "Name servers.", default=[]),
    VOLUMES: properties.Schema(_MAP, "Volumes and paths of the host, each with its path in the container.", default={}),
    VOLUMES_FROM: properties.Schema(_STRING, "Containers whose volumes this one has too.", default=""),
    DEVICES: properties.Schema(
        _LIST,
        "Devices of the host.",
        schema=properties.Schema(
            _MAP,
            schema={
                DEVICE_ON_HOST: properties.Schema(
                    _STRING,
                    "The device.",
                    required=True,
                    constraints=[constraints.Length(max=255), constraints.AllowedPattern(_DEVICE)],
                ),
                DEVICE_IN_CONTAINER: properties.Schema(
                    _STRING,
                    "Where the container has it; without, at the same path.",
                    constraints=[constraints.Length(max=255), constraints.AllowedPattern(_DEVICE)],
                ),
                DEVICE_PERMISSIONS: properties.Schema(
                    _STRING,
                    "Read, write, mknod.",
                    default="rwm",
                    constraints=[constraints.AllowedPattern(r"(?!.*(.).*\1)[rwm]{1,3}$")],
                ),
            },
        ),
        default=[],
    ),
    READ_ONLY: properties.Schema(_BOOLEAN, "Whether the root file system is read-only.", default=False),
    PRIVILEGED: properties.Schema(_BOOLEAN, "Whether nothing holds the container.", default=False),
    CAP_ADD: _names("Capabilities on top of Docker's.", _CAPABILITY),
    CAP_DROP: _names("Capabilities that the container does not get.", _CAPABILITY),
    MEMORY: properties.Schema(_INTEGER, "A limit, in bytes.", default=0, update_allowed=True),
    CPU_SHARES: properties.Schema(_INTEGER, "The weight among containers.", default=0, update_allowed=True),
    CPU_SET: properties.Schema(_STRING, "Processors, as 0-2 or 0,1.", update_allowed=True),
    RESTART_POLICY: properties.Schema(
        _MAP,
        "Whether Docker starts the container again when it has ended.",
        schema={
            POLICY_NAME: properties.Schema(
                _STRING,
                "When.",
                default="no",
                constraints=[constraints.AllowedValues(["no", "on-failure", "always", "unless-stopped"])],
            ),
            POLICY_COUNT: properties.Schema(
                _INTEGER,
                "How often at most, of on-failure; 0 is without end.",
                default=0,
                constraints=[constraints.Range(min=0)],
            ),
        },
        default={},
        update_allowed=True,
    ),
}

INFO, NETWORK_INFO, NETWORK_IP, NETWORK_GATEWAY = "info", "network_info", "network_ip", "network_gateway"
TCP_PORTS, UDP_PORTS = "network_tcp_ports", "network_udp_ports"
LOGS, LOGS_HEAD, LOGS_TAIL = "logs", "logs_head", "logs_tail"

ATTRIBUTES: dict[str, Any] = {
    INFO: attributes.Schema("All that Docker tells of the container.", type=attributes.Schema.MAP),
    NETWORK_INFO: attributes.Schema("What of it is about its network.", type=attributes.Schema.MAP),
    NETWORK_IP: attributes.Schema("Its address.", type=attributes.Schema.STRING),
    NETWORK_GATEWAY: attributes.Schema("Its gateway.", type=attributes.Schema.STRING),
    TCP_PORTS: attributes.Schema("Its open TCP ports, with commas between.", type=attributes.Schema.STRING),
    UDP_PORTS: attributes.Schema("Its open UDP ports, with commas between.", type=attributes.Schema.STRING),
    **{
        name: attributes.Schema(text, type=attributes.Schema.STRING, cache_mode=attributes.Schema.CACHE_NONE)
        for name, text in (
            (LOGS, "The last 1000 lines of its log, at most 64 KiB."),
            (LOGS_HEAD, "The first line of its log."),
            (LOGS_TAIL, "The last line of its log."),
        )
    },
}
