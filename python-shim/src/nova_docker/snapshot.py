"""Making an image of a guest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from nova import exception
from nova.compute import task_states
from nova.image import glance
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import errors
from nova_docker.agent import Agent
from nova_docker.background import Background
from nova_docker.v1 import driver_pb2 as api

LOG = logging.getLogger(__name__)

THREADS = 4
MOST_WAITING = 1000
"""Deletions whose look at Glance may wait; each keeps a user's token."""


def snapshot(agent: Agent, context: Any, instance: Any, image_id: str, update_task_state: Callable[..., None]) -> None:
    """Uploads the guest's file system into the image; raises half-way when the user deletes the server meanwhile."""
    request = api.SnapshotGuestRequest(guest_id=instance.uuid, image_id=image_id, project_id=instance.project_id or "")
    with (
        errors.translated(instance, errors.snapshotting(instance, image_id)),
        agent.stream(service.SNAPSHOT_GUEST, request, context) as answers,
    ):
        told: set[int] = set()
        for answer in answers:
            # A repeated call begins anew, but the server's task state goes forward only.
            if answer.stage in told:
                continue
            told.add(answer.stage)
            if answer.stage == api.SNAPSHOT_STAGE_CAPTURED:
                LOG.info("The file system is captured", instance=instance)
                update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
            elif answer.stage == api.SNAPSHOT_STAGE_UPLOADING:
                update_task_state(
                    task_state=task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD
                )


class UnbegunImages:
    """Deletes images of servers that are being deleted which nothing was put into yet.

    The API makes a snapshot's image before nova-compute hears of it, and nova-compute leaves it when the server's
    deletion comes first.
    """

    def __init__(self) -> None:
        self._background = Background("removal of unbegun images", THREADS, MOST_WAITING)

    def remove(self, context: Any, instance: Any) -> None:
        """Begins it. Nobody waits: the server is to go even when Glance does not answer."""
        if instance.task_state != task_states.DELETING or not context.auth_token:
            return
        if not self._background.submit(partial(_remove_unbegun, context, instance.uuid)):
            LOG.warning("Images whose making had not begun may stay: Glance is too slow", instance=instance)


def _remove_unbegun(context: Any, uuid: str) -> None:
    context.update_store()  # For the request id in the log.
    images = glance.API()
    try:
        # The API writes down which server an image is of.
        unbegun = images.get_all(context, filters={"instance_uuid": uuid, "status": "queued"})
        for image in unbegun:
            LOG.info("Deleting image %s, whose making had not begun", image["id"], instance_uuid=uuid)
            with suppress(exception.ImageNotFound):
                images.delete(context, image["id"])
    except Exception as error:
        LOG.warning("Images whose making had not begun may stay: %s", error, instance_uuid=uuid)
