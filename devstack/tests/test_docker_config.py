"""dockerd's configuration on a host that is not ours alone."""

import json
from pathlib import Path

import pytest
from minicloud import docker_config

RUNTIME = Path("/usr/local/bin/nova-docker-runtime")


def test_what_the_operator_has_set_wins_and_comes_back_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    before = '{"live-restore":false,\n "runtimes": {"crun": {"path": "/usr/bin/crun"}}}'
    path.write_text(before)
    assert docker_config.add(path, RUNTIME)
    settings = json.loads(path.read_text())
    assert settings["live-restore"] is False
    assert set(settings["runtimes"]) == {"crun", "nova"}
    assert settings["runtimes"]["nova"]["path"] == str(RUNTIME)
    assert settings["bridge"] == "none"
    assert not docker_config.add(path, RUNTIME)
    assert docker_config.remove(path)
    assert path.read_text() == before
    assert not docker_config.remove(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_change_keeps_the_first_file(tmp_path: Path) -> None:
    path = tmp_path / "docker" / "daemon.json"
    docker_config.add(path, RUNTIME)
    docker_config.add(path, Path("/opt/nova-docker-runtime"))
    assert json.loads(path.read_text())["runtimes"]["nova"]["path"] == "/opt/nova-docker-runtime"
    docker_config.remove(path)
    assert not path.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"runtimes": []}'])
def test_a_file_that_dockerd_would_refuse_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text)
    with pytest.raises(docker_config.BadFile):
        docker_config.add(path, RUNTIME)
    assert path.read_text() == text
