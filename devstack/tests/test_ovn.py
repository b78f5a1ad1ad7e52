"""OVN's databases: how they are made, and when they count as started."""

import socket
import subprocess
from pathlib import Path

import pytest
from minicloud import ovn, process
from minicloud.layout import Layout

SCHEMA = '{"name": "Test", "version": "1.0.0", "tables": {}}'


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


def test_a_database_answers_when_its_server_does_and_not_when_one_that_was_killed_left_its_socket(
    layout: Layout,
) -> None:
    (layout.run / "ovn").mkdir()
    path = ovn.socket(layout, "sb")
    assert not ovn.answers(layout, "sb")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    assert not ovn.answers(layout, "sb")
    path.unlink()
    schema, database = layout.root / "schema", layout.root / "db"
    schema.write_text(SCHEMA)
    process.run(["ovsdb-tool", "create", database, schema])
    listens = [f"--remote=punix:{path}", f"--unixctl={layout.run}/ovn/ctl", "--no-chdir", database]
    server = subprocess.Popen(["/usr/sbin/ovsdb-server", *listens], stderr=subprocess.DEVNULL)
    try:
        while not ovn.answers(layout, "sb"):
            assert server.poll() is None
    finally:
        server.kill()
        server.wait()
