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
    ours = {"qdhcp-net1", "ovnmeta-net2", "qrouter-r1", "qrouter-r2", "nova-s1"}
    for name in (*ours, "qdhcp-other", "ovnmeta-other", "qrouter-other", "nova-other"):
        (existing / name).touch()
    monkeypatch.setattr(namespaces, "_DIRECTORY", existing)
    monkeypatch.setattr(database, "answers", lambda layout: False)
    root = tmp_path / "state"
    for directory in ("dhcp/net1", "dhcp/gone", "ra", "ns-metadata-proxy", "ovn-metadata-proxy"):
        (root / "neutron" / directory).mkdir(parents=True)
    for network in ("net2", "gone"):
        (root / f"neutron/ovn-metadata-proxy/{network}.conf").touch()
    (root / "neutron/ns-metadata-proxy/r1.conf").touch()
    (root / "neutron/ra/r2.radvd.conf").touch()
    container = root / "docker/containers/0123"
    container.mkdir(parents=True)
    (container / "config.v2.json").write_text(json.dumps({"Name": "/nova-s1"}))
    assert namespaces.ours(Layout(root)) == ours
