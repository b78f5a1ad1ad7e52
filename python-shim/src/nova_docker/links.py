"""The servers that a guest is linked to: the agent says what to ask for, Nova knows where they are."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from nova import context as nova_context
from nova import exception, objects
from nova.compute import task_states
from oslo_log import log as logging

from nova_docker import agent as service
from nova_docker import deletion
from nova_docker.agent import Agent
from nova_docker.amounts import text
from nova_docker.interfaces import Vif
from nova_docker.v1 import driver_pb2 as api
from nova_docker.v1 import guest_pb2, links_pb2

LOG = logging.getLogger(__name__)

#: The revision of the contract that knows of links. An older agent refuses them itself.
SINCE = 5

_LINK = "docker:link:"
_GOING = (task_states.DELETING, task_states.SOFT_DELETING)
# Seconds between two looks at a server that is to come.
_PAUSE = 2.0


class Linker:
    """Looks servers up."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        #: The revision that the agent speaks.
        self.revision = 0

    def complete(
        self,
        instance: Any,
        request: api.CreateGuestRequest | api.ReplaceGuestRequest | api.RebootGuestRequest,
        *,
        waits: bool = False,
    ) -> None:
        """Puts the servers into a request that the guest to be made is linked to.

        With waits: waits for those that are not there, for as long as the user wants. What is still missing then, the
        agent says.
        """
        if not self._may_have_links(instance):
            return
        asked = links_pb2.GetLinksRequest(guest=request.guest, image=request.image)
        asked.guest.ClearField("inside")
        found = self._agent.call(service.GET_LINKS, asked)
        if not found.queries:
            return
        deadline = time.monotonic() + (found.patience.seconds if waits else 0)
        while True:
            asked.guest.links.CopyFrom(_looked_up(instance, found.queries))
            left = deadline - time.monotonic()
            if left <= 0 or not self._agent.call(service.GET_LINKS, asked).missing:
                break
            _refuse_if_deleted(instance)
            time.sleep(min(left, _PAUSE))
        request.guest.links.CopyFrom(asked.guest.links)

    def follow(self, instance: Any, network_info: Iterable[Vif] | None) -> None:
        """Tells the agent where the servers are now that a guest is linked to, which is in these networks."""
        if not self._may_have_links(instance):
            return
        try:
            queries = self._agent.call(service.GET_LINKS, links_pb2.GetLinksRequest(guest_id=instance.uuid)).queries
            if not queries:
                return
            networks = [vif["network"]["id"] for vif in network_info or () if vif.get("network")]
            request = links_pb2.UpdateLinksRequest(
                guest_id=instance.uuid, network_ids=networks, links=_looked_up(instance, queries)
            )
            self._agent.call(service.UPDATE_LINKS, request)
        except Exception as error:
            # Whatever it is: the guest goes on with the links from before.
            LOG.warning("Cannot follow the servers that this one is linked to: %s", error, instance=instance)

    def _may_have_links(self, instance: Any) -> bool:
        if self.revision < SINCE:
            return False
        metadata = (instance.metadata or {}) if "metadata" in instance else {}
        return bool(instance.user_data) or any(name.startswith(_LINK) for name in metadata)


def _looked_up(instance: Any, queries: Iterable[links_pb2.LinkQuery]) -> guest_pb2.Links:
    # Its project alone: nobody else's servers are to be seen.
    context = nova_context.get_admin_context()
    found = guest_pb2.Links()
    for query in queries:
        value = query.value if query.filter == "display_name" else [query.value]
        servers = objects.InstanceList.get_by_filters(
            context,
            {query.filter: value, "project_id": instance.project_id, "deleted": False},
            expected_attrs=["info_cache"],
            sort_keys=["created_at", "id"],
            sort_dirs=["asc", "asc"],
            limit=query.limit,
        )
        there = [_server(server) for server in servers if server.task_state not in _GOING]
        found.targets.add(target=query.target, servers=there)
    return found


def _server(server: Any) -> guest_pb2.LinkedServer:
    networks = [vif["network"] for vif in server.get_network_info() or () if vif.get("network")]
    addresses = [
        guest_pb2.LinkedAddress(network_id=network["id"], address=ip["address"])
        for network in networks
        for subnet in network.get("subnets") or ()
        for ip in subnet.get("ips") or ()
    ]
    return guest_pb2.LinkedServer(
        server_id=server.uuid, name=text(server.display_name), hostname=text(server.hostname), addresses=addresses
    )


def _refuse_if_deleted(instance: Any) -> None:
    """A deletion waits until the launch has ended."""
    if deletion.is_under_way(instance):
        raise exception.UnexpectedDeletingTaskStateError(
            instance_uuid=instance.uuid,
            expected={"task_state": [instance.task_state]},
            actual={"task_state": [task_states.DELETING]},
        )
