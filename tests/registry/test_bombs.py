"""Content that would grow without bounds in whoever unpacks it, or believes what it says: the registry does neither."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from oci import content, process
from oci.checks import ok, refused
from oci.client import Registry
from oci.content import Blob, Manifest
from oci.target import Target

pytestmark = pytest.mark.cloud

MIB = 1024 * 1024
MEMORY = 64 * MIB
"""What the process may have resident at most, whatever it is given."""


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """10 GiB of zeros, as 10 MiB of gzip (RFC 1952 allows several members in a file)."""
    return gzip.compress(bytes(16 * MIB), mtime=0) * 640


def disk_use(directory: Path) -> int:
    """Bytes that files have there. What is renamed meanwhile may be missing."""
    used = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            used += path.stat().st_blocks * 512 if path.is_file() else 0
    return used


def image_of(*layers: Blob) -> Manifest:
    """An image of layers whose content is nobody's business."""
    configuration = content.config([content.digest_of(layer.data) for layer in layers])
    document = {
        "schemaVersion": 2,
        "mediaType": content.OCI_MANIFEST,
        "config": configuration.descriptor(),
        "layers": [layer.descriptor() for layer in layers],
    }
    return content.manifest(document, (configuration, *layers))


def test_a_layer_that_unpacks_to_10_gb_is_kept_and_given_as_it_is(
    own: process.Own, tmp_path: Path, repository: str, bomb: bytes
) -> None:
    layers = [Blob(bomb, content.OCI_LAYER), Blob(gzip.compress(bomb, mtime=0), content.OCI_LAYER)]
    image = image_of(*layers)
    client = Registry(own.target)
    client.push(repository, image, "v1")
    assert ok(client.manifest(repository, "v1"), 200).content == image.data
    for layer in layers:
        assert ok(client.blob(repository, layer.digest), 200).content == layer.data
    client.take_away()
    assert disk_use(tmp_path / "state") < 4 * sum(len(layer.data) for layer in layers) + MIB
    assert own.most_held() <= MEMORY


# ---------------------------------------------------------------- archives that were uploaded to Glance


def saved(*layers: bytes) -> bytes:
    """An archive like that of `docker save`, of layers that are not what their diff_ids say."""
    config = {
        "architecture": content.own_architecture(),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [content.digest_of(layer) for layer in layers]},
    }
    names = [f"layer-{number}.tar" for number in range(len(layers))]
    files = dict(zip(names, layers, strict=True))
    files["config.json"] = json.dumps(config).encode()
    files["manifest.json"] = json.dumps([{"Config": "config.json", "Layers": names}]).encode()
    return tar_of(files)


def tar_of(files: dict[str, bytes], **fields: object) -> bytes:
    """A tar archive; `fields` are of every member."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def test_a_saved_image_with_a_bomb_for_a_layer_is_given_as_it_is(
    own: process.Own, tmp_path: Path, upload: Callable[..., str], bomb: bytes
) -> None:
    client = Registry(own.target)
    name = f"{own.target.namespace}/{upload('bomb', saved(bomb))}"
    [layer] = ok(client.manifest(name, "latest"), 200).json()["layers"]
    assert (layer["digest"], layer["size"]) == (content.digest_of(bomb), len(bomb))
    assert ok(client.blob(name, layer["digest"]), 200).content == bomb
    assert disk_use(tmp_path / "state") < 4 * len(bomb) + MIB
    assert own.most_held() <= MEMORY


def huge(size: int) -> bytes:
    """A tar header that claims a file of so many bytes, and some that follow it."""
    member = tarfile.TarInfo("manifest.json")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(4096)


def sparse() -> bytes:
    """A file with a hole of 8 EiB, in GNU's old form of it."""
    header = bytearray(tarfile.TarInfo("manifest.json").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[483:495] = b"\x80" + struct.pack(">Q", 2**63 - 1).rjust(11, b"\0")
    return with_checksum(header) + bytes(4096)


def with_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def crowded(entries: int) -> bytes:
    """An archive of so many empty files, and then what an image has."""
    header = tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT)
    return header * entries + saved(b"layer")


