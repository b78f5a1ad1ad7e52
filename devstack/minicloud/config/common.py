"""Sections that several OpenStack services share."""

from __future__ import annotations

from minicloud.config.ini import Ini, Section
from minicloud.layout import ADDRESS, PORTS, REGION, Layout, keystone_url
from minicloud.passwords import Passwords

MEMCACHED = f"{ADDRESS}:{PORTS['memcached']}"


def transport_url(passwords: Passwords) -> str:
    return f"rabbit://openstack:{passwords['rabbitmq']}@{ADDRESS}:{PORTS['rabbitmq']}/"


def database(passwords: Passwords, name: str) -> Section:
    """A [database] section for one of the databases, which all belong to the user `openstack`."""
    address = f"{ADDRESS}:{PORTS['mariadb']}"
    return {
        "connection": f"mysql+pymysql://openstack:{passwords['database']}@{address}/{name}?charset=utf8mb4",
        "max_pool_size": 5,
        "max_overflow": 20,
        "connection_recycle_time": 600,
    }


def password_auth(passwords: Passwords, user: str) -> dict[str, str | int | bool]:
    """keystoneauth's options for a service user, in any section that speaks to another service."""
    return {
        "auth_url": keystone_url(),
        "auth_type": "password",
        "username": user,
        "password": passwords["service"],
        "project_name": "service",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "region_name": REGION,
    }


def token_check(passwords: Passwords, user: str) -> Ini:
    """How an API checks the tokens that it receives."""
    return {
        "keystone_authtoken": {
            **password_auth(passwords, user),
            "www_authenticate_uri": keystone_url(),
            "service_token_roles": "service",
            "service_token_roles_required": True,
            "memcached_servers": MEMCACHED,
        }
    }


def service_token(passwords: Passwords, user: str) -> Ini:
    """The token that services send beside a user's, so that a long operation outlives the user's token."""
    return {"service_user": {**password_auth(passwords, user), "send_service_user_token": True}}


def locks(directory: str) -> Ini:
    return {
        "oslo_concurrency": {"lock_path": directory},
        "oslo_messaging_notifications": {"driver": "noop"},
    }


def privsep(layout: Layout, config_file: str, contexts: tuple[str, ...]) -> Ini:
    """The services are root already, so they start privilege-separated helpers without sudo or rootwrap."""
    command = f"{layout.venv}/bin/privsep-helper --config-file {layout.etc}/{config_file}"
    return {context: {"helper_command": command} for context in contexts}
