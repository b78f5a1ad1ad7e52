"""The virt driver: what nova-compute calls.

Each method converts, calls the agent and translates its errors. What it does not override does what Nova's base class
says: mostly that it is not implemented. Every method takes arguments that it does not know, because releases of Nova
add some, and give them by position.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from nova import context as nova_context
from nova import exception, objects
from nova.compute import power_state, task_states
from nova.conf import CONF
from nova.console import type as console_type
from nova.virt import driver as virt_driver
from nova.virt import event as virt_event
from nova.virt import hardware
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import amounts, config, devices, diagnostics, errors, host
from nova_docker import snapshot as snapshots
from nova_docker.agent import Agent
from nova_docker.guest import POWER_STATES, is_suspended
from nova_docker.inside import admin_user
from nova_docker.interfaces import interface, interfaces
from nova_docker.links import Linker
from nova_docker.looks import Looks
from nova_docker.replace import Replacer, refuse_other_host
from nova_docker.rpc import AddressRefused, CallError
from nova_docker.service_record import set_usable
from nova_docker.spawn import Builder, Wishes, refuse_what_containers_lack
from nova_docker.traits import OwnTraits
from nova_docker.v1 import console_pb2, host_pb2, inside_pb2
from nova_docker.v1 import driver_pb2 as api
from nova_docker.version import VERSION
from nova_docker.volumes import is_deleted, removes_volumes
from nova_docker.watch import Watcher

LOG = logging.getLogger(__name__)

_LONGEST_PAUSE = 30.0


class DockerDriver(virt_driver.ComputeDriver):
    """Forwards to nova-docker-agent."""

    def __init__(self, virtapi: Any) -> None:
        super().__init__(virtapi)
        options = config.register(CONF)
        try:
            address = config.address(options)
        except AddressRefused as error:
            raise exception.InvalidConfiguration(f"[{config.GROUP}] address: {error}") from error
        self._agent = Agent(address, options.call_timeout, options.operation_timeout, options.restart_timeout)
        self._linker = Linker(self._agent)
        self._builder = Builder(self._agent, virtapi, self._linker)
        self._replacer = Replacer(self._agent, self._linker)
        self._watcher: Watcher | None = None
        self._looks = Looks(self._agent, self._tell_end)
        self._hypervisor_type = ""
        self._revision = 0
        self._traits = OwnTraits(CONF.state_path)
        self._images = snapshots.UnbegunImages()
        self._ended = threading.local()

    # The host

    def init_host(self, host: str, *args: Any, **kwargs: Any) -> None:
        """Waits for the agent, for as long as it takes, and begins to listen to it."""
        self._wait_for_agent()
        grace = CONF[config.GROUP].restart_timeout
        self._looks.start()
        self._watcher = Watcher(self._agent, self._greet, self._emit, self._set_usable, grace, self._looks)
        self._watcher.start()

    def cleanup_host(self, host: str, *args: Any, **kwargs: Any) -> None:
        """Stops to listen."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
            self._looks.stop()

    def _wait_for_agent(self) -> None:
        pause = 1.0
        while True:
            try:
                self._greet()
                # Nova is about to ask for every guest, which needs Docker too.
                self._agent.call(service.LIST_GUESTS, api.ListGuestsRequest(), patient=False)
            except AddressRefused as error:
                raise exception.InvalidConfiguration(f"[{config.GROUP}] address: {error}") from error
            except CallError as error:
                if error.reason == "VERSION_UNSUPPORTED":
                    raise exception.NovaException(message=str(error)) from error
                LOG.warning(
                    "nova-docker-agent cannot be used at %s: %s. Is it running, with its option [docker_grpc] listen "
                    "set to this address, and may this user (see socket_user there) connect? Trying again in %d s.",
                    self._agent.address.text,
                    error,
                    pause,
                )
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return

    def _greet(self) -> None:
        """Learns what the agent is and can do."""
        info = self._agent.call(
            service.GET_SERVER_INFO,
            api.GetServerInfoRequest(
                client=f"nova-docker-shim/{VERSION}",
                revision=service.REVISION,
                oldest_revision=service.OLDEST_REVISION,
            ),
            patient=False,
        )
        service.check_versions(info)
        self._hypervisor_type = info.hypervisor_type
        self._revision = self._linker.revision = info.revision
        self._looks.writes_tags = info.state_tags
        # An object's own: the class attribute is shared with every other driver that does not define one.
        self.capabilities = {**virt_driver.ComputeDriver.capabilities, **info.capabilities}
        LOG.info("nova-docker-agent %s at %s", info.agent_version, self._agent.address.text)

    def _set_usable(self, problem: str | None) -> None:
        """Tells Nova whether the host takes new servers."""
        set_usable(self.virtapi, problem)
        if problem is None:
            self._builder.remains.remove()

    def _emit(self, guest_id: str, transition: int) -> None:
        if self._compute_event_callback is None:
            return
        # Nova drops the event of an end unless get_info says, while it handles that, that the guest is shut down. One
        # that ended badly is, too.
        self._ended.guest_id = guest_id if transition == virt_event.EVENT_LIFECYCLE_STOPPED else None
        try:
            self.emit_event(virt_event.LifecycleEvent(guest_id, transition))
        finally:
            self._ended.guest_id = None

    def _tell_end(self, guest_id: str) -> None:
        self._emit(guest_id, virt_event.EVENT_LIFECYCLE_STOPPED)

    def get_available_nodes(self, refresh: bool = False, *args: Any, **kwargs: Any) -> list[str]:
        """One: this host."""
        return [CONF.host]

    def get_available_resource(self, nodename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What the host has."""
        return host.available_resource(self._resources(), nodename, self._hypervisor_type)

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """Tells Placement what the host has and is. Traits that others have put there stay."""
        resources = self._resources()
        ratios = self._get_allocation_ratios(provider_tree.data(nodename).inventory)
        reserved = self._get_reserved_host_disk_gb_from_config()
        provider_tree.update_inventory(nodename, host.inventory(resources, ratios, reserved))
        dropped = self._traits.dropped(provider_tree.data(nodename).traits, set(resources.traits))
        provider_tree.remove_traits(nodename, *dropped)
        provider_tree.add_traits(nodename, *resources.traits)

    def get_host_uptime(self, *args: Any, **kwargs: Any) -> str:
        """A line as uptime(1) prints it."""
        return host.uptime(self._resources(), datetime.now())

    def get_host_ip_addr(self, *args: Any, **kwargs: Any) -> str:
        """The address by which other hosts know this one."""
        return str(CONF.my_ip)

    def _resources(self) -> host_pb2.HostResources:
        with errors.translated(None):
            return self._agent.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest()).resources

    # What there is

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

    def set_admin_password(self, instance: Any, new_pass: str, *args: Any, **kwargs: Any) -> None:
        """Sets the password of the guest's administrator."""
        request = inside_pb2.SetGuestPasswordRequest(
            guest_id=instance.uuid, user=admin_user(instance), password=new_pass
        )
        with errors.translated(instance, errors.setting_password):
            self._agent.call(service.SET_GUEST_PASSWORD, request)

    # From spawn to destroy

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

    # Power

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
            self._agent.call(service.SUSPEND_GUEST, api.SuspendGuestRequest(guest_id=instance.uuid))

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

    # Another container in the place of the one that a guest has

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

    # Network

    def plug_vifs(self, instance: Any, network_info: Any, *args: Any, **kwargs: Any) -> None:
        """Plugs the interfaces of a guest; called for every server when nova-compute starts."""
        with errors.translated(instance, errors.plugging):
            try:
                request = api.PlugGuestRequest(guest_id=instance.uuid, interfaces=interfaces(network_info))
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
