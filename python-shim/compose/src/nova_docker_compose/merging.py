"""Lays Compose files over each other, in their long forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nova_docker_compose.reader import Override, Reset

_REPLACED = {"command", "entrypoint", "test"}
"""Lists whose latest words stand."""
_NOT_UNIQUE = {"dns", "dns_search", "env_file", "tmpfs"}
_IDENTITY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ports": lambda port: (port.get("host_ip"), port["target"], port.get("published"), port["protocol"]),
    "volumes": lambda volume: volume["target"],
    "devices": lambda device: device.get("target", id(device)),
    "secrets": lambda secret: secret.get("target"),
    "configs": lambda config: config.get("target", config["source"]),
}
"""Lists of entries that are one when this is equal."""


def merge(base: Any, over: Any, key: str = "") -> Any:
    """What `over` makes of `base`. Neither is changed."""
    if isinstance(over, Override):
        return settled(over)
    if isinstance(base, dict) and isinstance(over, dict):
        if key == "logging" and base.get("driver", over.get("driver")) != over.get("driver", base.get("driver")):
            return settled(over)
        return _merged_maps(base, over)
    if isinstance(base, list) and isinstance(over, list) and key not in _REPLACED:
        return _merged_lists(base, settled(over), key)
    return settled(over)


def _merged_maps(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    made = dict(base)
    for name, value in over.items():
        if isinstance(value, Reset):
            made.pop(name, None)
        elif name in made and made[name] is not None:
            made[name] = (
                made[name] if value is None and isinstance(made[name], dict) else merge(made[name], value, name)
            )
        else:
            made[name] = settled(value)
    return made


def _merged_lists(base: list[Any], over: list[Any], key: str) -> list[Any]:
    identity = _IDENTITY.get(key)
    if identity is not None and all(isinstance(entry, dict) for entry in (*base, *over)):
        made = {identity(entry): entry for entry in base}
        for entry in over:
            # A volume of another kind has other parts.
            same = made.get(identity(entry))
            fits = same is not None and same.get("type") == entry.get("type")
            made[identity(entry)] = merge(same, entry) if fits else entry
        return list(made.values())
    if key in _NOT_UNIQUE:
        return [*base, *over]
    return [*base, *(entry for entry in over if entry not in base)]


def settled(value: Any) -> Any:
    """The value without the marks of `!reset` and `!override`, which have nothing to lay over."""
    if isinstance(value, Override):
        return settled(value.value)
    if isinstance(value, dict):
        return {name: settled(item) for name, item in value.items() if not isinstance(item, Reset)}
    if isinstance(value, list):
        return [settled(item) for item in value if not isinstance(item, Reset)]
    return None if isinstance(value, Reset) else value
