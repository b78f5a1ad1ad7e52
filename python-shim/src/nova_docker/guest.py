"""From Nova's instance and image to the agent's guest and image, and back to Nova's states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nova.compute import power_state, task_states, vm_states
from nova.conf import CONF

from nova_docker.amounts import UINT32, UINT64, amount, size, text
from nova_docker.v1 import guest_pb2, inside_pb2

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
    guest_pb2.POWER_STATE_SUSPENDED: power_state.SUSPENDED,
}

_IMAGE = "image_"
# Nova cuts the image's properties after 255 bytes, and before a character of more than one that would go beyond.
_SURELY_WHOLE = 251


def is_suspended(instance: Any) -> bool:
    """Whether an instance is suspended, or about to be: its guest is frozen for that, and not because it is paused."""
    return bool(instance.vm_state == vm_states.SUSPENDED or instance.task_state == task_states.SUSPENDING)


def guest(instance: Any, inside: inside_pb2.Inside | None = None) -> guest_pb2.Guest:
    """What an instance shall be; raises CallError when its flavor has numbers that no container can have."""
    flavor = instance.flavor
    key = None
    if instance.key_data:
        key = guest_pb2.PublicKey(name=text(instance.key_name), data=text(instance.key_data).strip())
    return guest_pb2.Guest(
        guest_id=instance.uuid,
        name=text(instance.display_name),
        hostname=text(instance.hostname),
        project_id=text(instance.project_id),
        user_id=text(instance.user_id),
        vcpus=amount("the flavor's vcpus", flavor.vcpus, UINT32, least=1),
        memory_mib=amount("the flavor's ram", flavor.memory_mb, UINT64, least=1),
        root_gib=amount("the flavor's disk", flavor.root_gb, UINT64),
        swap_mib=amount("the flavor's swap", flavor.swap, UINT64),
        extra_specs={text(name): text(value) for name, value in (flavor.extra_specs or {}).items()},
        key=key,
        owner=owner(),
        metadata=_metadata(instance),
        user_data=text(instance.user_data),
        inside=inside,
    )


def _metadata(instance: Any) -> dict[str, str]:
    found = {text(name): text(value) for name, value in (instance.metadata or {}).items()}
    if instance.vm_state == vm_states.SHELVED_OFFLOADED:
        # The script had run before the server was shelved.
        found.pop("docker:run_user_data", None)
    return found


def owner() -> str:
    """Who makes guests: the compute service's identity, or, where it has none, its host name."""
    return str(CONF.host if node is None else node.get_local_node_uuid())


def image(instance: Any, image_meta: Any, record: Mapping[str, Any]) -> guest_pb2.Image:
    """What an instance is made of; record is the image as Nova's Glance client tells it, or empty."""
    return guest_pb2.Image(
        image_id=_field(image_meta, "id") or instance.image_ref or "",
        name=text(_field(image_meta, "name")),
        # Nova has checked it, and does not always say so.
        status=_field(image_meta, "status") or "active",
        size=size(_field(image_meta, "size")),
        container_format=text(_field(image_meta, "container_format")),
        disk_format=text(_field(image_meta, "disk_format")),
        content_hash=text(record.get("os_hash_value")) or None,
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
    return {text(name): text(value) for name, value in found.items() if isinstance(value, str | int)}


def properties_are_whole(instance: Any) -> bool:
    """Whether Nova has kept those properties of the image whole that the agent reads."""
    return not any(
        len(str(value).encode()) > _SURELY_WHOLE
        for name, value in (instance.system_metadata or {}).items()
        if name.startswith((f"{_IMAGE}docker_", f"{_IMAGE}os_command_line"))
    )


def _field(image_meta: Any, name: str) -> Any:
    return getattr(image_meta, name) if image_meta is not None and name in image_meta else None
