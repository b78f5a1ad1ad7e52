"""Nova's control plane, the stock nova-compute to compare with, and the agent."""

from __future__ import annotations

from minicloud.config import common
from minicloud.config.ini import Ini, merge
from minicloud.layout import ADDRESS, CONSOLE_PORTS, PORTS, REGION, Layout
from minicloud.options import Options
from minicloud.passwords import Passwords

_LONG_RPC = 180
"""Seconds that the conductor waits for the scheduler. After as long the agent takes a request for lost."""


def _common(layout: Layout, passwords: Passwords) -> Ini:
    return merge(
        {
            "DEFAULT": {
                "my_ip": ADDRESS,
                "state_path": f"{layout.root}/nova",
                "use_stderr": True,
                "transport_url": common.transport_url(passwords),
                "allow_resize_to_same_host": True,
                "long_rpc_timeout": _LONG_RPC,
            },
            "wsgi": {"api_paste_config": f"{layout.venv}/etc/nova/api-paste.ini"},
            "placement": common.password_auth(passwords, "placement"),
            "neutron": {
                **common.password_auth(passwords, "neutron"),
                "service_metadata_proxy": True,
                "metadata_proxy_shared_secret": passwords["metadata"],
            },
            "glance": {"region_name": REGION},
            "cinder": {**common.password_auth(passwords, "cinder"), "os_region_name": REGION},
            "vnc": {"enabled": False},
        },
        common.locks(f"{layout.root}/nova/lock"),
        common.token_check(passwords, "nova"),
        common.service_token(passwords, "nova"),
    )


def _serial_console() -> dict[str, object]:
    """What both ends of a serial console read: the proxy and the compute service."""
    return {
        "enabled": True,
        "base_url": f"ws://{ADDRESS}:{PORTS['nova-serialproxy']}/",
        "proxyclient_address": ADDRESS,
        "port_range": CONSOLE_PORTS,
        "serialproxy_host": ADDRESS,
        "serialproxy_port": PORTS["nova-serialproxy"],
    }


def control(layout: Layout, passwords: Passwords, options: Options) -> Ini:
    """nova-api, nova-metadata, nova-conductor, nova-scheduler and nova-serialproxy."""
    return merge(
        _common(layout, passwords),
        {
            "DEFAULT": {"host": options.host},
            "database": common.database(passwords, "nova"),
            "api_database": common.database(passwords, "nova_api"),
            "conductor": {"workers": 1},
            "serial_console": _serial_console(),
            # `up` maps a host that registers while it waits; this is for hosts that come later.
            "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 30},
        },
    )


def fake_compute(layout: Layout, passwords: Passwords, options: Options) -> Ini:
    """Stock nova-compute with Nova's fake driver. It has no database section, as on a real compute host."""
    return merge(
        _common(layout, passwords),
        {
            "DEFAULT": {
                "host": options.fake_host,
                "state_path": f"{layout.root}/nova-fake",
                # Its siblings with sized nodes never write compute_id, and do not start a second time.
                "compute_driver": "fake.FakeDriverWithoutFakeNodes",
                "reserved_host_memory_mb": 0,
            },
            "oslo_concurrency": {"lock_path": f"{layout.root}/nova-fake/lock"},
        },
    )


def grpc_compute(layout: Layout, passwords: Passwords, options: Options, reserved_memory_mb: int) -> Ini:
    """Stock nova-compute that drives the agent. It is the same compute node as the agent alone."""
    return merge(
        _common(layout, passwords),
        {
            "DEFAULT": {
                "host": options.host,
                "state_path": f"{layout.root}/agent",
                "compute_driver": "docker.DockerDriver",
                "reserved_host_memory_mb": reserved_memory_mb,
            },
            # The default (10 s) is too short for a restart of the agent on a machine that runs a whole cloud.
            "docker_grpc": {"address": f"unix://{layout.driver_socket}", "restart_timeout": 60},
            "serial_console": _serial_console(),
            "oslo_concurrency": {"lock_path": f"{layout.root}/agent/lock"},
        },
    )


def agent(layout: Layout, passwords: Passwords, options: Options, reserved_memory_mb: int) -> Ini:
    """nova-docker-agent's nova.conf. `reserved_memory_mb` (MiB) is the memory that the cloud itself uses."""
    auth = common.password_auth
    return {
        "DEFAULT": {
            "transport_url": common.transport_url(passwords),
            "host": options.host,
            "my_ip": ADDRESS,
            "state_path": f"{layout.root}/agent",
            "reserved_host_memory_mb": reserved_memory_mb,
            "long_rpc_timeout": _LONG_RPC,
        },
        "service_user": {**auth(passwords, "nova"), "send_service_user_token": True},
        "placement": auth(passwords, "placement"),
        "neutron": {**auth(passwords, "neutron"), "ovs_bridge": "br-int"},
        # Nova has no user for Glance: it sends the launching user's token and that of service_user.
        "glance": {"region_name": REGION},
        "os_vif_ovs": {"ovsdb_connection": f"tcp:{ADDRESS}:{PORTS['ovsdb']}"},
        "docker": {
            "host_url": f"unix://{layout.docker_socket}",
            "runtime": "nova",
            "registry_listen": f"{ADDRESS}:{PORTS['agent registry']}",
            "cache_directory": f"{layout.root}/agent/blobs",
            # Else the machine may have one of its own.
            **({"criu": str(layout.criu)} if layout.criu.exists() else {}),
        },
        "docker_grpc": {"listen": f"unix://{layout.driver_socket}"},
        "serial_console": _serial_console(),
    }
