"""Images that run: busybox and one file, as a directory to build from and as an OCI image layout."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

from oci.content import Manifest, digest_of

BUSYBOX = Path("/bin/busybox")


def build_context(directory: Path, text: str, *, base: str = "scratch", padding: int = 0) -> Path:
    """A directory with a Dockerfile for an image whose command shows `text`; `padding` bytes do not compress."""
    assert BUSYBOX.exists(), f"{BUSYBOX} is missing: apt-get install --no-install-recommends busybox-static"
    directory.mkdir(parents=True)
    lines = [f"FROM {base}"]
    if base == "scratch":
        shutil.copy(BUSYBOX, directory / "busybox")
        lines.append("COPY busybox /bin/busybox")
    if padding:
        with Path("/dev/urandom").open("rb") as source:
            (directory / "padding").write_bytes(source.read(padding))
        lines.append("COPY padding /padding")
    (directory / "text").write_text(text)
    lines += ["COPY text /text", "LABEL org.example.test=yes", 'CMD ["/bin/busybox", "cat", "/text"]']
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    return directory


def write_layout(directory: Path, manifest: Manifest, tag: str) -> Path:
    """An OCI image layout (image-spec, "Image Layout") with the manifest and all below it."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    pending = [manifest]
    while pending:
        one = pending.pop()
        for blob in (one, *one.blobs):
            (blobs / blob.digest.partition(":")[2]).write_bytes(blob.data)
        pending += one.children
    entry = manifest.descriptor(annotations={"org.opencontainers.image.ref.name": tag})
    index = {"schemaVersion": 2, "manifests": [entry]}
    (directory / "index.json").write_text(json.dumps(index))
    return directory


def save_archive(path: Path, text: str) -> Path:
    """What `docker save` writes, of an image that shows `text`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.add(BUSYBOX, "bin/busybox")
        _add(archive, "text", text.encode())
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/busybox", "cat", "/text"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer.getvalue())]},
    }
    manifest = [{"Config": "config.json", "RepoTags": ["saved:latest"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, mode="w") as archive:
        _add(archive, "layer.tar", layer.getvalue())
        _add(archive, "config.json", json.dumps(config).encode())
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
