"""What the methods of every subject stand on: the agent, and what the driver remembers."""

from __future__ import annotations

import threading
from typing import Any

from nova import exception
from nova.conf import CONF
from nova.virt import driver as virt_driver
from nova.virt import event as virt_event

from nova_docker import config, ovn
from nova_docker import snapshot as snapshots
from nova_docker.agent import Agent
from nova_docker.links import Linker
from nova_docker.looks import Looks
from nova_docker.replace import Replacer
from nova_docker.rpc import AddressRefused
from nova_docker.spawn import Builder
from nova_docker.traits import OwnTraits
from nova_docker.watch import Watcher


class Driver(virt_driver.ComputeDriver):
    """A driver that can do nothing yet."""

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
        self._replacer = Replacer(self._agent, self._linker, self._builder.remains)
        self._watcher: Watcher | None = None
        self._looks = Looks(self._agent, self._tell_end)
        self._hypervisor_type = ""
        self._revision = 0
        self._traits = OwnTraits(CONF.state_path)
        self._images = snapshots.UnbegunImages()
        self._ended = threading.local()
        self._neutron_silence = ovn.Silence()

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
