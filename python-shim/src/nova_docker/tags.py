"""Tags of servers that tell of their guests: exit:CODE of one that has ended, health:FINDING of one with a check,
user_data:CODE of one whose script has ended."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from nova import exception, objects
from oslo_log import log as logging

from nova_docker.v1 import guest_pb2, inside_pb2

LOG = logging.getLogger(__name__)

# Nova's limit for a server (MAX_TAG_COUNT). Only its API keeps it.
MOST = 50

_ENDED = (guest_pb2.POWER_STATE_STOPPED, guest_pb2.POWER_STATE_CRASHED)
# The findings of a check, in Docker's words.
HEALTH: dict[int, str] = {
    inside_pb2.GUEST_HEALTH_STARTING: "starting",
    inside_pb2.GUEST_HEALTH_HEALTHY: "healthy",
    inside_pb2.GUEST_HEALTH_UNHEALTHY: "unhealthy",
}
# Tags in any other form are their users'.
_OURS = re.compile(r"(exit|user_data):(0|-?[1-9][0-9]*)|health:(starting|healthy|unhealthy)")


def has_ended(guest: guest_pb2.GuestState | None) -> bool:
    """Whether there is a guest, and its first process has ended."""
    return guest is not None and guest.power_state in _ENDED


def wanted(guest: guest_pb2.GuestState | None) -> list[str]:
    """The tags that tell of a guest, the more important one first."""
    told = []
    if guest is not None and has_ended(guest) and guest.HasField("exit_code"):
        told.append(f"exit:{guest.exit_code}")
    if guest is not None and guest.HasField("script_exit_code"):
        told.append(f"user_data:{guest.script_exit_code}")
    if guest is not None and guest.health in HEALTH:
        told.append(f"health:{HEALTH[guest.health]}")
    return told


def changes(tags: Iterable[str], told: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The tags to remove, those to add, and those for which the server has too many others."""
    tags = list(tags)
    ours = [tag for tag in tags if _OURS.fullmatch(tag)]
    stale = [tag for tag in ours if tag not in told]
    new = [tag for tag in told if tag not in tags]
    room = max(0, MOST - (len(tags) - len(stale)))
    return stale, new[:room], new[room:]


def write(context: Any, instance: Any, guest: guest_pb2.GuestState | None) -> None:
    """Brings the tags of an instance, read with them, to what its guest is.

    Each is a row of its own: others write theirs at the same time.
    """
    stale, new, without_room = changes([tag.tag for tag in instance.tags], wanted(guest))
    for tag in stale:
        try:
            objects.Tag.destroy(context, instance.uuid, tag)
        except exception.InstanceTagNotFound:
            LOG.debug("Somebody else has removed the tag %s", tag, instance=instance)
    for tag in new:
        objects.Tag(context, resource_id=instance.uuid, tag=tag).create()
    if without_room:
        LOG.info(
            "The server has %d tags, as many as Nova allows; not written: %s", MOST, without_room, instance=instance
        )
