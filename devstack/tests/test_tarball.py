import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest
from minicloud.images.tarball import ImageConfig, write_image, write_layer

CONFIG = ImageConfig(entrypoint=("/init",), environment={"B": "2", "A": "1"}, labels={}, exposed_ports=("80/tcp",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "bin/busybox").write_bytes(b"program" * 100)
    (root / "bin/busybox").chmod(0o755)
    (root / "bin/sh").symlink_to("busybox")
    os.link(root / "bin/busybox", root / "bin/zcat")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    return root


def test_the_same_tree_gives_the_same_bytes_at_another_time(tree: Path, tmp_path: Path) -> None:
    first = write_layer(tree, tmp_path / "one.tar")
    os.utime(tree / "bin/busybox", (time.time() + 1000, time.time() + 1000))
    (tree / "bin/sh").unlink()
    (tree / "bin/sh").symlink_to("busybox")
    assert write_layer(tree, tmp_path / "two.tar") == first
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_a_layer_keeps_modes_symbolic_links_and_hard_links(tree: Path, tmp_path: Path) -> None:
    write_layer(tree, tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as archive:
        members = {member.name: member for member in archive}
    assert members["bin/busybox"].mode == 0o755
    assert members["tmp"].mode == 0o1777
    assert (members["bin/sh"].issym(), members["bin/sh"].linkname) == (True, "busybox")
    assert (members["bin/zcat"].islnk(), members["bin/zcat"].linkname) == (True, "bin/busybox")
    assert {member.mtime for member in members.values()} == {0}


def test_digests_of_layers_and_config_are_true(tree: Path, tmp_path: Path) -> None:
    layers = [tmp_path / "one.tar", tmp_path / "two.tar"]
    write_layer(tree, layers[0])
    (tree / "init").write_text("#!/bin/sh\n")
    write_layer(tree, layers[1])
    write_image(tmp_path / "image.tar", "test:1", layers, CONFIG, "x86_64")
    with tarfile.open(tmp_path / "image.tar") as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive if member.isreg()}  # type: ignore[union-attr]
    [manifest] = json.loads(content["manifest.json"])
    assert manifest["RepoTags"] == ["test:1"]
    document = content[manifest["Config"]]
    assert manifest["Config"] == hashlib.sha256(document).hexdigest() + ".json"
    config = json.loads(document)
    layer_digests = ["sha256:" + hashlib.sha256(content[name]).hexdigest() for name in manifest["Layers"]]
    assert config["rootfs"] == {"type": "layers", "diff_ids": layer_digests}
    assert config["config"]["Entrypoint"] == ["/init"]
    assert config["config"]["Env"] == ["A=1", "B=2"]
    assert config["architecture"] == "amd64"


def test_a_layer_that_occurs_twice_is_stored_once(tree: Path, tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    write_layer(tree, layer)
    write_image(tmp_path / "image.tar", "test:1", [layer, layer], CONFIG, "x86_64")
    with tarfile.open(tmp_path / "image.tar") as archive:
        names = archive.getnames()
        manifest = json.load(io.BytesIO(archive.extractfile("manifest.json").read()))  # type: ignore[union-attr]
    assert len(names) == len(set(names))
    assert len(manifest[0]["Layers"]) == 2


def test_an_interrupted_write_leaves_no_image(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_image(tmp_path / "image.tar", "test:1", [tmp_path / "no-such-layer.tar"], CONFIG, "x86_64")
    assert not (tmp_path / "image.tar").exists()
