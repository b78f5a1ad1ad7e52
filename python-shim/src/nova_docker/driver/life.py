"""From spawn to destroy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nova.compute import task_states
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import errors
from nova_docker import snapshot as snapshots
from nova_docker.driver.base import Driver
from nova_docker.inside import admin_user
from nova_docker.rpc import AddressRefused, CallError
from nova_docker.spawn import Wishes, refuse_what_containers_lack
from nova_docker.v1 import driver_pb2 as api
from nova_docker.v1 import inside_pb2
from nova_docker.volumes import is_deleted, removes_volumes

LOG = logging.getLogger(__name__)


class Life(Driver):
    """Methods that make a guest, an image of it, and an end of it."""

    def spawn(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: Any,
        allocations: Any,
        network_info: Any = None,
        block_device_info: Any = None,
        power_on: bool = True,
        accel_info: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Makes a guest and starts it. Whether its password is put into it is the agent's to say."""
        refuse_what_containers_lack(block_device_info, instance)
        wishes = Wishes(injected_files, admin_password, self._revision)
        self._builder.build(context, instance, image_meta, network_info, power_on, wishes)

    def destroy(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        destroy_secrets: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Removes a guest with everything that is its own; one that is not there is removed."""
        if instance.task_state == task_states.RESIZE_REVERTING:
            # The container that is to go makes room for the one from before, in finish_revert_migration.
            self.power_off(instance)
            return
        undone = self._builder.is_undone(instance)
        deleted = is_deleted(instance)
        request = api.DeleteGuestRequest(
            guest_id=instance.uuid, server_deleted=deleted, remove_volumes=deleted and removes_volumes(instance)
        )
        with errors.translated(instance):
            try:
                self._agent.call(service.DELETE_GUEST, request)
            except (CallError, AddressRefused) as error:
                if not (undone and errors.is_away(error)):
                    raise
                # An error here would keep Nova from trying the build on another host.
                LOG.info("What the failed build may have left is removed later", instance=instance)
                self._builder.remains.add(instance.uuid)
            else:
                self._builder.remains.forget(instance.uuid)
        self._images.remove(context, instance)

    def cleanup(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        migrate_data: Any = None,
        destroy_vifs: bool = True,
        destroy_secrets: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Removes what is left of a guest, which is the same."""
        self.destroy(context, instance, network_info)

    def snapshot(
        self,
        context: Any,
        instance: Any,
        image_id: str,
        update_task_state: Callable[..., None],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Makes a guest an image."""
        snapshots.snapshot(self._agent, context, instance, image_id, update_task_state)

    def set_admin_password(self, instance: Any, new_pass: str, *args: Any, **kwargs: Any) -> None:
        """Sets the password of the guest's administrator."""
        request = inside_pb2.SetGuestPasswordRequest(
            guest_id=instance.uuid, user=admin_user(instance), password=new_pass
        )
        with errors.translated(instance, errors.setting_password):
            self._agent.call(service.SET_GUEST_PASSWORD, request)
