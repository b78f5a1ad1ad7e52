"""What tests of restarts look at and wait for, and what they set where the moment for it is too short to be met."""

from __future__ import annotations

import time

from keystoneauth1.exceptions import ConnectFailure

from harness.lab import Lab
from harness.servers import Refused, Servers
from harness.waiting import eventually


def started_at(lab: Lab, server_id: str) -> str:
    return lab.docker("inspect", "--format", "{{.State.StartedAt}}", f"nova-{server_id}")


def runs_since(lab: Lab, server_id: str, before: str) -> bool:
    """Whether the container runs, and was started at another time than `before`. A Docker that is away says nothing."""
    form = "{{.State.Running}} {{.State.StartedAt}}"
    running, _, started = lab.docker("inspect", "--format", form, f"nova-{server_id}", check=False).partition(" ")
    return running == "true" and started != before


def starts(lab: Lab, server_id: str) -> int:
    """How often the server's container has been started."""
    of_server = [f"--filter=container=nova-{server_id}", "--filter=event=start"]
    # Docker takes a span of time for whole seconds, and leaves out what was in this one.
    now = f"--until={time.time():.6f}"
    return len(lab.docker("events", "--since=24h", now, *of_server).splitlines())


def wait_answering(servers: Servers, server_id: str) -> None:
    """Wait until the agent answers calls about a server."""

    def answers() -> bool:
        try:
            servers.console(server_id, 1)
        except (Refused, ConnectFailure):
            return False
        return True

    # A call that was lost with the broker's queue is answered by nova-api's patience of a minute, once.
    eventually(answers, "the agent answers")


def wait_spawning(lab: Lab, servers: Servers, server_id: str) -> None:
    """The build has its network namespace and waits for its port to be wired."""
    servers.until(server_id, lambda: servers.get(server_id)["OS-EXT-STS:task_state"] == "spawning", "spawning")
    eventually(lambda: f"nova-{server_id}" in lab.run(["ip", "netns", "list"]), "the namespace")


def set_task(lab: Lab, server_id: str, task: str | None) -> None:
    """As an operation does, or its end."""
    value = "NULL" if task is None else f"'{task}'"
    lab.sql(f"UPDATE nova.instances SET task_state = {value} WHERE uuid = '{server_id}';")  # noqa: S608, the test's own


def count_faults(lab: Lab, server_id: str) -> str:
    return lab.sql("SELECT COUNT(*) FROM nova.instance_faults WHERE instance_uuid = %(id)s", {"id": server_id})
