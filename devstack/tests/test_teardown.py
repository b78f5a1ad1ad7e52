"""`mini down`: what it removes, in which order, and what it leaves alone."""

import argparse
import shutil
from pathlib import Path

import pytest
from minicloud import cli, packages, teardown
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
