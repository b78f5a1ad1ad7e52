"""The keys of a service whose short form is a language of its own: ports, volumes and what else has two forms."""

from __future__ import annotations

import re
from typing import Any

from nova_docker_compose import forms
from nova_docker_compose.errors import Where
from nova_docker_compose.forms import Form, duration, items, map_of, number, one_of, record, text, texts, truth, whole

_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9]+(?:\.[0-9]+){3}):)?(?:(?P<published>[0-9]+(?:-[0-9]+)?)?:)?"
    r"(?P<target>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>[a-z]+))?"
)
_MOST_PORTS = 1000

_long_port = record(
    {
        "name": text,
        "mode": one_of("host", "ingress"),
        "host_ip": text,
        "target": whole,
        "published": text,
        "protocol": one_of("tcp", "udp", "sctp"),
        "app_protocol": text,
    },
    needed=("target",),
)


def ports(value: Any, where: Where) -> list[dict[str, Any]]:
    """Ports, one entry for each of a range."""
    if not isinstance(value, list):
        raise where.wrong(f"it is {forms.kind_of(value)}, and must be a list")
    made: list[dict[str, Any]] = []
    for place, item in enumerate(value):
        at = where.at(place)
        if isinstance(item, dict):
            made.append({"mode": "ingress", "protocol": "tcp", **_long_port(item, at)})
        else:
            made += _short_ports(text(item, at), at)
        if len(made) > _MOST_PORTS:
            raise where.wrong(f"more than {_MOST_PORTS} ports")
        for port in made[-1:]:
            _check_port(port, at)
    return made


def _check_port(port: dict[str, Any], where: Where) -> None:
    published = port.get("published", "0")
    if not re.fullmatch("[0-9]{1,5}(-[0-9]{1,5})?", published):
        raise where.wrong("what is published is a port or a range of ports up to 65535")
    if not 1 <= port["target"] <= 65535 or any(int(each) > 65535 for each in published.split("-")):
        raise where.wrong("a port is a number from 1 to 65535")
    first, _, last = published.partition("-")
    if int(last or first) < int(first):
        raise where.wrong(f"{published} ends before it begins")


def _span(shown: str) -> range:
    first, _, last = shown.partition("-")
    return range(int(first), int(last or first) + 1)


def _short_ports(shown: str, where: Where) -> list[dict[str, Any]]:
    match = _PORT.fullmatch(shown)
    if match is None or match["protocol"] not in (None, "tcp", "udp", "sctp"):
        raise where.wrong(f"{shown!r} is no [[IP:]PUBLISHED:]TARGET[/PROTOCOL]")
    if any(int(digits[:6]) > 65535 for digits in re.findall("[0-9]{5,}", shown)):
        raise where.wrong("a port is a number from 1 to 65535")
    targets = _span(match["target"])
    base: dict[str, Any] = {"mode": "ingress", "protocol": match["protocol"] or "tcp"}
    if match["ip"]:
        base["host_ip"] = match["ip"].strip("[]")
    published = match["published"]
    if published is None:
        return [{**base, "target": target} for target in targets]
    if len(targets) == 1:
        return [{**base, "target": targets[0], "published": published}]
    if not targets or len(_span(published)) != len(targets):
        raise where.wrong(f"{shown!r} has ranges of different lengths")
    return [
        {**base, "target": target, "published": str(outer)}
        for target, outer in zip(targets, _span(published), strict=True)
    ]


_long_volume = record(
    {
        "type": one_of("bind", "volume", "tmpfs", "cluster", "npipe", "image"),
        "source": text,
        "target": text,
        "read_only": truth,
        "consistency": text,
        "bind": record(
            {
                "propagation": text,
                "create_host_path": truth,
                "recursive": one_of("enabled", "disabled", "writable", "readonly"),
                "selinux": one_of("z", "Z"),
            }
        ),
        "volume": record({"labels": forms.labels, "nocopy": truth, "subpath": text}),
        "tmpfs": record({"size": forms.size, "mode": forms.mode}),
        "image": record({"subpath": text}),
    },
    needed=("type", "target"),
)


