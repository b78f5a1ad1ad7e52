"""CRIU out of a later Debian: from which archive, which of its releases, and what becomes of a machine without it."""

from pathlib import Path

import pytest
from minicloud import criu, passwords, process
from minicloud.config import nova
from minicloud.layout import Layout
from minicloud.options import Options

TARGETS = """\
Packages|nodistro|main|https://packages.example.com/|nodesource
DEP-11|bookworm|main|http://mirror.example.com/other/|Debian
Packages|bookworm|main|http://vendor.example.com/|Vendor
Packages|bookworm-updates|main|http://mirror.example.com/updates/|Debian
Packages|bookworm|main|http://mirror.example.com/debian/|Debian
"""
NEW = "Version: 4.2.1\n"
APT = """\
case "$*" in
  *indextargets*) echo 'Packages|bookworm|main|http://mirror.example.com/debian/|Debian' ;;
  *update*) cp "$APT_CONFIG" "$SEEN" ;;
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
    _tool(tools / "dpkg", "VERSION=4.2.1\n" + DPKG)
    _tool(tools / "sh", 'case "$*" in *os-release*) echo bookworm ;; *) exec /bin/sh "$@" ;; esac')
    return Layout(tmp_path / "state")


def _tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_archive_is_that_of_the_machines_own_debian() -> None:
    assert criu.mirror(TARGETS, "bookworm") == "http://mirror.example.com/debian/"
    assert (
        criu.mirror("Packages|bookworm|main|http://new.example.com/|$(ORIGIN)", "bookworm") == "http://new.example.com/"
    )
    with pytest.raises(criu.NoCriu, match="trixie main"):
        criu.mirror(TARGETS, "trixie")


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
    settings = (tmp_path / "seen").read_text()
    for name in ("Dir::State::status", "Dir::State::lists", "Dir::Cache", "Dir::Etc::sourcelist"):
        assert f'{name} "{layout.root}/criu/apt' in settings
    assert not (layout.root / "criu/apt").exists()
    assert criu.fetch(layout) is None


@pytest.mark.parametrize(
    ("tool", "script", "reason"),
    [
        ("apt-get", 'echo "Temporary failure" >&2; exit 100', "Temporary failure"),
        ("dpkg", "VERSION=4.1\n" + DPKG, "4.2 or later"),
        ("dpkg", "exit 2", "no output"),
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


def test_the_agent_is_told_of_it_where_it_is_there(layout: Layout, tmp_path: Path) -> None:
    secrets = passwords.load_or_create(tmp_path / "passwords.json")
    assert "criu" not in nova.agent(layout, secrets, Options(), 0)["docker"]
    criu.fetch(layout)
    assert nova.agent(layout, secrets, Options(), 0)["docker"]["criu"] == str(layout.criu)
