"""The interfaces of guests."""

from __future__ import annotations

from typing import Any

from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import devices, errors
from nova_docker.driver.base import Driver
from nova_docker.interfaces import interface, known_interfaces
from nova_docker.rpc import CallError
from nova_docker.v1 import driver_pb2 as api

LOG = logging.getLogger(__name__)


class Network(Driver):
    """Methods that plug and unplug."""

    def plug_vifs(self, instance: Any, network_info: Any, *args: Any, **kwargs: Any) -> None:
        """Plugs the interfaces of a guest; called for every server when nova-compute starts."""
        with errors.translated(instance, errors.plugging):
            try:
                plugged = known_interfaces(network_info, self._neutron_silence)
                if plugged is None:
                    LOG.warning("Interfaces stay as they are until Neutron answers", instance=instance)
                else:
                    request = api.PlugGuestRequest(guest_id=instance.uuid, interfaces=plugged)
                    self._agent.call(service.PLUG_GUEST, request)
                self._linker.follow(instance, network_info)
            except CallError as error:
                if not errors.is_missing(error):
                    raise
                # Raising would keep nova-compute from starting.
                LOG.warning("There is no container to plug interfaces into", instance=instance)

    def unplug_vifs(self, instance: Any, network_info: Any, *args: Any, **kwargs: Any) -> None:
        """Unplugs the interfaces of a guest."""
        with errors.translated(instance):
            self._agent.call(service.UNPLUG_GUEST, api.UnplugGuestRequest(guest_id=instance.uuid))

    def attach_interface(
        self, context: Any, instance: Any, image_meta: Any, vif: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Plugs one more interface into a guest."""
        with errors.translated(instance, errors.attaching(instance)):
            request = api.AttachInterfaceRequest(guest_id=instance.uuid, interface=interface(vif))
            # Before the interface is there: nothing is to be undone if the record cannot be written.
            devices.record_tags(context, instance)
            device = self._agent.call(service.ATTACH_INTERFACE, request).device
        LOG.info("Port %s is %s", vif["id"], device, instance=instance)

    def detach_interface(self, context: Any, instance: Any, vif: Any, *args: Any, **kwargs: Any) -> None:
        """Unplugs one interface of a guest."""
        request = api.DetachInterfaceRequest(guest_id=instance.uuid, port_id=vif["id"])
        with errors.translated(instance, errors.detaching(instance)):
            self._agent.call(service.DETACH_INTERFACE, request)
        devices.record_tags(context, instance, gone=vif["id"])
