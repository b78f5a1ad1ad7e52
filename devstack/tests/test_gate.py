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


# A supervisor that runs, of a cloud of which `mini status` says that not everything works.
RUNS_IN_PART = r"""
mini() { noted mini "$state_dir" "$@" && [ "$1" != status ]; }
mkdir -p "$state_dir/run"
bash -c 'exec -a supervisord sleep 600' &
supervisor=$!
echo "$supervisor" >"$state_dir/run/supervisord.pid"
trap 'kill "$supervisor"' EXIT
"""

NOTHING_RUNS = 'mini() { noted mini "$state_dir" "$@" && [ "$1" != status ]; }\n'


def run(state: Path, commands: str) -> list[list[str]]:
    """The calls of mini, with its state directory, and of pytest that the commands make, in order."""
    subprocess.run(["bash", "-c", SCRIPT + commands, "run", ROOT, state], check=True)
    return [shlex.split(line) for line in (state / "calls").read_text().splitlines()]


@pytest.mark.parametrize("full", ["", "yes"])
def test_the_cloud_of_the_tests_is_asked_for_with_its_network(tmp_path: Path, full: str) -> None:
    [up] = [call for call in run(tmp_path, f"full={full}\nstart_cloud\n") if call[2] == "up"]
    assert up[up.index("--network") + 1] == "ovs"


def test_ovn_has_a_cloud_of_its_own_and_then_the_other_one_is_as_it_was(tmp_path: Path) -> None:
    ovn = tmp_path / "cache/tests/ovn"
    calls = [call for call in run(tmp_path, RUNS_IN_PART + "run_ovn\n") if call[2] != "status"]
    assert [call[:3] for call in calls if call[0] == "mini"] == [
        ["mini", str(tmp_path), "down"],
        ["mini", str(ovn), "up"],
        ["mini", str(ovn), "down"],
        ["mini", str(tmp_path), "up"],
    ]
    down, up, tests, removal, back = calls
    assert up[up.index("--network") + 1] == "ovn"
    assert tests[tests.index("--state-dir") + 1] == str(ovn)
    assert all((ROOT / path).is_file() for path in tests if path.startswith("tests/"))
    assert "--wipe" in removal
    assert not {"--wipe", "--network"} & {*down, *back}
    # What was fetched and built for the other cloud serves this one, and stays.
    assert (ovn / "cache").resolve() == tmp_path / "cache"


def test_a_cloud_that_was_down_stays_down_and_what_an_interrupted_run_left_goes(tmp_path: Path) -> None:
    ovn = tmp_path / "cache/tests/ovn"
    ovn.mkdir(parents=True)
    assert [call[1:3] for call in run(tmp_path, NOTHING_RUNS + "run_ovn\n") if call[0] == "mini"] == [
        [str(tmp_path), "down"],
        [str(ovn), "down"],
        [str(ovn), "up"],
        [str(ovn), "down"],
    ]


def test_what_is_left_of_a_half_removed_ovn_cloud_goes_too(tmp_path: Path) -> None:
    ovn = tmp_path / "cache/tests/ovn"
    (ovn / "log").mkdir(parents=True)
    # The real one leaves alone what it does not know as a cloud's.
    refuses = 'mini() { noted mini "$state_dir" "$@" && [ "${2-}" != --wipe ]; }\n'
    assert run(tmp_path, refuses + "remove_ovn_cloud\n") == [["mini", str(ovn), "down"]]
    assert not ovn.exists()


@pytest.mark.parametrize("left", ["cache", "options.json"])
def test_an_ovn_cloud_that_mini_knows_is_wiped_by_it(tmp_path: Path, left: str) -> None:
    ovn = tmp_path / "cache/tests/ovn"
    ovn.mkdir(parents=True)
    (ovn / left).touch()
    assert run(tmp_path, "remove_ovn_cloud\n") == [["mini", str(ovn), "down", "--wipe"]]
    assert ovn.exists()


def test_a_cloud_that_ran_before_is_left_running_although_not_all_of_it_worked(tmp_path: Path) -> None:
    calls = run(tmp_path, RUNS_IN_PART + "start_cloud\nstop_cloud\n")
    assert [call[2] for call in calls if call[2] != "status"] == ["up"]


def test_a_cloud_that_died_under_its_tests_is_started_again_after_those_on_ovn(tmp_path: Path) -> None:
    calls = run(tmp_path, NOTHING_RUNS + "cloud_ran_before=yes\nrun_ovn\n")
    assert calls[-1][:3] == ["mini", str(tmp_path), "up"]


def test_when_the_time_is_over_no_phase_begins_but_those_that_put_things_back(tmp_path: Path) -> None:
    calls = run(tmp_path, RUNS_IN_PART + 'touch "$artifacts/out-of-time"\nstart_cloud\nrun_ovn\nstop_cloud\n')
    assert [call[2] for call in calls if call[2] != "status"] == ["up"]


def test_what_puts_things_back_has_its_time_while_what_was_late_is_killed(tmp_path: Path) -> None:
    commands = r"""
sleep() { command sleep 1; }
stubborn() { trap '' TERM; command sleep 600; }
putting_back() { command sleep 3 && noted put back; }
stubborn & late=$!
limit_run 1
phase cloud-grpc command sleep 600
phase cloud-down putting_back
wait "$late" || :
"""
    assert run(tmp_path, commands) == [["put", "back"]]
