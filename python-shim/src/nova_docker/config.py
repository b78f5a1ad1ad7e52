"""The section [docker_grpc] of nova.conf, as far as it is the driver's; the agent reads its own options in it."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

from nova_docker.rpc import Address, Tls

GROUP = "docker_grpc"

OPTIONS = [
    cfg.StrOpt(
        "address",
        default="unix:///run/nova-docker-agent/driver.sock",
        help="Where nova-docker-agent listens: unix:///path, or https://host:port, which needs the three TLS files.",
    ),
    cfg.StrOpt("tls_ca", help="Certificates (PEM) that the agent's certificate is checked against."),
    cfg.StrOpt("tls_client_certificate", help="Certificate (PEM) with which nova-compute shows who it is."),
    cfg.StrOpt("tls_client_key", help="Key (PEM) of tls_client_certificate."),
    cfg.FloatOpt("connect_timeout", default=5, min=0.1, help="Seconds within which a connection must be there."),
    cfg.FloatOpt(
        "restart_timeout",
        default=10,
        min=0,
        help="Seconds that a call waits for an agent that does not listen, because it may be restarting.",
    ),
    cfg.FloatOpt("call_timeout", default=50, min=1, help="Seconds that a question to the agent may take."),
    cfg.FloatOpt(
        "operation_timeout",
        default=3600,
        min=1,
        help="Seconds that an operation may take: to create (with the image's download), stop, delete, snapshot.",
    ),
]


def register(conf: cfg.ConfigOpts) -> Any:
    """Registers the options, as often as wanted, and returns the section."""
    conf.register_opts(OPTIONS, group=GROUP)
    return conf[GROUP]


def address(options: Any) -> Address:
    """The agent's address; raises AddressRefused when the options make none."""
    files = (options.tls_ca, options.tls_client_certificate, options.tls_client_key)
    tls = Tls(*files) if all(files) else None
    return Address(options.address, options.connect_timeout, tls)