HOSTILE: dict[str, Callable[[], bytes]] = {
    "8 EiB": lambda: huge(2**63 - 1),
    "more than there is": lambda: huge(2**40),
    "8 EiB by PAX": lambda: tar_of({"manifest.json": b"[]"}, pax_headers={"size": str(2**63 - 1)}),
    "a negative size by PAX": lambda: tar_of({"manifest.json": b"[]"}, pax_headers={"size": "-512"}),
    "2^80 bytes by PAX": lambda: tar_of({"manifest.json": b"[]"}, pax_headers={"size": str(2**80)}),
    "sparse": sparse,
    "sparse by PAX": lambda: tar_of({"manifest.json": b"[]"}, pax_headers={"GNU.sparse.realsize": str(2**63 - 1)}),
    "a million entries": lambda: crowded(1_000_000),
    "nested": lambda: tar_of({"manifest.json": b"[" * (4 * MIB - 1)}),
    "nested index": lambda: tar_of({"index.json": b'{"manifests":' + b"[" * (3 * MIB)}),
    "a huge number": lambda: tar_of({"manifest.json": b"[" + b"9" * MIB + b"]"}),
    "a manifest of 100 MB": lambda: tar_of({"manifest.json": bytes(100_000_000)}),
    "100,000 images": lambda: tar_of({"manifest.json": json.dumps([{"Config": "x" * 20}] * 100_000).encode()}),
    "one name for ever": lambda: tar_of({"a" * 60_000: b"", "manifest.json": b"[]"}),
}


def test_hostile_archives_are_refused_and_cost_little(own: process.Own, upload: Callable[..., str]) -> None:
    client = Registry(own.target)
    for what, make in HOSTILE.items():
        name = f"{own.target.namespace}/{upload('hostile', make())}"
        for _ in range(2):
            answer = client.manifest(name, "latest")
            assert answer.status_code == 422, f"{what}: {answer.status_code} {answer.text[:300]}"
            assert len(answer.content) < 2000, what
    assert own.most_held() <= MEMORY


# ---------------------------------------------------------------- what is pushed


def test_what_is_pushed_is_not_unpacked(target: Target, registry: Registry, repository: str) -> None:
    """HTTP's own compression would make the registry unpack what it is sent."""
    image = content.image(repository)
    for blob in image.blobs:
        registry.push_blob(repository, blob)
    packed = gzip.compress(image.data)
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        headers = {"Content-Type": image.media_type, "Content-Encoding": encoding}
        path = f"/v2/{repository}/manifests/v1"
        answer = registry.call("PUT", path, repositories=(repository,), data=packed, headers=headers)
        assert "encoding" in refused(answer, 415, "UNSUPPORTED").text
        answer = registry.call(
            "PATCH", registry.upload(repository), repositories=(repository,), data=packed, headers=headers
        )
        assert "encoding" in refused(answer, 415, "UNSUPPORTED").text
    refused(registry.manifest(repository, "v1"), 404)
    headers = {"Content-Type": image.media_type, "Content-Encoding": "identity"}
    ok(registry.call("PUT", path, repositories=(repository,), data=image.data, headers=headers), 201)
    registry.manifests.append((repository, image.digest))


@pytest.mark.parametrize("kind", [content.OCI_MANIFEST, content.OCI_INDEX, content.DOCKER_MANIFEST])
def test_json_that_explodes_is_refused(own: process.Own, repository: str, kind: str) -> None:
    client = Registry(own.target)
    image = content.image(repository, layers=1)
    for blob in image.blobs:
        client.push_blob(repository, blob)
    text = json.dumps({**image.document, "mediaType": kind})[:-1]
    size = 4 * MIB - len(text) - 100
    for what, data in {
        "opened, and never closed": "[" * (4 * MIB),
        "objects in objects": '{"a":' * 800_000,
        "nested where nothing is known": f'{text}, "deep": {"[" * (size // 2)}{"]" * (size // 2)}}}',
        "a number without end": f'{text}, "schemaVersion": {"9" * size}}}',
        "an exponent": f'{text}, "schemaVersion": 1e999999999}}',
        "a size beyond all": text.replace('"size": ', '"size": 99999999999999999999') + "}",
        "a negative size": text.replace('"size": ', '"size": -') + "}",
        "the same key twice": f'{text}, "config": {json.dumps(image.document["config"])}}}',
        "escapes": text + ', "' + "\\u0000" * 1000 + '": "\\ud800"}',
    }.items():
        answer = client.put_manifest(repository, "v1", data.encode(), kind)
        if answer.status_code == 201:
            # It is JSON, if odd: then it is kept to the byte.
            assert what in ("nested where nothing is known", "the same key twice", "escapes"), what
            assert ok(client.manifest(repository, "v1"), 200).content == data.encode()
        else:
            refused(answer, 400, "MANIFEST_INVALID", "SIZE_INVALID", "MANIFEST_BLOB_UNKNOWN")
    client.take_away()
    assert own.most_held() <= MEMORY
