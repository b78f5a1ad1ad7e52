"""CRIU out of a later Debian: from which archive, which of its releases, and what becomes of a machine without it."""

import datetime
import re
from pathlib import Path

import pytest
from minicloud import criu, passwords, process
from minicloud.config import nova
from minicloud.layout import Layout
from minicloud.options import Options

SOURCES = """\
http://vendor.example.com/ Vendor
http://mirror.example.com/debian/ Debian
http://mirror.example.com/other/ Debian
"""
NEW = "Version: 4.2.1\n"
APT = """\
case "$*" in
  *indextargets*) [ "$6" = "Release: $(. /etc/os-release; echo "$VERSION_CODENAME")" ] && cat "$SOURCES" ;;
  *update*) cat "$APT_CONFIG" "$(dirname "$APT_CONFIG")/sources.list" >"$SEEN" ;;
  *install*) touch "$(dirname "$APT_CONFIG")/cache/archives/criu.deb" ;;
esac
"""
DPKG = """\
mkdir -p "$3/usr/lib/some-linux-gnu" "$3/usr/sbin"
printf '#!/bin/sh\\necho "Version: %s"\\n' "$VERSION" >"$3/usr/lib/some-linux-gnu/ld-linux-some.so.2"
chmod 755 "$3/usr/lib/some-linux-gnu/ld-linux-some.so.2"
"""


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A directory, on a machine with Debian's tools: an archive with CRIU 4.2.1."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setattr(process, "SYSTEM_PATH", f"{tools}:{process.SYSTEM_PATH}")
    monkeypatch.setenv("PATH", process.SYSTEM_PATH)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    _tool(tools / "apt-get", APT)
    _tool(tools / "dpkg-deb", "VERSION=4.2.1\n" + DPKG)
    monkeypatch.setenv("SOURCES", str(tmp_path / "sources"))
    (tmp_path / "sources").write_text(SOURCES)
    return Layout(tmp_path / "state")


def _tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_release_that_is_too_old_is_not_taken() -> None:
    assert criu.version(NEW) == "4.2.1"
    assert criu.version("Version: 5.0\nGitID: v5.0\n") == "5.0"
    for said in ("Version: 4.1.1\n", "Version: 3.17.1\n", "no"):
        with pytest.raises(criu.NoCriu):
            criu.version(said)


def test_it_runs_with_its_own_libraries_and_the_machines_apt_is_left_alone(layout: Layout, tmp_path: Path) -> None:
    assert criu.fetch(layout) == "CRIU 4.2.1 fetched"
    assert process.run([layout.criu, "--version"]) == NEW
    assert f"--library-path {layout.root}/criu/root/usr/lib/some-linux-gnu" in layout.criu.read_text()
    seen = (tmp_path / "seen").read_text()
    assert "http://mirror.example.com/debian/ forky main" in seen
    private = re.search(r'Dir::State "(.*?)"', seen)
    assert private is not None
    for name in (
        "Dir::State::status",
        "Dir::State::lists",
        "Dir::Cache",
        "Dir::Etc::sourcelist",
        "Dir::Etc::sourceparts",
    ):
        assert f'{name} "{private[1]}' in seen
    assert not Path(private[1]).exists()
    assert criu.fetch(layout) is None


@pytest.mark.parametrize(
    ("tool", "script", "reason"),
    [
        ("apt-get", "", "no source of Debian"),
        ("apt-get", 'echo "Temporary failure" >&2; exit 100', "Temporary failure"),
        ("dpkg-deb", "VERSION=4.1\n" + DPKG, "4.2 or later"),
        ("dpkg-deb", "exit 2", "no output"),
    ],
)
def test_where_there_is_none_the_cloud_goes_on_with_a_warning(
    layout: Layout, tmp_path: Path, tool: str, script: str, reason: str
) -> None:
    _tool(tmp_path / "tools" / tool, script)
    said = criu.fetch(layout)
    assert said is not None
    assert said.startswith("WARNING:")
    assert reason in said
    assert not layout.criu.exists()


@pytest.mark.parametrize(("hours", "again"), [(1, False), (23, False), (25, True), (-1, True)])
def test_what_failed_is_tried_again_after_a_day_and_until_then_its_reason_is_told(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int, again: bool
) -> None:
    _tool(tmp_path / "tools/apt-get", 'echo "Temporary failure" >&2; exit 100')
    first = criu.fetch(layout)
    _tool(tmp_path / "tools/apt-get", APT)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
    monkeypatch.setattr(criu, "_now", lambda: later)
    assert criu.fetch(layout) == ("CRIU 4.2.1 fetched" if again else first)
    assert layout.criu.exists() == again


@pytest.mark.parametrize("remembered", [None, "", "no date", "2026-01-01T00:00:00 of no zone"])
def test_what_failed_is_tried_again_at_once_where_nothing_is_remembered(
    layout: Layout, tmp_path: Path, remembered: str | None
) -> None:
    _tool(tmp_path / "tools/apt-get", "exit 100")
    said = criu.fetch(layout)
    [memory] = [path for path in layout.criu.parent.iterdir() if path.is_file()]
    assert f"without {memory} at once" in str(said)
    memory.unlink()
    if remembered is not None:
        memory.write_text(remembered)
    _tool(tmp_path / "tools/apt-get", APT)
    assert criu.fetch(layout) == "CRIU 4.2.1 fetched"


def test_the_agent_is_told_of_it_where_it_is_there(layout: Layout, tmp_path: Path) -> None:
    secrets = passwords.load_or_create(tmp_path / "passwords.json")
    assert "criu" not in nova.agent(layout, secrets, Options(), 0)["docker"]
    criu.fetch(layout)
    assert nova.agent(layout, secrets, Options(), 0)["docker"]["criu"] == str(layout.criu)
