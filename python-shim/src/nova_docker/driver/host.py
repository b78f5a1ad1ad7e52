"""The host: what it is and has, and the connection to its agent."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from nova import exception
from nova.conf import CONF
from nova.virt import driver as virt_driver
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import config, errors, host
from nova_docker.driver.base import Driver
from nova_docker.rpc import AddressRefused, CallError
from nova_docker.service_record import set_usable
from nova_docker.v1 import driver_pb2 as api
from nova_docker.v1 import host_pb2
from nova_docker.version import VERSION
from nova_docker.watch import Watcher

LOG = logging.getLogger(__name__)

_LONGEST_PAUSE = 30.0


class Host(Driver):
    """Methods that are not about one guest."""

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
