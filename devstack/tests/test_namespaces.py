import json
from pathlib import Path

import pytest
from minicloud import database, namespaces
from minicloud.layout import Layout


def test_after_a_crash_only_namespaces_named_in_this_cloud_s_files_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = tmp_path / "netns"
    existing.mkdir()
    for name in ("qdhcp-net1", "qrouter-r1", "qrouter-r2", "nova-s1", "qdhcp-other", "qrouter-other", "nova-other"):
        (existing / name).touch()
    monkeypatch.setattr(namespaces, "_DIRECTORY", existing)
    monkeypatch.setattr(database, "answers", lambda layout: False)
    root = tmp_path / "state"
    for directory in ("neutron/dhcp/net1", "neutron/dhcp/gone", "neutron/ra", "neutron/ns-metadata-proxy"):
        (root / directory).mkdir(parents=True)
    (root / "neutron/ns-metadata-proxy/r1.conf").touch()
    (root / "neutron/ra/r2.radvd.conf").touch()
    container = root / "docker/containers/0123"
    container.mkdir(parents=True)
    (container / "config.v2.json").write_text(json.dumps({"Name": "/nova-s1"}))
    assert namespaces.ours(Layout(root)) == {"qdhcp-net1", "qrouter-r1", "qrouter-r2", "nova-s1"}
