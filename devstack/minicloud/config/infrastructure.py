"""MariaDB, RabbitMQ, dockerd and its containerd."""

from __future__ import annotations

import json

from minicloud import docker_config
from minicloud.config.ini import Ini
from minicloud.layout import ADDRESS, PORTS, Layout
from minicloud.passwords import Passwords


def mariadb(layout: Layout) -> Ini:
    """A small server that does not wait for the disk: this cloud's data is worth less than its speed."""
    return {
        "mysqld": {
            "user": "mysql",
            "datadir": f"{layout.root}/mysql",
            "socket": str(layout.mysql_socket),
            "pid-file": f"{layout.run}/mysql/mariadbd.pid",
            "bind-address": ADDRESS,
            "port": PORTS["mariadb"],
            "skip-name-resolve": 1,
            "skip-log-bin": 1,
            "character-set-server": "utf8mb4",
            "collation-server": "utf8mb4_general_ci",
            "performance_schema": "OFF",
            "innodb_buffer_pool_size": "96M",
            "innodb_log_file_size": "48M",
            "innodb_log_buffer_size": "4M",
            # Survives the death of any process, not a power cut in the last second.
            "innodb_flush_log_at_trx_commit": 0,
            "innodb_flush_method": "nosync",
            "sync_frm": 0,
            "key_buffer_size": "1M",
            "aria_pagecache_buffer_size": "2M",
            "query_cache_size": 0,
            "max_connections": 400,
            "thread_cache_size": 16,
            "table_open_cache": 600,
            "table_definition_cache": 600,
        }
    }


def rabbitmq(passwords: Passwords) -> str:
    """rabbitmq.conf. The user exists from the node's first boot on."""
    return "\n".join(
        (
            f"listeners.tcp.local = {ADDRESS}:{PORTS['rabbitmq']}",
            "vm_memory_high_watermark.absolute = 400MB",
            "disk_free_limit.absolute = 200MB",
            "log.console = true",
            "log.console.level = info",
            "log.file = false",
            "default_user = openstack",
            f"default_pass = {passwords['rabbitmq']}",
            "default_permissions.configure = .*",
            "default_permissions.read = .*",
            "default_permissions.write = .*",
            "default_user_tags.administrator = true",
            "collect_statistics_interval = 30000",
            "",
        )
    )


def dockerd(layout: Layout) -> str:
    """daemon.json of this cloud's own Docker."""
    return (
        json.dumps(
            {
                "data-root": f"{layout.root}/docker",
                "exec-root": f"{layout.run}/docker",
                "pidfile": f"{layout.run}/docker.pid",
                "hosts": [f"unix://{layout.docker_socket}"],
                # Without this dockerd 20.10 joins a containerd that runs on the host, in the same namespace
                # as the host's own Docker.
                "containerd": f"{layout.run}/containerd/containerd.sock",
                **docker_config.NETWORK,
                # Checkpoints, for servers that are suspended to disk.
                "experimental": True,
                "runtimes": docker_config.runtimes(layout.bin / "nova-docker-runtime"),
            },
            indent=1,
        )
        + "\n"
    )


def containerd(layout: Layout) -> str:
    """containerd's TOML."""
    return (
        "version = 2\n"
        f'root = "{layout.root}/containerd"\n'
        f'state = "{layout.run}/containerd/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        "[grpc]\n"
        f'  address = "{layout.run}/containerd/containerd.sock"\n'
    )
