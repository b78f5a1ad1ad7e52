"""OVN's own ports, which serve metadata and names in every network, on every host.

Nova's network information names DHCP servers, and OVN has none: a virtual machine hears of the port when ovn-controller
answers its DHCP client. A container has no such client, so Neutron is asked.
"""

from __future__ import annotations

import ipaddress
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from nova import context
from nova.network import neutron
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

METADATA = "169.254.169.254/32"

# The addresses of OVN's ports, by network.
Served = Mapping[str, list[str]]

_OWNER = "network:distributed"
# Load balancers have ports of that owner too.
_DEVICE = "ovnmeta-"
# Nova's client waits for as long as Neutron keeps silent, unless [neutron] timeout says otherwise.
_PATIENCE = 10.0
# nova-compute plugs all its servers at its start, one after another.
_SILENCE = 60.0


class Silence:
    """Until when Neutron, which has not answered, is left alone by who can do without."""

    def __init__(self) -> None:
        self._end = float("-inf")

    def begin(self) -> None:
        self._end = time.monotonic() + _SILENCE

    def lasts(self) -> bool:
        return time.monotonic() < self._end


def served(vifs: Iterable[Mapping[str, Any]], silence: Silence | None = None) -> Served | None:
    """Who serves the networks that OVN wires, if any are; None where Neutron does not answer now.

    It is not asked while a `silence` lasts, which begins when it does not answer.
    """
    networks = sorted({network for vif in vifs if (network := _network(vif))})
    if not networks:
        return {}
    if silence and silence.lasts():
        return None
    answer: Any = _answer(networks)
    try:
        return {network: _addresses(answer["ports"], network) for network in networks}
    except (KeyError, TypeError, AttributeError):
        # Whatever it is: a server that starts again does not wait for Neutron.
        LOG.warning("Neutron does not name OVN's ports in the networks %s: %s", networks, answer)
        if silence:
            silence.begin()
        return None


def _answer(networks: list[str]) -> Any:
    """What Neutron says, or why it says nothing."""
    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            client = neutron.get_client(context.get_admin_context(), admin=True)
            answers.put(client.list_ports(network_id=networks, device_owner=_OWNER))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="ovn-ports", daemon=True).start()
    try:
        return answers.get(timeout=_PATIENCE)
    except queue.Empty:
        return f"no answer within {_PATIENCE:.0f} s"


def address(served: Served, network: Any, subnet: Mapping[str, Any]) -> str | None:
    """The address of OVN's port in a subnet, if it has one there."""
    cidr = ipaddress.ip_network(subnet["cidr"], strict=False)
    if cidr.version != 4:
        return None
    return next((found for found in served.get(network, ()) if ipaddress.ip_address(found) in cidr), None)


def _network(vif: Mapping[str, Any]) -> str | None:
    """The network of an interface that OVN's mechanism driver has bound."""
    details, network = vif.get("details"), vif.get("network")
    if not isinstance(details, Mapping) or not isinstance(network, Mapping):
        return None
    drivers = details.get("bound_drivers")
    return network.get("id") if isinstance(drivers, Mapping) and "ovn" in drivers.values() else None


def _addresses(ports: Iterable[Mapping[str, Any]], network: str) -> list[str]:
    # They are called after the network, or after a segment of a routed one.
    own = (port for port in ports if port["network_id"] == network and port["device_id"].startswith(_DEVICE))
    return sorted(ip["ip_address"] for port in own for ip in port["fixed_ips"])
