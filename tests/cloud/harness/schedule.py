"""Which worker of pytest-xdist runs which test, and when.

Tests that share servers of their module stay on one worker. Tests that must be alone form a group of their own, which
the last worker begins when all others have ended and have taken away what they had.

The process that leads the workers collects nothing, and pytest-xdist's own groups are written into the names of tests,
where pytest 9.2 does not find them. So each worker writes the groups to a file that the leader names.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling
from xdist.workermanage import WorkerController

ALONE = "alone"
"""The group of the tests that must be alone, and the marker of these tests."""

GROUPS_FILE = "cloud_groups"
"""Where a worker finds the file's path in its `workerinput`."""


def arrange(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put tests that take long first and those that must be alone last, and tell the leader the groups."""
    items.sort(key=_turn)
    if not hasattr(config, "workerinput"):
        return
    groups = {item.nodeid: group for item in items if (group := _group(item))}
    path = Path(config.workerinput[GROUPS_FILE])
    fresh = path.with_name(config.workerinput["workerid"])
    fresh.write_text(json.dumps(groups))
    # All workers write the same.
    os.replace(fresh, path)


def _turn(item: pytest.Item) -> int:
    if _must_be_alone(item):
        return 2
    return 0 if item.get_closest_marker("long") else 1


def _must_be_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker(ALONE) is not None


def _group(item: pytest.Item) -> str | None:
    """The module of a test that uses a fixture which lives as long as the module."""
    if _must_be_alone(item):
        return ALONE
    definitions = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
    scopes = {definition.scope for found in definitions for definition in found[-1:]}
    return item.module.__name__ if "module" in scopes else None  # type: ignore[attr-defined]


class AloneLast(LoadScopeScheduling):
    """As `--dist loadscope`, with groups for scopes; that of the tests which must be alone waits for all others."""

    def __init__(self, config: pytest.Config, log: Producer, groups_file: Path) -> None:
        super().__init__(config, log)
        self._groups_file = groups_file

    @functools.cached_property
    def _groups(self) -> dict[str, str]:
        groups: dict[str, str] = json.loads(self._groups_file.read_text())
        return groups

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)

    def _only_alone_is_left(self) -> bool:
        return list(self.workqueue) == [ALONE]

    def _assign_work_unit(self, node: WorkerController) -> None:
        if ALONE in self.workqueue:
            self.workqueue.move_to_end(ALONE)
        if self._only_alone_is_left() and len(self.nodes) > 1:
            return
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        others_stay = any(other is not node and not other.shutting_down for other in self.nodes)
        if self._only_alone_is_left() and others_stay and not node.shutting_down:
            # It ends what it has; another one waits for that.
            node.shutdown()
        else:
            super()._reschedule(node)

    def remove_node(self, node: WorkerController) -> str | None:
        crashed: str | None = super().remove_node(node)
        if self._only_alone_is_left():
            for left in self.nodes:
                self._reschedule(left)
        return crashed
