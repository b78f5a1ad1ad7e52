"""What becomes of named volumes when a guest is removed."""

from __future__ import annotations

from typing import Any

from nova.compute import task_states, vm_states

_REMOVE = "docker:remove_volumes"
# As the agent reads a truth.
_TRUE = {"true", "yes", "on", "1"}


def is_deleted(instance: Any) -> bool:
    """Whether the server itself is deleted: Nova destroys a guest to rebuild or shelve it too, or if a build failed."""
    return bool(
        instance.deleted
        or instance.task_state == task_states.DELETING
        # Nova reclaims the one without a task, and ends the deletion of the other.
        or instance.vm_state in (vm_states.SOFT_DELETED, vm_states.DELETED)
    )


def removes_volumes(instance: Any) -> bool:
    """Whether the user wants the volumes removed that no other server names; kept while nothing is known of it."""
    metadata = instance.metadata if "metadata" in instance else None
    return str((metadata or {}).get(_REMOVE, "")).strip().lower() in _TRUE
