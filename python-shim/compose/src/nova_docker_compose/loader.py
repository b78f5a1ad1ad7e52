"""Makes a project of Compose files, as `docker compose config` does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nova_docker_compose import dotenv
from nova_docker_compose.documents import Documents, Model, read_file, shown_path
from nova_docker_compose.errors import ComposeError, NoFile
from nova_docker_compose.merging import merge, settled
from nova_docker_compose.normal import normalize
from nova_docker_compose.project import Project

USUAL_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml", "fig.yml", "fig.yaml")
_MOST_INCLUDES = 20
_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_SECTIONS = ("services", "networks", "volumes", "secrets", "configs")


@dataclass
class Request:
    """What the user has asked for; the rest is found."""

    files: Sequence[str] = ()
    project_name: str | None = None
    directory: str | None = None
    env_files: Sequence[str] = ()
    profiles: Sequence[str] = ()
    services: Sequence[str] = ()
    """Named on the command line; their profiles count as chosen."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    here: Path = field(default_factory=Path.cwd)


def load(request: Request) -> Project:
    """The project. Raises ComposeError with all mistakes of the file in which there are any."""
    paths = _files(request)
    directory = (request.here / request.directory).resolve() if request.directory else paths[0].parent
    variables = _variables(request, directory)
    documents = Documents(variables)
    name = project_name(request, directory, variables, documents, paths)
    documents = Documents({**variables, "COMPOSE_PROJECT_NAME": name})
    model = _merged(documents, paths, directory)
    warnings = list(documents.warnings)
    model = _included(model, directory, documents.variables, warnings, [*paths])
    profiles = list(request.profiles) or [each for each in variables.get("COMPOSE_PROFILES", "").split(",") if each]
    project = normalize(model, name, directory, documents.variables, profiles, request.services)
    project.warnings[:0] = warnings
    return project


def project_name(
    request: Request,
    directory: Path,
    variables: Mapping[str, str],
    documents: Documents | None = None,
    paths: Sequence[Path] = (),
) -> str:
    """The option's, the environment's, the file's, or the directory's. Raises ComposeError."""
    for given in (request.project_name, variables.get("COMPOSE_PROJECT_NAME")):
        if given:
            if not _PROJECT_NAME.fullmatch(given):
                raise ComposeError(
                    f"the project name {given!r} must have at most 41 small letters, digits, dashes and underscores,"
                    " and begin with a letter or digit"
                )
            return given
    named = [name for path in paths if documents and (name := documents.name_of(path))]
    found = named[-1] if named else directory.name
    usable = re.sub(r"[^a-z0-9_-]", "", found.lower()).lstrip("_-")[:41]
    if not usable:
        raise ComposeError("the project has no name: give --project-name")
    return usable


def name_without_files(request: Request) -> str:
    """The project's name for commands that need no file; where there is one, it counts."""
    try:
        paths = _files(request)
    except ComposeError:
        paths = []
    directory = paths[0].parent if paths else request.here
    variables = _variables(request, directory)
    return project_name(request, directory, variables, Documents(variables), paths)


def _files(request: Request) -> list[Path]:
    names = list(request.files)
    if not names and request.environment.get("COMPOSE_FILE"):
        separator = request.environment.get("COMPOSE_PATH_SEPARATOR", os.pathsep)
        names = [name for name in request.environment["COMPOSE_FILE"].split(separator) if name]
    if names:
        return [Path(os.path.normpath(request.here / name)) for name in names]
    start = (request.here / request.directory).resolve() if request.directory else request.here
    for folder in (start, *start.parents):
        for name in USUAL_FILES:
            if (folder / name).is_file():
                return [folder / name, *_overrides(folder, name)]
    raise NoFile(f"no {', '.join(USUAL_FILES)} in {start} or above: give --file")


def _overrides(folder: Path, name: str) -> list[Path]:
    stem = name.partition(".")[0]
    found = [folder / f"{stem}.override.{ending}" for ending in ("yaml", "yml")]
    return [path for path in found if path.is_file()][:1]


def _variables(request: Request, directory: Path) -> dict[str, str]:
    """The environment's over those of .env or of the files that were named."""
    files = [request.here / name for name in request.env_files]
    if not files and (directory / ".env").is_file():
        files = [directory / ".env"]
    return {**_read_env(files, request.environment), **request.environment}


def _read_env(files: Iterable[Path], outside: Mapping[str, str]) -> dict[str, str]:
    made: dict[str, str] = {}
    for path in files:
        try:
            parsed = dotenv.parse(read_file(path, shown_path(path)).decode(), {**made, **outside})
        except (dotenv.BadLine, UnicodeDecodeError) as error:
            raise ComposeError(f"{shown_path(path)}: {error}") from error
        made.update({name: value for name, value in parsed.items() if value is not None})
    return made


def _merged(documents: Documents, paths: Sequence[Path], directory: Path) -> Model:
    model: Model = {}
    for path in paths:
        model = merge(model, documents.model(path, directory))
    made: Model = settled(model)
    return made


def _included(
    model: Model, directory: Path, variables: Mapping[str, str], warnings: list[str], chain: list[Path]
) -> Model:
    """The model with what it includes. Ours stays where names are the same."""
    for entry in model.get("include", []):
        paths = [Path(os.path.normpath(directory / path)) for path in entry["path"]]
        if set(paths) & set(chain) or len(chain) > _MOST_INCLUDES:
            raise ComposeError(f"include: {shown_path(paths[0])} is included by itself, or there are too many files")
        folder = paths[0].parent
        if "project_directory" in entry:
            folder = Path(os.path.normpath(directory / entry["project_directory"]))
        files = [directory / name for name in entry.get("env_file", [])]
        if not files and (folder / ".env").is_file():
            files = [folder / ".env"]
        documents = Documents({**_read_env(files, variables), **variables})
        other = _merged(documents, paths, folder)
        warnings += documents.warnings
        other = _included(other, folder, documents.variables, warnings, [*chain, *paths])
        model = _joined(model, other, shown_path(paths[0]), warnings)
    return model


def _joined(model: Model, other: Model, name: str, warnings: list[str]) -> Model:
    made = dict(model)
    for section in _SECTIONS:
        mine: dict[str, Any] = made.get(section) or {}
        theirs: dict[str, Any] = other.get(section) or {}
        both = [each for each in theirs if each in mine and mine[each] != theirs[each]]
        warnings += [f"{name}: {section}.{each} is left out: the file that includes it has one too" for each in both]
        if mine or theirs:
            made[section] = {**theirs, **mine}
    return made
