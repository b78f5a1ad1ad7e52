"""Heat and Cinder, which start only when selected."""

from __future__ import annotations

from minicloud.config import common
from minicloud.config.ini import Ini, merge
from minicloud.layout import ADDRESS, ADDRESS_FOR_SERVERS, REGION, Layout, url
from minicloud.passwords import Passwords


def heat(layout: Layout, passwords: Passwords) -> Ini:
    trustee = common.password_auth(passwords, "heat")
    del trustee["project_name"], trustee["project_domain_name"]
    return merge(
        {
            "DEFAULT": {
                "use_stderr": True,
                "transport_url": common.transport_url(passwords),
                "num_engine_workers": 1,
                # A stack's server gets its user data as the template has it, not wrapped for cfn-tools: no container
                # image has these.
                "default_user_data_format": "RAW",
                "default_software_config_transport": "POLL_SERVER_HEAT",
                "heat_metadata_server_url": url("heat-api-cfn", address=ADDRESS_FOR_SERVERS),
                "heat_waitcondition_server_url": url("heat-api-cfn", "/v1/waitcondition", ADDRESS_FOR_SERVERS),
                "auth_encryption_key": passwords["heat_encryption"],
                "stack_user_domain_name": "heat",
                "stack_domain_admin": "heat_domain_admin",
                "stack_domain_admin_password": passwords["heat_domain"],
                "region_name_for_services": REGION,
                "plugin_dirs": f"{layout.venv}/lib/heat",
                "environment_dir": f"{layout.venv}/etc/heat/environment.d",
                "template_dir": f"{layout.venv}/etc/heat/templates",
            },
            "database": common.database(passwords, "heat"),
            "paste_deploy": {"api_paste_config": f"{layout.venv}/etc/heat/api-paste.ini"},
            "clients_keystone": {"auth_uri": url("keystone")},
            # The catalog's address is loopback; a server that signals a wait condition needs another one.
            "clients_heat": {"url": url("heat-api", "/v1/%(tenant_id)s", ADDRESS_FOR_SERVERS)},
            "oslo_messaging_notifications": {"driver": "noop"},
            # A trust belongs to the user who made the stack: with a project here the token would be refused.
            "trustee": trustee,
        },
        common.token_check(passwords, "heat"),
    )


def cinder_export(layout: Layout) -> str:
    """The NFS export in Cinder's own notation. It is a bind mount: see cinder_shares in README.md."""
    return f"{ADDRESS}:{layout.root}/cinder/export"


def cinder(layout: Layout, passwords: Passwords) -> Ini:
    data = f"{layout.root}/cinder"
    contexts = ("privsep", "privsep_osbrick", "cinder_sys_admin")
    return merge(
        {
            "DEFAULT": {
                "use_stderr": True,
                "transport_url": common.transport_url(passwords),
                "my_ip": ADDRESS,
                "state_path": data,
                "auth_strategy": "keystone",
                "api_paste_config": f"{layout.venv}/etc/cinder/api-paste.ini",
                "enabled_backends": "nfs",
                "default_volume_type": "nfs",
                "glance_api_servers": url("glance"),
                "resource_query_filters_file": f"{layout.venv}/etc/cinder/resource_filters.json",
                "rootwrap_config": f"{layout.venv}/etc/cinder/rootwrap.conf",
            },
            "nfs": {
                "volume_driver": "cinder.volume.drivers.nfs.NfsDriver",
                "volume_backend_name": "nfs",
                "nfs_shares_config": f"{layout.etc}/nfs_shares",
                "nfs_mount_point_base": f"{data}/mnt",
                "nas_secure_file_operations": False,
                "nas_secure_file_permissions": False,
                "nfs_sparsed_volumes": True,
                "nfs_snapshot_support": True,
                "nfs_qcow2_volumes": False,
            },
            "database": common.database(passwords, "cinder"),
            "coordination": {"backend_url": f"file://{data}/coordination"},
            "nova": {**common.password_auth(passwords, "nova"), "interface": "internal"},
        },
        common.locks(f"{data}/lock"),
        common.privsep(layout, "cinder.conf", contexts),
        common.token_check(passwords, "cinder"),
        common.service_token(passwords, "cinder"),
    )