def volume(value: Any, where: Where) -> dict[str, Any]:
    """What is mounted. Sources of files are still as the file has them."""
    if isinstance(value, dict):
        made: dict[str, Any] = _long_volume(value, where)
        if made["type"] == "volume":
            made.setdefault("volume", {})
        return made
    source, target, options = _short_volume(text(value, where), where)
    if source is not None and source[:1] in (".", "/", "~"):
        made = {"type": "bind", "source": source, "target": target, "bind": {"create_host_path": True}}
    else:
        made = {"type": "volume", "target": target, "volume": {}}
        if source is not None:
            made["source"] = source
    for option in options:
        if option == "ro":
            made["read_only"] = True
        elif option in ("z", "Z") and made["type"] == "bind":
            made["bind"]["selinux"] = option
        elif option == "nocopy" and made["type"] == "volume":
            made["volume"]["nocopy"] = True
        elif option not in ("rw", "z", "Z"):
            raise where.wrong(f"{option!r} is no way to mount a volume")
    return made


def _short_volume(shown: str, where: Where) -> tuple[str | None, str, list[str]]:
    parts = shown.split(":")
    if len(parts) > 3 or not all(parts):
        raise where.wrong(f"{shown!r} is no [SOURCE:]TARGET[:MODE]")
    if len(parts) == 1:
        return None, parts[0], []
    return parts[0], parts[1], parts[2].split(",") if len(parts) == 3 else []


def file_reference(directory: str) -> Form:
    """A secret or a config of a service. `directory` is where a target without one is."""
    long = record({"source": text, "target": text, "uid": text, "gid": text, "mode": forms.mode}, needed=("source",))

    def form(value: Any, where: Where) -> dict[str, Any]:
        made: dict[str, Any] = long(value if isinstance(value, dict) else {"source": text(value, where)}, where)
        if directory and "/" not in made.get("target", ""):
            made["target"] = f"{directory}/{made.get('target', made['source'])}"
        return made

    return form


def depends_on(value: Any, where: Where) -> dict[str, Any]:
    """Services, each with what it has to have come to."""
    if isinstance(value, list):
        value = {name: {} for name in texts(value, where)}
    conditions = one_of("service_started", "service_healthy", "service_completed_successfully")
    long = record({"condition": conditions, "required": truth, "restart": truth})
    made: dict[str, Any] = map_of(
        lambda item, at: {"condition": "service_started", "required": True, **long(item or {}, at)}
    )(value, where)
    return made


def networks(value: Any, where: Where) -> dict[str, Any]:
    """Networks, None where nothing more is said."""
    if isinstance(value, list):
        return dict.fromkeys(texts(value, where))
    long = record(
        {
            "aliases": texts,
            "interface_name": text,
            "ipv4_address": text,
            "ipv6_address": text,
            "link_local_ips": texts,
            "mac_address": text,
            "driver_opts": map_of(text),
            "priority": number,
            "gw_priority": number,
        }
    )
    made: dict[str, Any] = map_of(lambda item, at: None if item is None else long(item, at))(value, where)
    return made


def healthcheck(value: Any, where: Where) -> dict[str, Any]:
    """A check; a test that is a text runs in a shell."""
    made: dict[str, Any] = record(
        {
            "disable": truth,
            "test": lambda test, at: texts(test, at) if isinstance(test, list) else ["CMD-SHELL", text(test, at)],
            "interval": duration,
            "timeout": duration,
            "start_period": duration,
            "start_interval": duration,
            "retries": whole,
        }
    )(value, where)
    test = made.get("test")
    if isinstance(test, list) and test[:1] not in (["NONE"], ["CMD"], ["CMD-SHELL"]):
        raise where.at("test").wrong("its first word must be NONE, CMD or CMD-SHELL")
    return made


def ulimits(value: Any, where: Where) -> dict[str, Any]:
    """Limits: a number, or soft and hard."""
    both = record({"soft": whole, "hard": whole}, needed=("soft", "hard"))
    made: dict[str, Any] = map_of(lambda item, at: both(item, at) if isinstance(item, dict) else whole(item, at))(
        value, where
    )
    return made


