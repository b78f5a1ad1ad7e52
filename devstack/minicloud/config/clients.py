"""What users load: clouds.yaml, openrc, and Horizon's settings."""

from __future__ import annotations

import json
import shlex

from minicloud.config import common
from minicloud.layout import ADDRESS, REGION, Layout, keystone_url
from minicloud.options import Options
from minicloud.passwords import Passwords

USERS = {"admin": "admin", "demo": "demo"}
"""Users that people log in as, with their project."""


def _auth(passwords: Passwords, user: str) -> dict[str, str]:
    return {
        "auth_url": keystone_url(),
        "username": user,
        "password": passwords[user],
        "project_name": USERS[user],
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }


def clouds_yaml(passwords: Passwords) -> str:
    """The clouds `admin` and `demo`. JSON is YAML."""
    clouds = {
        user: {"region_name": REGION, "identity_api_version": 3, "auth": _auth(passwords, user)} for user in USERS
    }
    return json.dumps({"clouds": clouds}, indent=1) + "\n"


def openrc(layout: Layout, passwords: Passwords, user: str) -> str:
    """Shell exports for one user, to be loaded with eval."""
    variables = {f"OS_{name.upper()}": value for name, value in _auth(passwords, user).items()}
    variables |= {"OS_REGION_NAME": REGION, "OS_IDENTITY_API_VERSION": "3"}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    # Variables of another cloud in the same shell would win over these, or mix with them.
    lines.append("unset OS_CLOUD OS_TOKEN OS_PROJECT_ID OS_USER_ID OS_TRUST_ID OS_SYSTEM_SCOPE")
    lines.append(f"case :$PATH: in *:{layout.bin}:*) ;; *) export PATH={layout.bin}:$PATH ;; esac")
    return "\n".join(lines) + "\n"


def horizon(layout: Layout, passwords: Passwords, options: Options) -> str:
    """Horizon's local_settings.py."""
    network = {
        "enable_router": True,
        "enable_quotas": True,
        "enable_ha_router": False,
        "enable_distributed_router": False,
        "enable_fip_topology_check": True,
    }
    settings: dict[str, object] = {
        "DEBUG": False,
        "COMPRESS_OFFLINE": True,
        "ALLOWED_HOSTS": [ADDRESS, "localhost"],
        "SECRET_KEY": passwords["horizon"],
        "WEBROOT": "/",
        "STATIC_ROOT": f"{layout.root}/horizon/static",
        "LOCAL_PATH": f"{layout.root}/horizon",
        "OPENSTACK_HOST": ADDRESS,
        "OPENSTACK_KEYSTONE_URL": keystone_url(),
        "OPENSTACK_KEYSTONE_DEFAULT_ROLE": "member",
        "OPENSTACK_API_VERSIONS": {"identity": 3, "image": 2, "volume": 3},
        "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
        "CACHES": {
            "default": {
                "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
                "LOCATION": common.MEMCACHED,
            }
        },
        "EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend",
        "TIME_ZONE": "UTC",
        "OPENSTACK_NEUTRON_NETWORK": network,
        # Containers have no screen.
        "CONSOLE_TYPE": "SERIAL",
        # The tab Console is a frame with a page of Horizon's own, which Django would forbid.
        "X_FRAME_OPTIONS": "SAMEORIGIN",
        # Compute hosts of this cloud start containers from Glance images; without Cinder there are no volumes.
        "LAUNCH_INSTANCE_DEFAULTS": {"create_volume": False, "disable_volume": "cinder" not in options.extras},
        "IMAGES_ALLOW_LOCATION": False,
        "LOGGING": {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": {"class": "logging.StreamHandler", "level": "INFO"}},
            "root": {"handlers": ["console"], "level": "WARNING"},
        },
    }
    return "".join(f"{name} = {value!r}\n" for name, value in settings.items())
