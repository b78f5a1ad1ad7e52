"""OVN's databases: how they are made."""

from pathlib import Path

import pytest
from minicloud import ovn, process
from minicloud.layout import Layout


@pytest.fixture
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    # The path of a socket has to be short.
    found = Layout(tmp_path_factory.mktemp("ovn"))
    found.create()
    return found


def test_a_database_whose_making_was_interrupted_is_made_anew(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(command: list[object], **_: object) -> str:
        Path(str(command[2])).write_text("OVSDB JSON 15")
        raise process.Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(process, "run", half)
        with pytest.raises(process.Interrupted):
            ovn.make_database(layout, "nb")

    def whole(command: list[object], **_: object) -> str:
        path = Path(str(command[2]))
        # As the real one does.
        with path.open("x") as stream:
            stream.write("whole")
        path.with_name(f".{path.name}.~lock~").touch()
        return ""

    monkeypatch.setattr(process, "run", whole)
    ovn.make_database(layout, "nb")
    database = ovn.database(layout, "nb")
    assert database.read_text() == "whole"
    assert list(database.parent.iterdir()) == [database]

    def never(command: list[object], **_: object) -> str:
        raise AssertionError(command)

    monkeypatch.setattr(process, "run", never)
    ovn.make_database(layout, "nb")
