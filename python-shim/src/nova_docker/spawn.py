"""Making a guest, while the network is being wired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nova import exception
from nova.conf import CONF
from nova.image import glance
from nova.virt import driver as virt_driver
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import errors
from nova_docker.agent import Agent
from nova_docker.devices import record_tags
from nova_docker.guest import guest, image
from nova_docker.inside import inside, refuse_of_old_agent
from nova_docker.interfaces import Vif, interfaces
from nova_docker.links import Linker
from nova_docker.remains import Remains
from nova_docker.rpc import AddressRefused, CallError
from nova_docker.v1 import driver_pb2 as api

LOG = logging.getLogger(__name__)

_STAGES = {
    api.CREATE_STAGE_IMAGE_PULLED: "The image is on the host",
    api.CREATE_STAGE_NETWORK_PLUGGED: "The interfaces are plugged",
    api.CREATE_STAGE_READY: "The container is made",
}


@dataclass(frozen=True)
class Wishes:
    """What a guest shall find inside, and the revision of the agent that puts it there."""

    files: Any
    password: str | None
    revision: int


class Builder:
    """Makes guests."""

    def __init__(self, agent: Agent, virtapi: Any, linker: Linker) -> None:
        self._agent = agent
        self._linker = linker
        self._virtapi = virtapi
        # Instances whose creation the agent gave up: nothing of them is left, which destroy may believe.
        self._undone: set[str] = set()
        self.remains = Remains(agent)

    def build(
        self, context: Any, instance: Any, image_meta: Any, network_info: Any, power_on: bool, wishes: Wishes
    ) -> None:
        """Makes the guest and starts it; on failure nothing of it is left."""
        vifs = list(network_info or ())  # Waits until Neutron has made the ports, and raises if it could not.
        record_tags(context, instance)
        found = inside(instance, wishes.files, wishes.password, network_info)
        refuse_of_old_agent(wishes.revision, found, instance)
        with errors.translated(instance, errors.spawning(instance)):
            request = api.CreateGuestRequest(
                guest=guest(instance, found),
                image=image(instance, image_meta, image_record(context, image_meta)),
                interfaces=interfaces(vifs),
            )
            self._linker.complete(instance, request, waits=True)
            self._undone.discard(instance.uuid)
            self.remains.forget(instance.uuid)
            try:
                with self._wired(instance, vifs):
                    self._create(context, instance, request)
                if power_on:
                    start = api.StartGuestRequest(guest_id=instance.uuid, interfaces=request.interfaces)
                    self._agent.call(service.START_GUEST, start)
            except BaseException:
                self._undo(instance)
                raise

    def is_undone(self, instance: Any) -> bool:
        """Whether nothing can be left of the instance, because its creation failed; may be asked once."""
        undone = instance.uuid in self._undone
        self._undone.discard(instance.uuid)
        return undone

    def _create(self, context: Any, instance: Any, request: api.CreateGuestRequest) -> None:
        try:
            with self._agent.stream(service.CREATE_GUEST, request, context) as answers:
                for answer in answers:
                    LOG.info("%s", _STAGES.get(answer.stage, answer.stage), instance=instance)
        except CallError as error:
            # It undoes what it gives up; of one that fell silent nobody knows.
            if error.settled:
                self._undone.add(instance.uuid)
            raise
        except AddressRefused:
            self._undone.add(instance.uuid)
            raise

    def _undo(self, instance: Any) -> None:
        if instance.uuid in self._undone:
            return
        try:
            self._agent.call(service.DELETE_GUEST, api.DeleteGuestRequest(guest_id=instance.uuid))
        except (CallError, AddressRefused) as error:
            LOG.warning("Cannot remove what is left of the failed build yet: %s", error, instance=instance)
            self.remains.add(instance.uuid)

    @contextmanager
    def _wired(self, instance: Any, vifs: list[Vif]) -> Iterator[None]:
        """Waits, after the block, until Neutron has told of every interface that it is wired."""
        timeout = CONF.vif_plugging_timeout
        waited = [("network-vif-plugged", vif["id"]) for vif in vifs if not vif.get("active", True)] if timeout else []
        try:
            # Planned before the guest is made: Neutron's events may come as soon as the interfaces are plugged.
            # The timeout has another name in older releases.
            with self._virtapi.wait_for_instance_event(instance, waited, timeout, _wiring_failed):
                yield
        except _timeouts():
            ports = ", ".join(port for _, port in waited)
            text = f"Neutron did not tell within {timeout} seconds that ports {ports} are wired"
            LOG.warning("%s", text, instance=instance)
            if CONF.vif_plugging_is_fatal:
                raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=text) from None


def refuse_what_containers_lack(block_device_info: Mapping[str, Any] | None, instance: Any) -> None:
    """Containers have no disks but the one of the image, and nothing that is asked for is left out silently.

    nova-compute itself refuses trusted certificates: the driver has no capability for them.
    """
    if virt_driver.block_device_info_get_mapping(block_device_info):
        reason = "volumes are not supported for containers, only the image's root disk is"
    elif virt_driver.block_device_info_get_ephemerals(block_device_info) or virt_driver.swap_is_usable(
        virt_driver.block_device_info_get_swap(block_device_info)
    ):
        reason = "ephemeral and swap disks are not supported for containers; choose a flavor without them"
    else:
        return
    raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=reason)


def _wiring_failed(event_name: str, instance: Any) -> bool:
    text = f"Neutron could not wire a port ({event_name})"
    LOG.warning("%s", text, instance=instance)
    if CONF.vif_plugging_is_fatal:
        raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=text)
    return True


def _timeouts() -> tuple[type[BaseException], ...]:
    """What a wait for events ends with: Nova's own exception, or eventlet's in releases before there was one."""
    known = getattr(exception, "InstanceEventTimeout", None)
    if known is not None:
        return (known,)
    import eventlet.timeout

    return (eventlet.timeout.Timeout,)


def image_record(context: Any, image_meta: Any) -> Mapping[str, Any]:
    """The image as Glance tells it, which is more than Nova hands on; empty when it cannot be had now."""
    if image_meta is None or "id" not in image_meta or not image_meta.id:
        return {}
    try:
        record: Mapping[str, Any] = glance.API().get(context, image_meta.id)
    except Exception as error:
        # Whatever it is: the agent will read the image itself, and say what is wrong with it.
        LOG.debug("Cannot read the record of image %s: %s", image_meta.id, error)
        return {}
    return record
