"""What guests there are, what they do and write, and what they have used."""

from __future__ import annotations

from typing import Any

from nova import context as nova_context
from nova import objects
from nova.compute import power_state
from nova.conf import CONF
from nova.console import type as console_type
from nova.virt import hardware

from nova_docker import agent as service
from nova_docker import diagnostics, errors
from nova_docker.driver.base import Driver
from nova_docker.guest import POWER_STATES, is_suspended
from nova_docker.v1 import console_pb2, inside_pb2
from nova_docker.v1 import driver_pb2 as api


class Guests(Driver):
    """Methods that change nothing."""

    def list_instance_uuids(self, *args: Any, **kwargs: Any) -> list[str]:
        """Every guest on this host."""
        with errors.translated(None):
            return [guest.guest_id for guest in self._agent.call(service.LIST_GUESTS, api.ListGuestsRequest()).guests]

    def list_instances(self, *args: Any, **kwargs: Any) -> list[str]:
        """Names of the guests, which only Nova knows; the UUID of one that Nova does not know."""
        uuids = self.list_instance_uuids()
        context = nova_context.get_admin_context()
        known = objects.InstanceList.get_by_filters(context, {"uuid": uuids, "deleted": False}) if uuids else []
        names = {instance.uuid: instance.name for instance in known}
        return [names.get(uuid, uuid) for uuid in uuids]

    def get_info(self, instance: Any, use_cache: bool = True, *args: Any, **kwargs: Any) -> Any:
        """What a guest is doing."""
        with errors.translated(instance):
            guest = self._agent.call(service.GET_GUEST, api.GetGuestRequest(guest_id=instance.uuid)).guest
        state = POWER_STATES.get(guest.power_state, power_state.NOSTATE)
        if state == power_state.CRASHED and getattr(self._ended, "guest_id", None) == instance.uuid:
            state = power_state.SHUTDOWN
        if state == power_state.PAUSED and is_suspended(instance):
            state = power_state.SUSPENDED
        return hardware.InstanceInfo(state=state)

    def get_console_output(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> bytes:
        """What a guest has written; Nova cuts lines off."""
        request = api.GetConsoleOutputRequest(guest_id=instance.uuid)
        with errors.translated(instance), self._agent.stream(service.GET_CONSOLE_OUTPUT, request) as answers:
            return b"".join(answer.chunk for answer in answers)

    def get_serial_console(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> Any:
        """Where nova-serialproxy finds a guest's console; asked for again when it is about to connect."""
        request = console_pb2.GetSerialConsoleRequest(
            guest_id=instance.uuid, life={"seconds": CONF.consoleauth.token_ttl}
        )
        with errors.translated(instance, errors.opening_console):
            console = self._agent.call(service.GET_SERIAL_CONSOLE, request)
        return console_type.ConsoleSerial(
            host=console.host, port=console.port, internal_access_path=console.internal_access_path
        )

    def get_diagnostics(self, instance: Any, *args: Any, **kwargs: Any) -> dict[str, int | str]:
        """What a guest has used, in the form before API 2.48."""
        return diagnostics.free(self._diagnostics(instance))

    def get_instance_diagnostics(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        """What a guest has used, in the form of API 2.48."""
        return diagnostics.standard(self._diagnostics(instance), instance)

    def _diagnostics(self, instance: Any) -> inside_pb2.GuestDiagnostics:
        request = inside_pb2.GetGuestDiagnosticsRequest(guest_id=instance.uuid)
        with errors.translated(instance):
            return self._agent.call(service.GET_GUEST_DIAGNOSTICS, request).diagnostics
