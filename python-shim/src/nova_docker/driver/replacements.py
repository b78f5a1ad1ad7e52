"""Another container in the place of the one that a guest has."""

from __future__ import annotations

import contextlib
from typing import Any

from nova import exception
from nova.compute import task_states
from nova.conf import CONF

from nova_docker.driver.base import Driver
from nova_docker.replace import refuse_other_host
from nova_docker.spawn import refuse_what_containers_lack
from nova_docker.v1 import driver_pb2 as api


class Replacements(Driver):
    """Methods of rebuild, rescue and resize."""

    def rebuild(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: Any,
        allocations: Any,
        bdms: Any,
        detach_block_devices: Any,
        attach_block_devices: Any,
        network_info: Any = None,
        evacuate: bool = False,
        block_device_info: Any = None,
        preserve_ephemeral: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Makes a guest anew; the old container goes when the new one is there."""
        if evacuate:
            raise NotImplementedError
        if preserve_ephemeral:
            raise exception.PreserveEphemeralNotSupported
        refuse_what_containers_lack(block_device_info, instance)
        with contextlib.suppress(exception.InstanceNotFound):  # Nova would take it for a deletion.
            self.power_off(instance, CONF.shutdown_timeout)
        for task, before in (
            (task_states.REBUILD_BLOCK_DEVICE_MAPPING, task_states.REBUILDING),
            (task_states.REBUILD_SPAWNING, task_states.REBUILD_BLOCK_DEVICE_MAPPING),
        ):
            instance.task_state = task
            instance.save(expected_task_state=[before])
        purpose = api.REPLACE_PURPOSE_REBUILD
        self._replacer.replace(
            context, instance, image_meta, network_info, purpose, files=injected_files, password=admin_password
        )
        self._replacer.settle_later_if_need_be(instance)

    def rescue(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        image_meta: Any,
        rescue_password: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Runs another image in a guest's network, with the guest's files at /rescue."""
        self._replacer.replace(context, instance, image_meta, network_info, api.REPLACE_PURPOSE_RESCUE)

    def unrescue(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        """Runs the guest again."""
        self._replacer.restore(instance)
        self.power_on(context, instance, instance.get_network_info())

    def migrate_disk_and_power_off(
        self,
        context: Any,
        instance: Any,
        dest: str,
        flavor: Any,
        network_info: Any,
        block_device_info: Any = None,
        timeout: int = 0,
        retry_interval: int = 0,
        *args: Any,
        **kwargs: Any,
    ) -> str:
        """Stops a guest that is to have another flavor on this host."""
        refuse_other_host(instance, dest, self.get_host_ip_addr())
        self.power_off(instance, timeout)
        return ""

    def finish_migration(
        self,
        context: Any,
        migration: Any,
        instance: Any,
        disk_info: Any,
        network_info: Any,
        image_meta: Any,
        resize_instance: bool,
        allocations: Any,
        block_device_info: Any = None,
        power_on: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Makes a guest's container anew within the limits of its new flavor."""
        purpose = api.REPLACE_PURPOSE_RESIZE
        self._replacer.replace(context, instance, image_meta, network_info, purpose, power_on=power_on)
        if not power_on:
            # Nothing starts that would tell of it.
            self._looks.soon(instance.uuid)

    def confirm_migration(self, context: Any, migration: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        """Removes the container with the old flavor."""
        self._replacer.settle(instance)

    def finish_revert_migration(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        migration: Any,
        block_device_info: Any = None,
        power_on: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Brings the container with the old flavor back."""
        self._replacer.restore(instance)
        if power_on:
            self.power_on(context, instance, network_info)
        else:
            self._looks.soon(instance.uuid)
