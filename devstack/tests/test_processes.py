"""Which processes are a cloud's."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minicloud import host
from minicloud.layout import Layout

# It says that it is there, and stays until its input ends.
WAITS = "echo there; read end"


@contextmanager
def process(state: Path, script: str, *prefix: str) -> Iterator[int]:
    """A process of the cloud at `state`, by its environment."""
    command = [*prefix, "sh", "-c", script]
    env = {host.STATE_VARIABLE: str(state), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as started:
        try:
            assert started.stdout.readline() == b"there\n"
            yield started.pid
        finally:
            started.stdin.close()


def test_what_sees_another_directory_at_the_same_path_is_of_another_cloud(tmp_path: Path) -> None:
    state, another = tmp_path / "state", tmp_path / "another"
    state.mkdir()
    another.mkdir()
    elsewhere = f"mount --bind {another} {state} && {WAITS}"
    with process(state, WAITS) as ours, process(state, elsewhere, "unshare", "--mount") as theirs:
        found = host.processes(Layout(state))
        assert ours in found
        assert theirs not in found


def test_a_cloud_whose_directory_is_gone_still_has_its_processes(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with process(state, WAITS) as ours:
        assert ours in host.processes(Layout(state))
