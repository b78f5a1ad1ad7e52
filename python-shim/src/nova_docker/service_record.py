"""Takes the host out of scheduling while it cannot do anything, as Nova's own drivers do."""

from __future__ import annotations

from typing import Any

from nova import context as nova_context
from nova import exception, objects
from nova.conf import CONF
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

# Nova's own word for a reason that no operator wrote.
PREFIX = "AUTO: "
# Characters that the database has for a reason.
_REASON_LIMIT = 255


def set_usable(virtapi: Any, problem: str | None) -> None:
    """Disables the compute service because of a problem, or, without one, enables it again.

    What an operator has disabled stays as it is. A failure is only logged: the schedulers notice at the next audit.
    """
    try:
        _set_usable(virtapi, problem)
    except exception.ComputeHostNotFound:
        LOG.debug("The compute service has no record yet")
    except Exception as error:
        LOG.warning("Cannot change the record of the compute service: %s", error)


def _set_usable(virtapi: Any, problem: str | None) -> None:
    context = nova_context.get_admin_context()
    service = objects.Service.get_by_compute_host(context, CONF.host)
    automatic = (service.disabled_reason or "").startswith(PREFIX)
    if service.disabled == bool(problem) or (service.disabled and not automatic):
        return
    service.disabled = bool(problem)
    service.disabled_reason = (PREFIX + problem)[:_REASON_LIMIT] if problem else None
    service.save()
    if problem:
        LOG.warning("The compute service is disabled: %s", problem)
    else:
        LOG.info("The compute service is enabled again")
    # The record tells operators; the trait tells Placement, which keeps new servers away at once.
    virtapi.update_compute_provider_status(context, service.compute_node.uuid, enabled=not problem)
