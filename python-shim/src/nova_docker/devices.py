"""The interfaces that a user has tagged, as the server's metadata names them. Containers have no buses."""

from __future__ import annotations

from typing import Any

from nova import objects


def record_tags(context: Any, instance: Any, gone: str | None = None) -> None:
    """Writes the tagged interfaces into the instance's record, but the one of the port that is gone."""
    interfaces = objects.VirtualInterfaceList.get_by_instance_uuid(context, instance.uuid)
    tagged = {
        interface.address: [interface.tag]
        for interface in interfaces
        if interface.uuid != gone and "tag" in interface and interface.tag
    }
    if not tagged and not instance.device_metadata:
        return
    instance.device_metadata = objects.InstanceDeviceMetadata(
        devices=[objects.NetworkInterfaceMetadata(mac=mac, tags=tags, vf_trusted=False) for mac, tags in tagged.items()]
    )
    instance.save()
