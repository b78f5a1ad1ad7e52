"""Blobs and manifests to push, made on the spot: OCI image-spec 1.1, and Docker's image manifest 2, schema 2."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import platform
import tarfile
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
BUILDKIT_CACHE = "application/vnd.buildkit.cacheconfig.v0"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

ANY_MANIFEST = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST))
"""For `Accept`: whatever it was pushed as."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

Json = dict[str, Any]


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclasses.dataclass(frozen=True)
class Blob:
    """Bytes and what a descriptor calls them."""

    data: bytes
    media_type: str = "application/octet-stream"
    algorithm: str = "sha256"

    @functools.cached_property
    def digest(self) -> str:
        return digest_of(self.data, self.algorithm)

    def descriptor(self, **more: Any) -> Json:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **more}


@dataclasses.dataclass(frozen=True)
class Manifest(Blob):
    """A manifest or index, with everything that has to be there before it."""

    blobs: tuple[Blob, ...] = ()
    children: tuple[Manifest, ...] = ()

    @property
    def document(self) -> Json:
        return dict(json.loads(self.data))


def encode(document: Json) -> bytes:
    """Deliberately not the canonical form: a registry must keep the bytes, not the meaning."""
    return json.dumps(document, indent=3, ensure_ascii=False).encode() + b"\n"


def manifest(document: Json, blobs: tuple[Blob, ...] = (), children: tuple[Manifest, ...] = ()) -> Manifest:
    return Manifest(encode(document), document["mediaType"], blobs=blobs, children=children)


def layer(name: str, content: bytes, media_type: str = OCI_LAYER) -> tuple[Blob, str]:
    """A compressed layer with one file, and its diff_id (the digest of the tar)."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return Blob(gzip.compress(target.getvalue(), mtime=0), media_type), digest_of(target.getvalue())


def config(diff_ids: list[str], media_type: str = OCI_CONFIG, architecture: str | None = None, **more: Any) -> Blob:
    """An image's configuration."""
    document = {
        "architecture": architecture or own_architecture(),
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        **more,
    }
    return Blob(json.dumps(document).encode(), media_type)


def image(
    seed: str, *, docker: bool = False, layers: int = 2, architecture: str | None = None, **more: Any
) -> Manifest:
    """An image that no other seed makes. `more` goes into the manifest."""
    made = [
        layer(f"file-{number}", f"{seed} {number}\n".encode() * 50, DOCKER_LAYER if docker else OCI_LAYER)
        for number in range(layers)
    ]
    configuration = config([diff_id for _, diff_id in made], DOCKER_CONFIG if docker else OCI_CONFIG, architecture)
    blobs = [blob for blob, _ in made]
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": configuration.descriptor(),
        "layers": [blob.descriptor() for blob in blobs],
        **more,
    }
    return manifest(document, (configuration, *blobs))


def artifact(
    seed: str, artifact_type: str | None, *, subject: Manifest | None = None, config_type: str = OCI_EMPTY, **more: Any
) -> Manifest:
    """Something that is no image: an empty configuration and one blob. Refers to `subject`."""
    configuration = Blob(b"{}", config_type)
    content = Blob(f"content of {seed}\n".encode(), "text/plain")
    document: Json = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    document |= {"config": configuration.descriptor(), "layers": [content.descriptor()], **more}
    if subject is not None:
        document["subject"] = subject.descriptor()
    return manifest(document, (configuration, content))


def index(children: list[Manifest], *, docker: bool = False, **more: Any) -> Manifest:
    """An index of manifests that are pushed with it."""
    entries = []
    for number, child in enumerate(children):
        architecture = ("amd64", "arm64", "s390x", "ppc64le")[number % 4]
        entries.append(child.descriptor(platform={"architecture": architecture, "os": "linux"}))
    document = {"schemaVersion": 2, "mediaType": DOCKER_LIST if docker else OCI_INDEX, "manifests": entries, **more}
    return manifest(document, children=tuple(children))


def buildkit_cache(seed: str, *, as_manifest: bool) -> Manifest:
    """What `docker buildx build --cache-to type=registry,mode=max` writes, with `image-manifest=true` or without.

    Without, it is an index of blobs.
    """
    layers, entries = [], []
    for number in range(3):
        blob, diff_id = layer(f"file-{number}", f"{seed} {number}\n".encode() * 50)
        layers.append(blob)
        created = "2026-01-02T03:04:05Z"
        entries.append(
            blob.descriptor(annotations={"buildkit/createdat": created, "containerd.io/uncompressed": diff_id})
        )
    records = [
        {"digest": digest_of(b"source"), "layers": [{"layer": 0, "createdAt": "2026-01-02T03:04:05Z"}]},
        {"digest": digest_of(b"run"), "inputs": [[{"link": 0}]], "layers": [{"layer": 2}]},
    ]
    chain = [{"blob": blob.digest, "parent": number - 1} for number, blob in enumerate(layers)]
    config_blob = Blob(json.dumps({"layers": chain, "records": records}).encode(), BUILDKIT_CACHE)
    document: Json = {"schemaVersion": 2, "mediaType": OCI_MANIFEST if as_manifest else OCI_INDEX}
    if as_manifest:
        document |= {"config": config_blob.descriptor(), "layers": entries}
    else:
        document["manifests"] = [*entries, config_blob.descriptor()]
    return manifest(document, (*layers, config_blob))


def own_architecture() -> str:
    """This machine's architecture in the image specification's words."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())
