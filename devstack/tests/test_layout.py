from pathlib import Path

import pytest
from minicloud.layout import BadStateDir, Layout


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/", "a directory of its own"),
        ("/srv", "a directory of its own"),
        ("/srv/with space", "use letters"),
        ("/srv/50%", "use letters"),
        ("/srv/$HOME", "use letters"),
        ("/srv/" + "x" * 80, "unix sockets"),
    ],
)
def test_a_directory_that_cannot_work_is_refused_with_the_reason(path: str, reason: str) -> None:
    with pytest.raises(BadStateDir, match=reason):
        Layout.at(path)


def test_a_relative_directory_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/srv")
    assert Layout.at("cloud/one").root == Path("/srv/cloud/one")
