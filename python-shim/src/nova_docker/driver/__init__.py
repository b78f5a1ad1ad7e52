"""The virt driver: what nova-compute calls.

Each method converts, calls the agent and translates its errors. What it does not override does what Nova's base class
says: mostly that it is not implemented. Every method takes arguments that it does not know, because releases of Nova
add some, and give them by position.

    base          what all stand on
    host          the host: what it has, the connection to its agent
    guests        what guests there are, what they do and write
    life          from spawn to destroy, snapshots, passwords
    power         start, stop, reboot, pause, suspend
    replacements  another container for a guest: rebuild, rescue, resize
    network       interfaces
"""

from __future__ import annotations

from nova_docker.driver.guests import Guests
from nova_docker.driver.host import Host
from nova_docker.driver.life import Life
from nova_docker.driver.network import Network
from nova_docker.driver.power import Power
from nova_docker.driver.replacements import Replacements


class DockerDriver(Host, Guests, Life, Power, Replacements, Network):
    """Forwards to nova-docker-agent."""
