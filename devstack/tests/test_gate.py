"""What tests/run asks of devstack/mini, part by part."""

import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# The real parts, whose phases run where they are asked for. Of `mini` and pytest it is noted what they are told.
SCRIPT = r"""
set -u
root=$1 here=$1/tests state_dir=$2 tools=$2/cache/tests artifacts=$2/artifacts logs=$2/logs calls=$2/calls
full='' ci='' keep='' doors=(amqp) selected=() pytest_arguments=()
mkdir -p "$artifacts" "$logs" "$tools"
. "$here/lib/phases.bash"
. "$here/lib/tools.bash"
. "$here/lib/parts.bash"
beside() { shift && "$@"; }
wants() { false; }
noted() { printf '%q ' "$@" && echo; } >>"$calls"
mini() { noted mini "$state_dir" "$@"; }
run_pytest() { noted pytest "$@"; }
"""


def run(state: Path, commands: str) -> list[list[str]]:
    """The calls of mini, with its state directory, and of pytest that the commands make, in order."""
    subprocess.run(["bash", "-c", SCRIPT + commands, "run", ROOT, state], check=True)
    return [shlex.split(line) for line in (state / "calls").read_text().splitlines()]


@pytest.mark.parametrize("full", ["", "yes"])
def test_the_cloud_of_the_tests_is_asked_for_with_its_network(tmp_path: Path, full: str) -> None:
    [up] = [call for call in run(tmp_path, f"full={full}\nstart_cloud\n") if call[2] == "up"]
    assert up[up.index("--network") + 1] == "ovs"
