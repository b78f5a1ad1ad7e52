"""An application as its files say it, in Compose's long form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nova_docker_compose.errors import ComposeError

Service = dict[str, Any]
HEALTHY = "service_healthy"
COMPLETED = "service_completed_successfully"
"""Conditions of `depends_on`, beside `service_started`."""
POST_START = "post_start"
PRE_STOP = "pre_stop"
"""Commands of a service, after a start and before a stop."""


@dataclass
class Project:
    """The services that profiles leave, and what they use."""

    name: str
    directory: Path
    services: dict[str, Service]
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    extensions: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    """Services that no active profile has."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What configs and secrets of the environment are read from."""

    def canonical(self) -> dict[str, Any]:
        """What `config` prints."""
        sections = {key: getattr(self, key) for key in ("networks", "volumes", "secrets", "configs")}
        services = {name: _shown(service) for name, service in sorted(self.services.items())}
        made: dict[str, Any] = {"name": self.name, "services": services}
        made.update({key: value for key, value in sections.items() if value})
        escaped: dict[str, Any] = _escaped({**made, **self.extensions})
        return escaped

    def as_yaml(self) -> str:
        """The canonical form, which `config` reads again as the same."""
        return str(yaml.dump(self.canonical(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True))

    def as_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.canonical(), indent=2, ensure_ascii=False)

    def named(self, names: Iterable[str]) -> list[str]:
        """These services, or all, each after those that it needs. Raises ComposeError for one that is not there."""
        chosen = list(names) or list(self.services)
        for name in chosen:
            if name not in self.services:
                raise ComposeError(f"no such service: {name}")
        return [name for name in self.order() if name in chosen]

    def with_needed(self, names: Iterable[str]) -> list[str]:
        """These services and all that they need, in order."""
        wanted = self.named(names)
        for name in wanted:
            wanted += [other for other in needed_by(self.services[name]) if other not in wanted]
        return self.named(wanted)

    def order(self) -> list[str]:
        """All services, each after those that it needs. Raises ComposeError where they need each other."""
        done: list[str] = []
        # Without recursion: a hostile file has long chains.
        waiting = {
            name: [each for each in needed_by(service) if each in self.services]
            for name, service in self.services.items()
        }
        while waiting:
            ready = [name for name, others in waiting.items() if not any(other in waiting for other in others)]
            if not ready:
                raise ComposeError(f"services need each other in a circle: {', '.join(sorted(waiting))}")
            done += ready
            waiting = {name: others for name, others in waiting.items() if name not in ready}
        return done


def image_of(project: Project, name: str) -> str:
    """The name of a service's image; one that is only built gets Compose's."""
    return str(project.services[name].get("image") or f"{project.name}-{name}")


def has_check(service: Service) -> bool:
    """Whether somebody asks its containers how they are."""
    check = service.get("healthcheck", {})
    return bool(check.get("test")) and check["test"][:1] != ["NONE"] and not check.get("disable")


def needed_by(service: Service) -> list[str]:
    """The services that start before this one."""
    found = [*service.get("depends_on", {}), *(link.partition(":")[0] for link in service.get("links", []))]
    found += [each.partition(":")[0] for each in service.get("volumes_from", []) if not each.startswith("container:")]
    if str(service.get("network_mode", "")).startswith("service:"):
        found.append(service["network_mode"].partition(":")[2])
    return list(dict.fromkeys(found))


def replicas(service: Service) -> int:
    """How many servers a service wants."""
    return int(service.get("scale", service.get("deploy", {}).get("replicas", 1)))


def _shown(service: Service) -> Service:
    made = {key: value for key, value in sorted(service.items()) if value not in ([], {})}
    if "extra_hosts" in made:
        hosts = made["extra_hosts"]
        made["extra_hosts"] = [f"{name}={address}" for name, addresses in hosts.items() for address in addresses]
    return made


class _Dumper(yaml.SafeDumper):
    """Writes texts so that readers of YAML 1.1 and 1.2 alike read the same."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_DOUBTFUL = re.compile(r"[-+.0-9].*|(?i:y|n|yes|no|on|off|true|false|null)|~|")


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _DOUBTFUL.fullmatch(text) else ("|" if "\n" in text else None)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def as_plain_yaml(value: Any) -> str:
    """Any value as YAML without anchors and aliases."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=True, width=120, allow_unicode=True))


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value
