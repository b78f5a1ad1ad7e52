"""`mini down`: what it removes, in which order, and what it leaves alone."""

import argparse
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from minicloud import cli, openvswitch, packages, process, teardown
from minicloud.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """The directory of a cloud that was stopped."""
    layout = Layout(tmp_path / "state")
    layout.create()
    layout.options_file.write_text("{}")
    return layout


@pytest.mark.parametrize("where", ["bin", "done", "etc", "log", "run"])
def test_a_wipe_that_was_interrupted_can_be_done_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    remove = shutil.rmtree

    def interrupted(path: Path) -> None:
        if path.name == where:
            raise KeyboardInterrupt
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            teardown.wipe(layout, keep_cache=False)
    assert layout.options_file.exists()
    assert layout.cache.exists()
    teardown.wipe(layout, keep_cache=False)
    assert not layout.root.exists()


def test_the_cache_can_be_kept_and_wiped_later(layout: Layout) -> None:
    teardown.wipe(layout, keep_cache=True)
    assert list(layout.root.iterdir()) == [layout.cache]
    teardown.wipe(layout, keep_cache=False)
    assert not layout.root.exists()


def test_a_directory_that_is_no_cloud_s_is_left_alone_with_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "restore_policy", lambda: None)
    monkeypatch.setattr(teardown, "stop", lambda layout, progress: None)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter").touch()
    arguments = argparse.Namespace(wipe=True, keep_cache=False)
    assert cli._down(Layout(theirs), arguments) == 1
    assert "does not look like the state directory of a cloud" in capsys.readouterr().err
    assert (theirs / "letter").exists()


@pytest.fixture
def deleted(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run on a machine whose kernel has a datapath with br-int."""
    commands: list[list[str]] = []
    monkeypatch.setattr(process, "run", commands.append)
    monkeypatch.setattr(teardown, "_DEVICES", tmp_path / "devices")
    for device in ("br-int", "ovs-system"):
        (tmp_path / "devices" / device).mkdir(parents=True)
    return commands


@pytest.fixture
def another_switch(tmp_path: Path) -> Iterator[None]:
    """A process with the name of Open vSwitch's, which no pid file names."""
    program = tmp_path / "ovs-vswitchd"
    shutil.copy("/usr/bin/sleep", program)
    with subprocess.Popen([program, "600"]) as switch:
        yield
        switch.kill()


@pytest.mark.usefixtures("another_switch")
def test_the_kernels_datapath_stays_while_another_switch_runs(layout: Layout, deleted: list[list[str]]) -> None:
    teardown._remove_datapath(layout)
    assert deleted == []


def test_what_a_switch_that_was_killed_has_left_in_the_kernel_goes(
    layout: Layout, deleted: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvswitch, "switch_runs", lambda: False)
    teardown._remove_datapath(layout)
    assert deleted == [["ovs-dpctl", "del-dp", "system@ovs-system"]]
