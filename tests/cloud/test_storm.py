"""An agent that is stopped, killed and started while many use it, and what it needs is away now and then."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest
from harness import hosts
from harness.amqp import wait_consumers
from harness.books import Books
from harness.faults import Weather, put_right
from harness.lab import AGENT_PROGRAM, Lab
from harness.logs import Tail
from harness.programs import kill_agent
from harness.servers import Json, Servers
from harness.storm import History, Storm
from harness.tenant import Tenant
from harness.waiting import eventually
from openstack.connection import Connection

pytestmark = [
    pytest.mark.agent,
    pytest.mark.alone,
    # Behind nova-compute an operation that was interrupted is nova-compute's.
    pytest.mark.amqp,
    pytest.mark.full,
    pytest.mark.timeout(5400),
    pytest.mark.usefixtures("usable_afterwards", "many_servers"),
]

SERVERS = 30
LONGEST = 90
"""Seconds that something is away."""
UNCHANGED = 400
"""Seconds after which a disagreement is not one of somebody at work: more than a launch waits for its port."""
ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts" / "storm"


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    given = pytestconfig.getoption("--seed")
    return random.SystemRandom().randrange(1_000_000) if given is None else int(given)


@pytest.fixture
def many_servers(admin_servers: Servers, tenant: Tenant) -> Iterator[None]:
    """The project may have more than Nova's ten servers."""
    quota = f"/os-quota-sets/{tenant.project_id}"
    admin_servers.request("PUT", quota, {"quota_set": {"instances": 2 * SERVERS, "cores": 2 * SERVERS, "ram": -1}})
    yield
    admin_servers.request("DELETE", quota)


@pytest.fixture
def everything_goes(lab: Lab, servers: Servers, user: Connection, tenant: Tenant) -> Iterator[None]:
    """Whatever the storm has made is deleted, by what its user can do."""
    yield
    put_right(lab)

    def gone() -> bool:
        left = servers.request("GET", "/servers")["servers"]
        for server in left:
            # One whose delete had failed is asked for again.
            servers.delete(server["id"])
        return not left

    eventually(gone, "all servers deleted", 600, interval=5)
    for image in user.image.images(owner=tenant.project_id):
        user.image.delete_image(image, ignore_missing=True)


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends the test as Ctrl-C does, so that what is away comes back."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _rage(storm: Storm, weather: Weather, users: int, minutes: float) -> None:
    """Users and faults for so long; everything that is away is back afterwards."""
    with ThreadPoolExecutor(users + 2) as pool, _ended_in_order():
        try:
            working = [pool.submit(storm.user, number) for number in range(users)]
            eventually(lambda: len(storm.launched) == users or _failed(working), "everybody's first server", 600)
            storm.history.note("everybody has a server")
            storm.begun.set()
            working += [pool.submit(weather.of_services), pool.submit(weather.of_the_agent)]
            storm.over.wait(minutes * 60)
        finally:
            storm.over.set()
            storm.begun.set()
        for each in working:
            each.result()


def _failed(working: list[Future[None]]) -> bool:
    return any(each.done() for each in working)


def _calm(lab: Lab, admin_servers: Servers) -> None:
    """All services are at work again. The agent has been started once more, and has looked at every server."""
    put_right(lab)
    eventually(lambda: hosts.answers(admin_servers), "the API answering")
    wait_consumers(lab, "conductor", "scheduler", f"compute.{lab.host}")
    hosts.wait_usable(admin_servers)
    log = Tail(lab.log(AGENT_PROGRAM))
    kill_agent(lab)
    eventually(lambda: "every instance has been looked at" in log.text(), "the agent has looked at the servers", 600)


def _wait_balanced(books: Books, history: History, seed: int) -> None:
    """Wait until nobody is at work and all agree; fail with what they disagree about when that stays as it is."""
    seen: list[str] = []
    since = time.monotonic()

    def settled() -> bool:
        nonlocal seen, since
        now = [f"server {each.id} is at {each.task_state}" for each in books.stuck()] or books.disagreements()
        if now != seen:
            seen, since = now, time.monotonic()
        return not seen or time.monotonic() - since > UNCHANGED

    eventually(settled, "the books balance, or stay as they are", 1800, interval=5)
    if seen:
        story = "\n  ".join(history.about("\n".join(seen))[-400:])
        report = "\n  ".join(seen)
        raise AssertionError(f"--seed {seed}: the books do not balance:\n  {report}\nThe story:\n  {story}")


def test_after_a_storm_the_books_balance_and_a_delete_leaves_nothing(
    lab: Lab,
    servers: Servers,
    admin_servers: Servers,
    admin: Connection,
    tenant: Tenant,
    private_network: list[Json],
    pytestconfig: pytest.Config,
    seed: int,
    everything_goes: None,
) -> None:
    minutes = float(pytestconfig.getoption("--minutes"))
    users = min(SERVERS, max(3, round(10 * minutes)))
    over, history = threading.Event(), History()
    history.note(f"--seed {seed} --minutes {minutes:g}: {users} users")
    flavors = tuple(admin.compute.find_flavor(name, ignore_missing=False).id for name in ("c1.tiny", "c1.small"))
    image = servers.connection.image.find_image(servers.side.image, ignore_missing=False).id
    body = {"imageRef": image, "networks": private_network}
    storm = Storm(lab, servers, seed, over, history, body, flavors)
    weather = Weather(lab, seed, min(LONGEST, minutes * 60 / 6), over, history.note)
    try:
        _rage(storm, weather, users, minutes)
        history.note(f"over: {dict(storm.done)}")
        _calm(lab, admin_servers)
        history.note("calm")
        books = Books(lab, tenant.project_id)
        _wait_balanced(books, history, seed)
        states = sorted(server.vm_state for server in books.servers())
        history.note(f"balanced: {states}; lost between Nova's services: {books.lost()}")
    finally:
        print(f"--seed {seed} --minutes {minutes:g}; {dict(storm.done)}")
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        (ARTIFACTS / f"{seed}.log").write_text("\n".join(history.lines) + "\n")
    assert storm.done["create"] >= users
