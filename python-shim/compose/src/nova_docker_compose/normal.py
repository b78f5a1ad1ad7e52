"""What a model leaves unsaid: profiles, files of variables, networks, names; and what does not fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nova_docker_compose import dotenv
from nova_docker_compose.documents import Model, read_file, shown_path
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project, Service, needed_by, replicas

_TWICE = (
    ("cpus", ("limits", "cpus")),
    ("mem_limit", ("limits", "memory")),
    ("pids_limit", ("limits", "pids")),
    ("mem_reservation", ("reservations", "memory")),
)
"""Keys that say the same as one of deploy.resources."""


def normalize(
    model: Model,
    name: str,
    directory: Path,
    variables: Mapping[str, str],
    profiles: Sequence[str],
    named: Sequence[str],
) -> Project:
    """The project of a merged model. Raises ComposeError."""
    everything: dict[str, Service] = model.get("services") or {}
    if not everything:
        raise ComposeError("there are no services")
    chosen = _of_profiles(everything, profiles, named)
    mistakes: list[str] = []
    for service_name, service in chosen.items():
        mistakes += [f"services.{service_name}: {problem}" for problem in _complete(service, variables)]
        mistakes += [f"services.{service_name}.{problem}" for problem in _unknown(service, model, everything, chosen)]
    project = Project(
        name,
        directory,
        chosen,
        networks=_networks(model, name, chosen),
        volumes=_named(_used(model, "volumes", chosen), name),
        secrets=_named(_used(model, "secrets", chosen), name),
        configs=_named(_used(model, "configs", chosen), name),
        disabled=[each for each in everything if each not in chosen],
        variables=variables,
        extensions={key: value for key, value in model.items() if key.startswith("x-")},
    )
    mistakes += [f"services.{service_name}: {problem}" for service_name, problem in _contents(project, variables)]
    if mistakes:
        raise ComposeError("\n".join(mistakes))
    project.order()
    return project


def _of_profiles(services: dict[str, Service], profiles: Sequence[str], named: Sequence[str]) -> dict[str, Service]:
    active = set(profiles)
    for name in named:
        active |= set(services.get(name, {}).get("profiles", []))
    return {
        name: service
        for name, service in services.items()
        if not service.get("profiles") or "*" in active or active & set(service["profiles"]) or name in named
    }


def _complete(service: Service, variables: Mapping[str, str]) -> list[str]:
    """Fills in what a service reads from files and the environment; returns what is wrong."""
    problems = []
    try:
        environment = _from_files(service.pop("env_file", []), variables)
        labels = _from_files([{"path": path, "required": True} for path in service.pop("label_file", [])], variables)
    except ComposeError as error:
        return [str(error)]
    environment.update(service.get("environment", {}))
    for name, value in environment.items():
        if value is None and name in variables:
            environment[name] = variables[name]
    for key, made in (("environment", environment), ("labels", {**labels, **service.get("labels", {})})):
        if made:
            service[key] = made
    if "network_mode" in service and service.get("networks"):
        problems.append("network_mode and networks exclude each other")
    elif "network_mode" not in service and not service.get("networks"):
        service["networks"] = {"default": None}
    if not service.get("image") and not service.get("build"):
        problems.append("it has neither image nor build")
    resources = service.get("deploy", {}).get("resources", {})
    for key, (half, other) in _TWICE:
        there = resources.get(half, {}).get(other)
        if key in service and there is not None and float(service[key]) != float(there):
            problems.append(f"{key} and deploy.resources.{half}.{other} say different things")
    counts = {each for each in (service.get("scale"), service.get("deploy", {}).get("replicas")) if each is not None}
    if len(counts) > 1:
        problems.append("scale and deploy.replicas say different things")
    if not 0 <= replicas(service) <= 1000:
        problems.append("there are 0 to 1000 replicas")
    if service.get("container_name") and replicas(service) > 1:
        problems.append("container_name: several replicas cannot have one name")
    return problems


def _from_files(files: list[dict[str, Any]], variables: Mapping[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for file in files:
        path = Path(file["path"])
        if not file.get("required", True) and not path.exists():
            continue
        text = read_file(path, shown_path(path)).decode("utf-8", "replace")
        try:
            if file.get("format") == "raw":
                made.update(dotenv.parse_raw(text))
            else:
                known = {key: value for key, value in made.items() if value is not None}
                made.update(dotenv.parse(text, {**known, **variables}))
        except dotenv.BadLine as error:
            raise ComposeError(f"{shown_path(path)}: {error}") from error
    return made


def _unknown(service: Service, model: Model, all_services: dict[str, Service], chosen: dict[str, Service]) -> list[str]:
    """References to what is not there."""
    problems = []

    def check(key: str, name: str, section: str) -> None:
        if name not in (model.get(section) or {}):
            problems.append(f"{key}: there is no {name} below {section}")

    for network in service.get("networks", {}):
        if network != "default":
            check("networks", network, "networks")
    for volume in service.get("volumes", []):
        if volume["type"] == "volume" and volume.get("source"):
            check("volumes", volume["source"], "volumes")
    for kind in ("secrets", "configs"):
        for reference in service.get(kind, []):
            check(kind, reference["source"], kind)
    for other in list(service.get("depends_on", {})):
        if other not in chosen and not service["depends_on"][other]["required"]:
            del service["depends_on"][other]
    for other in needed_by(service):
        if other not in all_services:
            problems.append(f"depends_on: there is no service {other}")
        elif other not in chosen:
            problems.append(f"depends_on: no active profile has the service {other}")
    return problems


def _named(section: dict[str, Any], project: str) -> dict[str, dict[str, Any]]:
    return {key: _with_name(part, key, project) for key, part in section.items()}


def _with_name(part: dict[str, Any], key: str, project: str) -> dict[str, Any]:
    external = part.get("external")
    if isinstance(external, dict):
        part = {**part, "external": True, "name": part.get("name", external.get("name", key))}
    elif external is False:
        part = {name: value for name, value in part.items() if name != "external"}
    return {"name": key if part.get("external") else f"{project}_{key}", **part}


def _used(model: Model, section: str, services: dict[str, Service]) -> dict[str, Any]:
    used = {entry.get("source") for service in services.values() for entry in service.get(section, [])}
    return {key: part for key, part in (model.get(section) or {}).items() if key in used}


def _networks(model: Model, project: str, services: dict[str, Service]) -> dict[str, dict[str, Any]]:
    used = {network for service in services.values() for network in service.get("networks", {})}
    if any(service.get("network_mode") == "bridge" for service in services.values()):
        used.add("default")
    said = dict(model.get("networks") or {})
    if "default" in used:
        said.setdefault("default", {})
    return _named({key: part for key, part in said.items() if key in used}, project)


def _contents(project: Project, variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """Secrets and configs that services use must say where their content is."""
    problems = []
    for name, service in project.services.items():
        for kind in ("secrets", "configs"):
            for reference in service.get(kind, []):
                part = getattr(project, kind).get(reference["source"])
                ways = [key for key in ("file", "environment", "content", "external") if part and key in part]
                if part is not None and len(ways) != 1:
                    problems.append((name, f"{kind}.{reference['source']}: it needs one of file, environment, content"))
    return problems
