"""Has Neutron's DHCP agent look again at networks that it has lost.

Neutron 29 runs this agent on threads, and what hands its work to them loses an update that is queued while the one
before it ends (ExclusiveResourceProcessor). The network or port is then without DHCP until something else happens to
the network, and a server on it waits until vif_plugging_timeout. A network that is told to be up, as it is already, is
configured anew.
Runs in the virtual environment:  python dhcp_watch.py STATE_DIR
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import openstack

sys.path.insert(0, str(Path(__file__).parent.parent))

from minicloud.database import query
from minicloud.layout import Layout
from minicloud.process import CommandFailed

PERIOD = 5
"""Seconds between two looks."""
LATE = 20
"""Seconds after which a port that waits for DHCP is taken for lost, and again after that."""
WAITING = """
    SELECT ports.id, ports.network_id, TIMESTAMPDIFF(SECOND, attributes.updated_at, UTC_TIMESTAMP())
    FROM neutron.provisioningblocks AS blocks
    JOIN neutron.ports AS ports ON ports.standard_attr_id = blocks.standard_attr_id
    JOIN neutron.standardattributes AS attributes ON attributes.id = blocks.standard_attr_id
    WHERE blocks.entity = 'DHCP'
"""


def say(text: str) -> None:
    print(f"{time.strftime('%F %T')} {text}", flush=True)


class Watch:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.told: dict[str, float] = {}
        """When the agent was told of a network, by the network's id; seconds of the monotonic clock."""

    def look(self) -> None:
        waiting = [line.split() for line in query(self.layout, WAITING).splitlines()]
        late = {network: port for port, network, seconds in waiting if int(seconds) > LATE}
        now = time.monotonic()
        for network, port in late.items():
            if now - self.told.get(network, -LATE) < LATE:
                continue
            say(f"network {network} is configured anew: its port {port} waited for more than {LATE} s")
            self.told[network] = now
            neutron = openstack.connect(cloud="admin").network
            # The SDK would not send what does not change.
            answer = neutron.put(f"/networks/{network}", json={"network": {"admin_state_up": True}})
            if answer.status_code not in (200, 404):
                say(f"Neutron refused: {answer.status_code} {answer.text}")


def main(arguments: list[str]) -> None:
    layout = Layout.at(arguments[0])
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(layout.clouds_file)
    watch = Watch(layout)
    while True:
        try:
            watch.look()
        except (CommandFailed, openstack.exceptions.SDKException, OSError) as error:
            say(f"not now: {error}")
        time.sleep(PERIOD)


if __name__ == "__main__":
    main(sys.argv[1:])
