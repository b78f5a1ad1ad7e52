"""fig.yml of 2014: services at the top, no version, one network."""

from __future__ import annotations

from typing import Any

from nova_docker_compose.errors import Where
from nova_docker_compose.keys import TOP

_RENAMED = {"net": "network_mode"}
_REFUSED = {"volume_driver": "a volume is a directory of the server's host"}


def is_fig(document: Any) -> bool:
    """Whether a document is of that time. Only services that say what they run are taken for it."""
    if not isinstance(document, dict) or not document or set(document) & (set(TOP) - {"models"}):
        return False
    services = [value for key, value in document.items() if not key.startswith("x-")]
    return all(isinstance(value, dict) for value in services) and any(
        {"image", "build", "extends"} & set(value) for value in services
    )


def modern(document: dict[str, Any], where: Where) -> dict[str, Any]:
    """The same as today's file. The lines of its services are those of the old one."""
    lines = where.source.lines
    lines.update({("services", *path): line for path, line in list(lines.items())})
    services = {name: _service(value, where.at("services").at(name)) for name, value in document.items()}
    volumes = {
        source: {"name": source}
        for service in services.values()
        for volume in (service.get("volumes") if isinstance(service.get("volumes"), list) else []) or []
        if (source := _named(volume))
    }
    return {"services": services, **({"volumes": volumes} if volumes else {})}


def _named(volume: Any) -> str | None:
    source, colon, _ = str(volume).partition(":")
    return source if colon and source[:1] not in ("/", ".", "~", "$") else None


def _service(old: dict[str, Any], where: Where) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in old.items():
        if key in _REFUSED:
            raise where.at(key).wrong(_REFUSED[key])
        if key not in ("dockerfile", "log_driver", "log_opt"):
            made[_RENAMED.get(key, key)] = value
    if "dockerfile" in old:
        made["build"] = {"context": old.get("build", "."), "dockerfile": old["dockerfile"]}
    if "log_driver" in old or "log_opt" in old:
        logging = {"driver": old.get("log_driver"), "options": old.get("log_opt")}
        made["logging"] = {key: value for key, value in logging.items() if value is not None}
    return made
