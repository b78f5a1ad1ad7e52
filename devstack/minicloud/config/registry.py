"""The registry of the cloud: `docker login`, push and pull, with Glance as the store."""

from __future__ import annotations

from minicloud.config.ini import Ini
from minicloud.layout import ADDRESS, PORTS, Layout, keystone_url, url


def registry(layout: Layout) -> Ini:
    """The configuration of `nova-docker-registry`. It has no identity: users bring their own."""
    return {
        "registry": {
            "listen": f"{ADDRESS}:{PORTS['registry']}",
            "tls_cert_file": str(layout.registry_certificate),
            "tls_key_file": str(layout.registry_key),
            "public_url": url("registry"),
            "state_directory": f"{layout.root}/registry",
            "cache_size_gb": 5,
            # All clients share this one machine, so one may stay silent for longer than elsewhere.
            "request_header_timeout_seconds": 120,
        },
        "keystone": {"auth_url": keystone_url(), "default_domain_name": "Default"},
        "glance": {"endpoint_override": url("glance")},
    }