def device(value: Any, where: Where) -> dict[str, Any]:
    """SOURCE[:TARGET[:PERMISSIONS]]."""
    long = record({"source": text, "target": text, "permissions": text}, needed=("source",))
    if not isinstance(value, dict):
        source, _, rest = text(value, where).partition(":")
        target, _, permissions = rest.partition(":")
        value = {"source": source, "target": target or source, "permissions": permissions or "rwm"}
    made: dict[str, Any] = long(value, where)
    return made


def env_file(value: Any, where: Where) -> list[dict[str, Any]]:
    """Files of variables."""
    long = record({"path": text, "format": one_of("raw"), "required": truth}, needed=("path",))
    listed = value if isinstance(value, list) else [value]
    made: list[dict[str, Any]] = items(
        lambda item, at: {"required": True, **long(item if isinstance(item, dict) else {"path": text(item, at)}, at)}
    )(listed, where)
    return made


def extends(value: Any, where: Where) -> dict[str, Any]:
    """The service that this one continues."""
    made: dict[str, Any] = record({"service": text, "file": text}, needed=("service",))(
        value if isinstance(value, dict) else {"service": text(value, where)}, where
    )
    return made


def _words(value: Any, where: Where) -> list[str]:
    made = forms.command(value, where)
    if not made or not made[0]:
        raise where.wrong("it is empty")
    return made


hook = record(
    {"command": _words, "user": text, "privileged": truth, "working_dir": text, "environment": forms.pairs},
    needed=("command",),
)

_devices = items(
    record(
        {
            "capabilities": texts,
            "count": lambda value, where: "all" if value == "all" else whole(value, where),
            "device_ids": texts,
            "driver": text,
            "options": forms.pairs,
        }
    )
)


def gpus(value: Any, where: Where) -> Any:
    """`all`, or a list of what is wanted."""
    return "all" if value == "all" else _devices(value, where)


_change = record(
    {
        "parallelism": whole,
        "delay": duration,
        "failure_action": text,
        "monitor": duration,
        "max_failure_ratio": number,
        "order": one_of("start-first", "stop-first"),
    }
)
_resource = record({"discrete_resource_spec": record({"kind": text, "value": number})})

deploy = record(
    {
        "mode": one_of("replicated", "global", "replicated-job", "global-job"),
        "endpoint_mode": text,
        "replicas": whole,
        "labels": forms.labels,
        "rollback_config": _change,
        "update_config": _change,
        "resources": record(
            {
                "limits": record({"cpus": number, "memory": forms.size, "pids": whole}),
                "reservations": record(
                    {
                        "cpus": number,
                        "memory": forms.size,
                        "generic_resources": items(_resource),
                        "devices": _devices,
                    }
                ),
            }
        ),
        "restart_policy": record({"condition": text, "delay": duration, "max_attempts": whole, "window": duration}),
        "placement": record(
            {"constraints": texts, "preferences": items(record({"spread": text})), "max_replicas_per_node": whole}
        ),
    }
)

_build = record(
    {
        **dict.fromkeys(("context", "dockerfile", "dockerfile_inline", "network", "target", "isolation"), text),
        **dict.fromkeys(("entitlements", "cache_from", "cache_to", "tags", "platforms"), texts),
        **dict.fromkeys(("args", "ssh", "additional_contexts"), forms.pairs),
        **dict.fromkeys(("no_cache", "pull", "privileged"), truth),
        **dict.fromkeys(("provenance", "sbom"), text),
        "labels": forms.labels,
        "shm_size": forms.size,
        "extra_hosts": forms.hosts,
        "secrets": items(file_reference("")),
        "ulimits": ulimits,
    }
)


def build(value: Any, where: Where) -> dict[str, Any]:
    """How an image is built."""
    made: dict[str, Any] = _build(value if isinstance(value, dict) else {"context": text(value, where)}, where)
    if "dockerfile_inline" not in made:
        made.setdefault("dockerfile", "Dockerfile")
    return made


def restart(value: Any, where: Where) -> str:
    """When a container that ended runs again."""
    made = text(value, where) if value is not False else "no"
    if not re.fullmatch(r"no|always|unless-stopped|on-failure(:[0-9]{1,6})?", made):
        raise where.wrong("it must be no, always, unless-stopped, on-failure or on-failure:TIMES")
    return made
