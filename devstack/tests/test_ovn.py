"""OVN's databases, how they are made and when they count as started, and what is said of a controller that is not."""

import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from minicloud import ovn, passwords, process
from minicloud.layout import Layout
from minicloud.options import Options
from minicloud.programs import programs
from minicloud.seed import Seeder

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


@pytest.mark.parametrize("network", ["ovs", "ovn"])
def test_where_no_agent_reports_the_logs_are_named(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    # The seed sets it.
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", "")
    options = Options(network=network)
    options.save(layout.options_file)
    passwords.load_or_create(layout.passwords_file)
    with pytest.raises(SystemExit) as ended:
        Seeder(layout)._wait_for_agents(SimpleNamespace(agents=lambda: []), seconds=0)
    said = str(ended.value)
    assert f"in {layout.log}" in said
    assert ("ovn-*.log" in said) == ("ovn-controller" in programs(layout, options))
