"""What the agent takes of a service, in user data that begins with `#container-config`."""

from __future__ import annotations

import base64
import math
import re
from typing import Any

from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Service, as_plain_yaml

BEGINNING = "#container-config\n"
TAKES = (
    "cap_drop",
    "command",
    "configs",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "environment",
    "external_links",
    "extra_hosts",
    "group_add",
    "healthcheck",
    "init",
    "labels",
    "logging",
    "oom_score_adj",
    "pids_limit",
    "read_only",
    "restart",
    "secrets",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
)
"""The keys of a service that the agent takes in user data: the one place that says so."""

_MOST_BYTES = 65535
"""Of user data in base64, in Nova's API."""
_MADE = ("volumes", "tmpfs", "extra_hosts", "external_links", "configs", "secrets", "logging")
LOG_DRIVER = "json-file"
LOG_OPTIONS = ("max-size", "max-file")
_LOG_BOUNDS = {"max-size": (16 << 10, math.inf), "max-file": (1, 100)}
_SIZE = re.compile("([0-9]{1,18})([kmg]?)b?", re.IGNORECASE)
_TMPFS_SIZE = re.compile("(?:^|,)size=([^,]+)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_CHECK = ("test", "interval", "timeout", "retries", "start_period", "disable")


def configuration(
    service: Service,
    volumes: list[str],
    given: dict[str, Any],
    hosts: dict[str, list[str]],
    oneshot: bool = False,
    privileges: dict[str, Any] | None = None,
    specs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The service as the agent reads it.

    `volumes` are NAME:PATH[:ro], `given` configs and secrets with their contents, `hosts` more names for /etc/hosts.
    `oneshot`: it is to end by itself, which then is no failed launch. `privileges`: what it chooses of those that the
    flavor lets it have. `specs` are the flavor's: of a log no more is kept than they say.
    """
    made = {key: service[key] for key in TAKES if key in service and key not in _MADE}
    if "environment" in made:
        made["environment"] = {name: value for name, value in made["environment"].items() if value is not None}
    if "healthcheck" in made:
        made["healthcheck"] = {key: value for key, value in made["healthcheck"].items() if key in _CHECK}
    pids = service.get("deploy", {}).get("resources", {}).get("limits", {}).get("pids")
    if pids is not None:
        made["pids_limit"] = pids
    made["tmpfs"] = [*service.get("tmpfs", []), *_directories_in_memory(service)]
    made["volumes"] = volumes
    # The agent's links are to any server; those of Compose are among extra_hosts.
    made["links"] = service.get("external_links", [])
    made["logging"] = _logging(service.get("logging", {}), specs or {})
    made.update(given)
    made.update(privileges or {})
    if oneshot:
        made["oneshot"] = True
    made["extra_hosts"] = {**hosts, **service.get("extra_hosts", {})}
    empty = {key for key, value in made.items() if value in ([], {}) and key not in ("command", "entrypoint")}
    return {key: value for key, value in made.items() if key not in empty}


def _logging(said: dict[str, Any], specs: dict[str, Any]) -> dict[str, Any]:
    if said.get("driver", LOG_DRIVER) != LOG_DRIVER:
        return {}
    options = {}
    for name, value in said.get("options", {}).items():
        asked = log_bound(name, value)
        most = log_bound(name, specs.get(f"docker:logging:{name}", ""))
        if asked is not None:
            options[name] = value if most is None or asked <= most else specs[f"docker:logging:{name}"]
    return {"options": options} if options else {}


def log_bound(option: str, value: object) -> int | None:
    """Bytes or files that a setting of a log says; None where the agent does not take it."""
    text = str(value).strip()
    found = _SIZE.fullmatch(text)
    if option not in LOG_OPTIONS or not found or (option == "max-file" and not text.isdecimal()):
        return None
    bound = int(found[1]) * _UNITS[found[2].lower()]
    least, most = _LOG_BOUNDS[option]
    return bound if least <= bound <= most else None


def _directories_in_memory(service: Service) -> list[str]:
    found = []
    for volume in service.get("volumes", []):
        if volume["type"] == "tmpfs":
            size = volume.get("tmpfs", {}).get("size")
            found.append(volume["target"] + (f":size={size}" if size else ""))
    return found


def largest_in_memory(service: Service) -> int:
    """The bytes of the largest file system in memory that a service asks for: the flavor has to have them."""
    sizes = [str(service.get("shm_size") or 0)]
    for mount in [*service.get("tmpfs", []), *_directories_in_memory(service)]:
        sizes += _TMPFS_SIZE.findall(mount.partition(":")[2])
    # What is no size is the agent's to refuse.
    return max(int(match[1]) * _UNITS[match[2].lower()] for each in sizes if (match := _SIZE.fullmatch(each)))


def user_data(configuration: dict[str, Any]) -> str | None:
    """The same for Nova's API; None where there is nothing to say. Raises ComposeError if it is too long."""
    if not configuration:
        return None
    made = base64.b64encode((BEGINNING + as_plain_yaml(configuration)).encode()).decode()
    if len(made) > _MOST_BYTES:
        raise ComposeError(f"its configuration has {len(made)} bytes in base64; user data has at most {_MOST_BYTES}")
    return made
