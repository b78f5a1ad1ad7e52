"""A guest's container makes room for another one: rebuild, rescue, resize."""

from __future__ import annotations

from typing import Any

from nova import exception
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import errors
from nova_docker.agent import Agent
from nova_docker.guest import guest, image
from nova_docker.inside import inside
from nova_docker.interfaces import interfaces
from nova_docker.links import Linker
from nova_docker.remains import Remains
from nova_docker.rpc import AddressRefused, CallError
from nova_docker.spawn import image_record
from nova_docker.v1 import driver_pb2 as api

LOG = logging.getLogger(__name__)


class Replacer:
    """Puts a container in the place of the one that a guest has, and takes it away again."""

    def __init__(self, agent: Agent, linker: Linker, remains: Remains) -> None:
        self._agent = agent
        self._linker = linker
        self._remains = remains

    def replace(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        network_info: Any,
        purpose: api.ReplacePurpose,
        *,
        files: Any = None,
        password: str | None = None,
        power_on: bool = True,
    ) -> None:
        """Makes the other container and starts it. On failure the one that there was is there again, stopped."""
        plugged = interfaces(network_info)
        found = inside(instance, files, password, network_info)
        with errors.translated(instance, errors.spawning(instance)):
            request = api.ReplaceGuestRequest(
                guest=guest(instance, found),
                image=image(instance, image_meta, image_record(context, image_meta)),
                interfaces=plugged,
                purpose=purpose,
            )
            self._linker.complete(instance, request)
            # A server whose build failed may be rebuilt.
            self._remains.forget(instance.uuid)
            try:
                with self._agent.stream(service.REPLACE_GUEST, request, context) as answers:
                    for answer in answers:
                        LOG.debug("Stage %s of the replacement is done", answer.stage, instance=instance)
                if power_on:
                    start = api.StartGuestRequest(guest_id=instance.uuid, interfaces=plugged)
                    self._agent.call(service.START_GUEST, start)
            except BaseException:
                self._undo(instance)
                raise

    def settle(self, instance: Any) -> None:
        """Removes the container that made room."""
        with errors.translated(instance):
            self._agent.call(service.SETTLE_GUEST, api.SettleGuestRequest(guest_id=instance.uuid))

    def settle_later_if_need_be(self, instance: Any) -> None:
        """As settle; the next replacement does what cannot be done now."""
        try:
            self._agent.call(service.SETTLE_GUEST, api.SettleGuestRequest(guest_id=instance.uuid))
        except (CallError, AddressRefused) as error:
            LOG.warning("The container from before stays for now: %s", error, instance=instance)

    def restore(self, instance: Any) -> None:
        """Brings the container that made room back, stopped."""
        with errors.translated(instance):
            self._agent.call(service.RESTORE_GUEST, api.RestoreGuestRequest(guest_id=instance.uuid))

    def _undo(self, instance: Any) -> None:
        try:
            self._agent.call(service.RESTORE_GUEST, api.RestoreGuestRequest(guest_id=instance.uuid))
        except (CallError, AddressRefused) as error:
            LOG.warning("Cannot bring the container from before back: %s", error, instance=instance)


def refuse_other_host(instance: Any, destination: str, own: str) -> None:
    """Containers are resized where they are."""
    if destination != own:
        reason = f"containers are not migrated to other hosts ({destination}); resize on the same host"
        raise exception.InstanceFaultRollback(inner_exception=exception.MigrationError(reason=reason))
