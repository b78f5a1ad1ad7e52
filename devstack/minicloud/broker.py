"""RabbitMQ: its home directory, and whether the broker and its queues exist."""

from __future__ import annotations

import socket

from minicloud import process
from minicloud.files import own_directory, write_file
from minicloud.layout import ADDRESS, PORTS, Layout
from minicloud.programs import rabbitmq_environment


def make_home(layout: Layout) -> None:
    home = layout.root / "rabbitmq"
    own_directory(home, "rabbitmq")
    for name in ("mnesia", "log"):
        own_directory(home / name, "rabbitmq")
    write_file(home / "enabled_plugins", "[].\n", owner="rabbitmq")


def port_answers(port: int) -> bool:
    try:
        with socket.create_connection((ADDRESS, port), timeout=2):
            return True
    except OSError:
        return False


def answers() -> bool:
    """Whether the broker greets a client. Its port opens before the virtual host exists."""
    try:
        with socket.create_connection((ADDRESS, PORTS["rabbitmq"]), timeout=5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False


def has_queue(layout: Layout, queue: str) -> bool:
    """Whether a service listens for calls on `queue`."""
    environment = process.clean_environment(**rabbitmq_environment(layout))
    command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", "-q", "list_queues", "name"]
    try:
        return queue in process.run(command, env=environment).split()
    except process.CommandFailed:
        return False
