"""Archives as `docker save` writes them, good ones and bad ones.

The layout is that of the Docker Image Specification v1.2: `manifest.json`, a configuration, and one
uncompressed `layer.tar` for each layer, whose digest is the layer's diff_id.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclasses.dataclass
class Archive:
    """An image that can be changed, also into something that no engine would have written."""

    layers: dict[str, bytes]
    """Path in the archive -> tar, bottom first."""
    config: dict[str, Any]
    extra_layers: tuple[str, ...] = ()
    """Layers that the manifest names and the archive lacks."""

    @classmethod
    def read(cls, path: Path) -> Archive:
        """Read an archive of the image `tiny` or of a snapshot, in the layout with manifest.json."""
        with tarfile.open(path) as archive:

            def content(name: str) -> bytes:
                member = archive.extractfile(name)
                assert member is not None, f"{path}: {name} is no file"
                return member.read()

            manifest = json.loads(content("manifest.json"))[0]
            return cls(
                layers={name: content(name) for name in manifest["Layers"]},
                config=json.loads(content(manifest["Config"])),
            )

    def running(self, *command: str, environment: dict[str, str] | None = None) -> Archive:
        """The same layers with `command` as CMD and no entry point."""
        config = dict(self.config)
        config["config"] = {**config["config"], "Entrypoint": None, "Cmd": list(command)}
        if environment is not None:
            config["config"]["Env"] = [f"{name}={value}" for name, value in environment.items()]
        return dataclasses.replace(self, config=config)

    def with_file(self, name: str, content: bytes) -> Archive:
        """One more layer on top, holding one file."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            _add(archive, name, content)
        return self.with_layer(layer.getvalue(), hashlib.sha256(layer.getvalue()).hexdigest())

    def with_links(self, links: dict[str, str]) -> Archive:
        """One more layer on top, with links by their names; what they lead to need not be there."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            for name, target in links.items():
                member = tarfile.TarInfo(name)
                member.type, member.linkname = tarfile.SYMTYPE, target
                archive.addfile(member)
        return self.with_layer(layer.getvalue(), hashlib.sha256(layer.getvalue()).hexdigest())

    def with_layer(self, stored: bytes, digest: str) -> Archive:
        """One more layer on top, stored in any form; its digest is that of the uncompressed tar."""
        config = json.loads(json.dumps(self.config))
        config["rootfs"]["diff_ids"].append(f"sha256:{digest}")
        config.pop("history", None)
        return Archive({**self.layers, f"{digest}/layer.tar": stored}, config)

    def configured(self, **values: Any) -> Archive:
        """The same layers with other values of `config`, by Docker's names: `User`, `StopSignal`."""
        return dataclasses.replace(self, config={**self.config, "config": {**self.config["config"], **values}})

    def with_wrong_digest(self) -> Archive:
        """The configuration promises another content of the top layer than the archive has."""
        config = json.loads(json.dumps(self.config))
        config["rootfs"]["diff_ids"][-1] = f"sha256:{hashlib.sha256(b'another layer').hexdigest()}"
        return dataclasses.replace(self, config=config)

    def with_missing_layer(self) -> Archive:
        """The manifest names one more layer than the archive has."""
        config = json.loads(json.dumps(self.config))
        digest = hashlib.sha256(b"a layer that nobody has").hexdigest()
        config["rootfs"]["diff_ids"].append(f"sha256:{digest}")
        config.pop("history", None)
        return Archive(dict(self.layers), config, extra_layers=(f"{digest}/layer.tar",))

    def tar(self) -> bytes:
        document = json.dumps(self.config, sort_keys=True).encode()
        config_name = f"{hashlib.sha256(document).hexdigest()}.json"
        names = [*self.layers, *self.extra_layers]
        manifest = [{"Config": config_name, "RepoTags": ["test:latest"], "Layers": names}]
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in self.layers.items():
                _add(archive, name, content)
            _add(archive, config_name, document)
            _add(archive, "manifest.json", json.dumps(manifest).encode())
        return target.getvalue()


def own_architecture() -> str:
    """This machine's architecture in Docker's words."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o755
    archive.addfile(member, io.BytesIO(content))
