"""What concerns the whole run, however many workers there are: leftovers of any kind, panics, the host's capacity."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import pytest

from harness import capacity, leaks
from harness.lab import Lab, Side
from harness.logs import Tail

# Rust's, Python's of a thread, and oslo.log's of a service.
PANICS = ("panicked at", "Exception in thread", "Unhandled error")


class WholeRun:
    """A pytest plugin of the process that sees the whole run: the only one, or the one that leads the workers."""

    def __init__(self, lab: Lab, side: Side) -> None:
        self._lab = lab
        self._before: set[str] | None = None
        self._side = side
        self._logs = [Tail(lab.log(program)) for program in side.programs]
        self._settings = contextlib.ExitStack()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        try:
            self._before = leaks.of_cloud(self._lab)
        except AssertionError as error:
            pytest.exit(
                f"the cloud in {self._lab.state} does not run ({error}); see ./devstack/mini status", returncode=3
            )
        self._settings.enter_context(capacity.for_all_workers(self._lab.connect("admin"), self._side))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Workers and fixtures of the session have ended."""
        if self._before is None:
            return
        self._settings.close()
        self._check(session, "nothing_is_left_by_all_tests_together", self._leaks)
        self._check(session, "no_log_tells_of_a_panic", self._panics)

    def _check(self, session: pytest.Session, name: str, check: Callable[[], None]) -> None:
        """Report an AssertionError of `check` as that of a test that is called `name`."""
        try:
            check()
        except AssertionError as error:
            report = pytest.TestReport(
                nodeid=f"the whole run::{name}",
                location=("the whole run", None, name),
                keywords={},
                outcome="failed",
                longrepr=str(error),
                when="call",
            )
            session.config.hook.pytest_runtest_logreport(report=report)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _leaks(self) -> None:
        assert self._before is not None
        leaks.assert_nothing_new(functools.partial(leaks.of_cloud, self._lab), self._before)

    def _panics(self) -> None:
        found = [
            f"{tail.log.name}: {line}"
            for tail in self._logs
            for line in tail.text().splitlines()
            if any(sign in line for sign in PANICS)
        ]
        assert not found, "\n".join(found)
