"""The files that a service is given: its configs and secrets, and files of yours that it mounts."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

from nova_docker_compose.documents import read_file, shown_path
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project, Service

_MOST_BYTES = 48 * 1024
"""User data has 64 KiB in base64."""
_NAME = re.compile(r"[^a-zA-Z0-9_.-]")

Given = dict[str, dict[str, Any]]


def given(project: Project, service: Service, problems: list[str], doubts: list[str]) -> Given:
    """Configs and secrets of a service by name, with their content, as the agent reads them."""
    made: Given = {"configs": {}, "secrets": {}}
    for kind, files in made.items():
        for reference in service.get(kind, []):
            source = reference["source"]
            part = getattr(project, kind)[source]
            if part.get("external"):
                # It is refused as such.
                continue
            try:
                content = _content(part, project)
            except ComposeError as error:
                problems.append(f"{kind}.{source}: {error}")
                continue
            _add(files, source, {"content": content, **_place(reference)})
    for volume in service.get("volumes", []):
        if volume["type"] == "bind":
            try:
                file = _mounted(Path(volume.get("source", "")), volume["target"])
            except ComposeError as error:
                problems.append(f"volumes: {error}")
                continue
            if not volume.get("read_only"):
                doubts.append(f"volumes: {volume['target']} is a copy of your file, which the container cannot write")
            _add(made["configs"], volume["target"], file)
    return made


def _place(reference: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {key: reference[key] for key in ("target", "uid", "gid") if key in reference}
    if "mode" in reference:
        made["mode"] = f"{reference['mode']:04o}"
    return made


def _add(files: dict[str, Any], name: str, file: dict[str, Any]) -> None:
    """Under a name that no other has: a source can be there twice, at two targets."""
    stem = _NAME.sub("-", name).strip("-._")[:58] or "file"
    known, number = stem, 1
    while known in files:
        number += 1
        known = f"{stem}.{number}"
    files[known] = file


def _content(part: dict[str, Any], project: Project) -> str:
    if "content" in part:
        return str(part["content"])
    if "environment" in part:
        name = part["environment"]
        if name not in project.variables:
            raise ComposeError(f"the variable {name} is not set")
        return project.variables[name]
    return _text(Path(part.get("file", "")))


def _mounted(source: Path, target: str) -> dict[str, Any]:
    shown = shown_path(source)
    try:
        mode = source.stat().st_mode
    except FileNotFoundError as error:
        raise ComposeError(f"{shown} cannot be had: there is no such file") from error
    except (OSError, ValueError) as error:
        # A name that is too long or has a null byte, a directory that is not yours.
        raise ComposeError(f"{shown[:200]} cannot be had: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        raise ComposeError(
            f"{shown} cannot be had: a server sees no directory of yours; bring its files into the image, with COPY, or"
            f" have a volume with a name: NAME:{target}"
        )
    if not stat.S_ISREG(mode):
        raise ComposeError(f"{shown} cannot be had: a server gets copies of files, and this is none")
    return {"content": _text(source), "target": target, "mode": "0555" if mode & 0o111 else "0444"}


def _text(path: Path) -> str:
    data = read_file(path, shown_path(path))
    if len(data) > _MOST_BYTES:
        raise ComposeError(f"{shown_path(path)}: more than {_MOST_BYTES} bytes do not fit into user data")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ComposeError(f"{shown_path(path)}: it is no text in UTF-8") from error
