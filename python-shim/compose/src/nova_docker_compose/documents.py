"""One Compose file as a model in the long form: its variables filled in, its paths absolute, its `extends` resolved."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nova_docker_compose import fig, keys
from nova_docker_compose.errors import ComposeError, NoFile, Source, Where, noted, raise_noted
from nova_docker_compose.forms import formed, hint, kind_of
from nova_docker_compose.interpolation import interpolate_all
from nova_docker_compose.merging import merge
from nova_docker_compose.reader import MOST_BYTES, Override, Reset, read

_SERVICE_NAME = re.compile(r"[a-zA-Z0-9._-]{1,63}")
_MOST_FILES = 100
_MOST_ENTRIES = 1000
"""Services of a file, networks and so on."""

Model = dict[str, Any]


def read_file(path: Path, shown: str) -> bytes:
    """A file of bounded size. Raises ComposeError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NoFile(f"{shown}: there is no such file") from error
    except OSError as error:
        raise ComposeError(f"{shown}: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise ComposeError(f"{shown}: more than {MOST_BYTES} bytes")
    return data


def shown_path(path: Path) -> str:
    """A path as the user writes it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


class Documents:
    """Reads files with the same variables; each is read once."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.warnings: list[str] = []
        self._raw: dict[Path, tuple[Source, Any]] = {}
        self._models: dict[tuple[Path, Path], tuple[Source, Model]] = {}

    def name_of(self, path: Path) -> str | None:
        """The name that a file gives the project."""
        source, raw = self._read(path)
        name = raw.get("name") if isinstance(raw, dict) else None
        if not isinstance(name, str):
            return None
        return str(interpolate_all(name, self.variables, Where(source, ("name",))))

    def model(self, path: Path, directory: Path) -> Model:
        """A file whose paths begin at `directory`. Raises ComposeError with all its mistakes."""
        _, model = self._checked(path, directory)
        made = dict(model)
        if isinstance(made.get("services"), dict):
            made["services"] = {
                name: service if isinstance(service, Reset) else self._extended(path, directory, name, [])
                for name, service in made["services"].items()
            }
        return made

    def _read(self, path: Path) -> tuple[Source, Any]:
        if path not in self._raw:
            if len(self._raw) >= _MOST_FILES:
                raise ComposeError(f"more than {_MOST_FILES} files")
            source = Source(shown_path(path))
            self._raw[path] = source, read(read_file(path, source.name), source)
        return self._raw[path]

    def _checked(self, path: Path, directory: Path) -> tuple[Source, Model]:
        if (path, directory) not in self._models:
            source, raw = self._read(path)
            where = Where(source)
            if not isinstance(raw, dict):
                raise where.wrong(f"it is {kind_of(raw)}, and must be a map with services")
            if fig.is_fig(raw):
                raw = fig.modern(raw, where)
            model: Model = {}
            with noted(source):
                _check_top(interpolate_all(raw, self.variables, where), where, model)
            raise_noted(source)
            _make_absolute(model, directory)
            self.warnings += [each for each in source.warnings if each not in self.warnings]
            self._models[path, directory] = source, model
        return self._models[path, directory]

    def _extended(self, path: Path, directory: Path, name: str, chain: list[tuple[Path, str]]) -> Any:
        """A service with what it extends below it."""
        source, model = self._checked(path, directory)
        where = Where(source, ("services", name, "extends"))
        service = model["services"][name]
        wrapped = isinstance(service, Override)
        inner = service.value if wrapped else service
        extends = inner.get("extends")
        if not isinstance(extends, dict):
            return service
        if (path, name) in chain or len(chain) > _MOST_FILES:
            raise where.wrong("services extend each other in a circle")
        base_path, base_directory = path, directory
        if "file" in extends:
            base_path = Path(os.path.normpath(directory / Path(extends["file"]).expanduser()))
            base_directory = base_path.parent
        _, base_model = self._checked(base_path, base_directory)
        base_name = extends["service"]
        if not isinstance((base_model.get("services") or {}).get(base_name), (dict, Override)):
            raise where.wrong(f"there is no service {base_name} in {shown_path(base_path)}")
        base = self._extended(base_path, base_directory, base_name, [*chain, (path, name)])
        mine = {key: value for key, value in inner.items() if key != "extends"}
        made = merge(base.value if isinstance(base, Override) else base, mine)
        return Override(made) if wrapped else made


def _check_top(raw: dict[str, Any], where: Where, model: Model) -> None:
    """Brings each part into its form; keeps every mistake in the source."""
    forms: dict[str, Any] = {name: keys.as_record(table) for name, table in keys.SECTIONS.items()}
    forms["services"] = keys.as_record(keys.SERVICE)
    for key, value in raw.items():
        at = where.at(key)
        if key.startswith("x-") or isinstance(value, Reset):
            model[key] = value
        elif key not in keys.TOP:
            with noted(where.source):
                raise at.wrong("there is no such key at the top of a Compose file" + hint(key, keys.TOP))
        elif key in forms:
            model[key] = {}
            with noted(where.source):
                _check_section(key, value, at, forms[key], model[key])
        elif value is not None:
            with noted(where.source):
                model[key] = formed(keys.TOP[key].form, value, at)


def _check_section(section: str, value: Any, where: Where, form: Any, made: dict[str, Any]) -> None:
    if isinstance(value, Override):
        value = value.value
    if value is None and section != "services":
        return
    if not isinstance(value, dict):
        raise where.wrong(f"it is {kind_of(value)}, and must be a map")
    if len(value) > _MOST_ENTRIES:
        raise where.wrong(f"more than {_MOST_ENTRIES}")
    for name, part in value.items():
        at = where.at(name)
        if name.startswith("x-") and section != "services":
            continue
        with noted(where.source):
            if not _SERVICE_NAME.fullmatch(name):
                raise at.wrong("a name has 1 to 63 letters, digits, dots, dashes and underscores")
            if part is None and section == "services":
                raise at.wrong("it is nothing, and must be a map")
            made[name] = formed(form, {} if part is None else part, at)
            inner = made[name].value if isinstance(made[name], Override) else made[name]
            if isinstance(inner, dict) and "x-openstack" in inner:
                inner["x-openstack"] = keys.x_openstack(inner["x-openstack"], at.at("x-openstack"))


def _make_absolute(model: Model, directory: Path) -> None:
    def absolute(path: str) -> str:
        return os.path.normpath(directory / Path(path).expanduser())

    for section in ("secrets", "configs"):
        for part in _maps(model.get(section)):
            if isinstance(part.get("file"), str):
                part["file"] = absolute(part["file"])
    for service in _maps(model.get("services")):
        for volume in _listed(service.get("volumes")):
            if volume["type"] == "bind" and "source" in volume:
                volume["source"] = absolute(volume["source"])
        for file in _listed(service.get("env_file")):
            file["path"] = absolute(file["path"])
        if "label_file" in service:
            service["label_file"] = [absolute(path) for path in _listed(service["label_file"])]
        build = service.get("build")
        build = build.value if isinstance(build, Override) else build
        # A context can be an address too.
        if isinstance(build, dict) and "://" not in build.get("context", "."):
            build["context"] = absolute(build.get("context", "."))


def _maps(section: Any) -> list[dict[str, Any]]:
    parts = section.values() if isinstance(section, dict) else []
    inner = [part.value if isinstance(part, Override) else part for part in parts]
    return [part for part in inner if isinstance(part, dict)]


def _listed(value: Any) -> list[Any]:
    value = value.value if isinstance(value, Override) else value
    return value if isinstance(value, list) else []
