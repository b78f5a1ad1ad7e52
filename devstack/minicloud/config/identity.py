"""keystone, placement and glance."""

from __future__ import annotations

from minicloud.config import common
from minicloud.config.ini import Ini, merge
from minicloud.layout import Layout, url
from minicloud.passwords import Passwords


def keystone(layout: Layout, passwords: Passwords) -> Ini:
    return {
        "DEFAULT": {"use_stderr": True},
        "database": common.database(passwords, "keystone"),
        "token": {"provider": "fernet"},
        # The least that bcrypt takes. The passwords are random, and with the default every login would cost 0.4 s.
        "identity": {"password_hash_rounds": 4},
        "fernet_tokens": {"key_repository": f"{layout.root}/keystone/fernet-keys"},
        "fernet_receipts": {"key_repository": f"{layout.root}/keystone/fernet-keys"},
        "credential": {"key_repository": f"{layout.root}/keystone/credential-keys"},
        "cache": {
            "enabled": True,
            "backend": "dogpile.cache.pymemcache",
            "memcache_servers": common.MEMCACHED,
        },
    }


def placement(layout: Layout, passwords: Passwords) -> Ini:
    return merge(
        {
            "DEFAULT": {"use_stderr": True},
            "placement_database": common.database(passwords, "placement"),
            "api": {"auth_strategy": "keystone"},
        },
        common.token_check(passwords, "placement"),
    )


def glance(layout: Layout, passwords: Passwords) -> Ini:
    data = f"{layout.root}/glance"
    return merge(
        {
            "DEFAULT": {
                "use_stderr": True,
                "enabled_backends": "file:file",
                "enabled_import_methods": "[glance-direct,copy-image]",
                "worker_self_reference_url": url("glance"),
                "transport_url": common.transport_url(passwords),
            },
            "database": common.database(passwords, "glance"),
            "glance_store": {"default_backend": "file"},
            "file": {"filesystem_store_datadir": f"{data}/images"},
            "os_glance_staging_store": {"filesystem_store_datadir": f"{data}/staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": f"{data}/tasks"},
            "paste_deploy": {
                "flavor": "keystone",
                "config_file": f"{layout.venv}/etc/glance/glance-api-paste.ini",
            },
        },
        common.locks(f"{data}/lock"),
        common.token_check(passwords, "glance"),
    )
