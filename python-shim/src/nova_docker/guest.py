"""From Nova's instance and image to the agent's guest and image, and back to Nova's states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nova.compute import power_state
from nova.conf import CONF

from nova_docker.v1 import guest_pb2

try:
    from nova.virt import node
except ImportError:
    # Before Nova 27 a compute service had no identity.
    node = None

POWER_STATES: dict[int, int] = {
    guest_pb2.POWER_STATE_CREATED: power_state.SHUTDOWN,
    guest_pb2.POWER_STATE_RUNNING: power_state.RUNNING,
    guest_pb2.POWER_STATE_PAUSED: power_state.PAUSED,
    guest_pb2.POWER_STATE_STOPPED: power_state.SHUTDOWN,
    guest_pb2.POWER_STATE_CRASHED: power_state.CRASHED,
}

_IMAGE = "image_"


def guest(instance: Any) -> guest_pb2.Guest:
    """What an instance shall be."""
    flavor = instance.flavor
    key = None
    if instance.key_data:
        key = guest_pb2.PublicKey(name=instance.key_name or "", data=instance.key_data.strip())
    return guest_pb2.Guest(
        guest_id=instance.uuid,
        name=instance.display_name or "",
        hostname=instance.hostname or "",
        project_id=instance.project_id or "",
        user_id=instance.user_id or "",
        vcpus=flavor.vcpus,
        memory_mib=flavor.memory_mb,
        root_gib=flavor.root_gb,
        swap_mib=flavor.swap or 0,
        extra_specs={name: str(value) for name, value in (flavor.extra_specs or {}).items()},
        key=key,
        owner=owner(),
    )


def owner() -> str:
    """Who makes guests: the compute service's identity, or, where it has none, its host name."""
    return str(CONF.host if node is None else node.get_local_node_uuid())


def image(instance: Any, image_meta: Any, record: Mapping[str, Any]) -> guest_pb2.Image:
    """What an instance is made of; record is the image as Nova's Glance client tells it, or empty."""
    return guest_pb2.Image(
        image_id=_field(image_meta, "id") or instance.image_ref or "",
        name=_field(image_meta, "name") or "",
        # Nova has checked it, and does not always say so.
        status=_field(image_meta, "status") or "active",
        size=_field(image_meta, "size") or 0,
        container_format=_field(image_meta, "container_format") or "",
        disk_format=_field(image_meta, "disk_format") or "",
        content_hash=record.get("os_hash_value") or None,
        properties=image_properties(instance, image_meta, record),
    )


def image_properties(instance: Any, image_meta: Any, record: Mapping[str, Any]) -> dict[str, str]:
    """The image's properties as texts.

    Nova's ImageMeta keeps only those that Nova knows (os_command_line is one). The instance's system metadata has all,
    each cut to 255 characters. Only Glance has all of all.
    """
    found = {
        name.removeprefix(_IMAGE): value
        for name, value in (instance.system_metadata or {}).items()
        if name.startswith(_IMAGE)
    }
    known = _field(image_meta, "properties")
    if known is not None:
        found.update({name: known.get(name) for name in known.fields if known.get(name) is not None})
    found.update(record.get("properties") or {})
    return {name: str(value) for name, value in found.items() if isinstance(value, str | int)}


def _field(image_meta: Any, name: str) -> Any:
    return getattr(image_meta, name) if image_meta is not None and name in image_meta else None
