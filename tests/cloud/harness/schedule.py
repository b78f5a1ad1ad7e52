"""Which worker of pytest-xdist runs which test, and when.

Tests that share servers of their module stay on one worker (pytest-xdist's groups). Tests that must be alone form a
group of their own, which the last worker begins when all others have ended and have taken away what they had.
"""

from __future__ import annotations

import pytest
from xdist.scheduler.loadgroup import LoadGroupScheduling
from xdist.workermanage import WorkerController

ALONE = "alone"
"""The group of the tests that must be alone, and the marker of these tests."""


def arrange(items: list[pytest.Item]) -> None:
    """Put tests that must be alone last, and mark the groups."""
    items.sort(key=lambda item: item.get_closest_marker(ALONE) is not None)
    for item in items:
        group = ALONE if item.get_closest_marker(ALONE) else _module_that_it_shares_with(item)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))


def _module_that_it_shares_with(item: pytest.Item) -> str | None:
    """The name of its module if it uses a fixture that lives as long as the module."""
    definitions = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
    scopes = {definition.scope for found in definitions for definition in found[-1:]}
    return item.module.__name__ if "module" in scopes else None  # type: ignore[attr-defined]


class AloneLast(LoadGroupScheduling):
    """As `--dist loadgroup`; the group of those that must be alone waits until one worker is left."""

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
