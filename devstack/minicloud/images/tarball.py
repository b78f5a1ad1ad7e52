"""The archive that `docker save` writes, from file trees: the same input gives the same bytes.

Layout of the archive: `<layer digest>/layer.tar` for each layer, `<config digest>.json`, `manifest.json`
(Docker Image Specification v1.2). Glance keeps it as container_format=docker, disk_format=raw.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Nothing in the archive may depend on the time when it was made.
_CREATED = "1970-01-01T00:00:00Z"


@dataclasses.dataclass(frozen=True)
class ImageConfig:
    """What a container of the image runs."""

    entrypoint: Sequence[str]
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    exposed_ports: Sequence[str] = ()
    stop_signal: str = "SIGTERM"


def write_layer(root: Path, target: Path) -> str:
    """Write the tree below `root` as a layer; returns its digest in hexadecimal.

    Owners are numeric, times are zero, names are sorted; a hard link stays one, sockets are left out.
    """
    links: dict[tuple[int, int], str] = {}
    with target.open("wb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*"), key=lambda path: path.relative_to(root).as_posix().encode()):
            if path.is_socket():
                continue
            name = path.relative_to(root).as_posix()
            member = archive.gettarinfo(path, arcname=name)
            # tarfile finds hard links itself, but only through the inode cache of one TarFile, so this is explicit.
            status = path.lstat()
            identity = (status.st_dev, status.st_ino)
            if member.isreg() and status.st_nlink > 1 and identity in links:
                member.type, member.linkname, member.size = tarfile.LNKTYPE, links[identity], 0
            links.setdefault(identity, name)
            member.mtime = 0
            member.uname = member.gname = ""
            if member.isreg():
                with path.open("rb") as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)
    return _digest(target)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_image(target: Path, name: str, layers: Sequence[Path], config: ImageConfig, machine: str) -> None:
    """Write an image of `layers` (bottom first) to `target`; `name` is its repository and tag."""
    digests = [_digest(layer) for layer in layers]
    document = _document(config, digests, machine)
    config_name = f"{hashlib.sha256(document).hexdigest()}.json"
    layer_names = [f"{digest}/layer.tar" for digest in digests]
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": layer_names}]
    temporary = target.with_name(f".{target.name}.new")
    with temporary.open("wb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        written: set[str] = set()
        for layer, layer_name in zip(layers, layer_names, strict=True):
            if layer_name in written:
                continue
            written.add(layer_name)
            directory = tarfile.TarInfo(layer_name.partition("/")[0])
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
            member = tarfile.TarInfo(layer_name)
            member.size = layer.stat().st_size
            with layer.open("rb") as content:
                archive.addfile(member, content)
        _add(archive, config_name, document)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    temporary.replace(target)


def _document(config: ImageConfig, digests: Sequence[str], machine: str) -> bytes:
    document = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "created": _CREATED,
        "config": {
            "Entrypoint": list(config.entrypoint),
            "Env": [f"{name}={value}" for name, value in sorted(config.environment.items())],
            "Labels": dict(sorted(config.labels.items())),
            "ExposedPorts": {port: {} for port in sorted(config.exposed_ports)},
            "StopSignal": config.stop_signal,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": _CREATED, "created_by": "devstack/mini"} for _ in digests],
    }
    return json.dumps(document, sort_keys=True).encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
