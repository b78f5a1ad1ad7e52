"""A deletion comes beside what Nova's manager is doing with a server."""

from __future__ import annotations

from typing import Any

from nova import context as nova_context
from nova import exception, objects
from nova.compute import task_states


def is_under_way(instance: Any) -> bool:
    """Whether a server is being deleted, by Nova's database: the instance that a driver has is older."""
    try:
        now = objects.Instance.get_by_uuid(nova_context.get_admin_context(), instance.uuid, expected_attrs=[])
    except exception.InstanceNotFound:
        return True
    return bool(now.task_state == task_states.DELETING)
