"""What a guest is to do: run, rest, stop."""

from __future__ import annotations

from typing import Any

from nova.conf import CONF
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import amounts, deletion, errors
from nova_docker.driver.base import Driver
from nova_docker.interfaces import interfaces
from nova_docker.reboot import complete
from nova_docker.rpc import CallError
from nova_docker.v1 import driver_pb2 as api

LOG = logging.getLogger(__name__)

# The revision of the contract in which a hard reboot says what the guest shall be.
_SAYS_AT_REBOOT = 6
# Seconds that the agent may take to keep the files of a container that it makes again.
_MADE_AGAIN = 4 * 3600


class Power(Driver):
    """Methods that start and stop a guest's processes."""

    def power_on(self, context: Any, instance: Any, network_info: Any, *args: Any, **kwargs: Any) -> None:
        """Starts a guest."""
        with errors.translated(instance, errors.powering_on):
            request = api.StartGuestRequest(
                guest_id=instance.uuid,
                interfaces=interfaces(network_info),
                user_data=amounts.text(instance.user_data) or None,
            )
            self._linker.follow(instance, network_info)
            self._agent.call(service.START_GUEST, request)

    def power_off(self, instance: Any, timeout: Any = 0, retry_interval: int = 0, *args: Any, **kwargs: Any) -> None:
        """Stops a guest, which has timeout seconds to end by itself."""
        if hasattr(timeout, "uuid"):
            # The manager calls it with (context, instance) where it reaps deleted instances.
            instance, timeout = timeout, 0
        seconds = amounts.shutdown_timeout(timeout, instance)
        with errors.translated(instance, errors.powering_off):
            request = api.StopGuestRequest(guest_id=instance.uuid, timeout={"seconds": seconds})
            self._agent.call(service.STOP_GUEST, request, longer=seconds)

    def reboot(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        reboot_type: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Stops and starts a guest; a soft reboot lets it end by itself."""
        # As the manager finds it for power_off; the reboot is not told.
        wanted = instance.system_metadata.get("image_os_shutdown_timeout", CONF.shutdown_timeout)
        seconds = amounts.shutdown_timeout(wanted, instance) if reboot_type == "SOFT" else 0
        with errors.translated(instance, errors.rebooting):
            request = api.RebootGuestRequest(
                guest_id=instance.uuid,
                interfaces=interfaces(network_info),
                timeout={"seconds": seconds},
                user_data=amounts.text(instance.user_data) or None,
            )
            self._linker.follow(instance, network_info)
            if reboot_type == "HARD" and self._revision >= _SAYS_AT_REBOOT and complete(request, context, instance):
                self._linker.complete(instance, request)
                seconds = _MADE_AGAIN
            self._agent.call(service.REBOOT_GUEST, request, longer=seconds)

    def resume_state_on_host_boot(
        self, context: Any, instance: Any, network_info: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Starts a guest that ran before the host went down. What follows is in another order in every release."""
        self.power_on(context, instance, network_info)

    def pause(self, instance: Any, *args: Any, **kwargs: Any) -> None:
        """Freezes a guest."""
        with errors.translated(instance):
            self._agent.call(service.PAUSE_GUEST, api.PauseGuestRequest(guest_id=instance.uuid))

    def unpause(self, instance: Any, *args: Any, **kwargs: Any) -> None:
        """Thaws a guest."""
        with errors.translated(instance):
            self._agent.call(service.UNPAUSE_GUEST, api.UnpauseGuestRequest(guest_id=instance.uuid))

    def suspend(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        """Suspends a guest, as the agent is configured to."""
        with errors.translated(instance, errors.suspending):
            try:
                self._agent.call(service.SUSPEND_GUEST, api.SuspendGuestRequest(guest_id=instance.uuid))
            except CallError as error:
                if not errors.is_cancelled(error) or not deletion.is_under_way(instance):
                    raise
                # Whatever is raised, the manager puts the server into an error state, or takes the deletion's task
                # away. What it saves next is refused because of that task, and it leaves the server to the deletion.
                LOG.info("Its suspension has ended: it is being deleted.", instance=instance)

    def resume(self, context: Any, instance: Any, network_info: Any, *args: Any, **kwargs: Any) -> None:
        """Lets a suspended guest go on; one that ended meanwhile is plugged and started."""
        with errors.translated(instance, errors.suspending):
            request = api.ResumeGuestRequest(
                guest_id=instance.uuid,
                interfaces=interfaces(network_info),
                user_data=amounts.text(instance.user_data) or None,
            )
            self._linker.follow(instance, network_info)
            self._agent.call(service.RESUME_GUEST, request)
