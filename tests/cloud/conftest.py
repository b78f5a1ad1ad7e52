"""Fixtures of the cloud tests. README.md (one directory up) says how to run one test."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import hosts, images, leaks
from harness.amqp import Amqp
from harness.archives import Archive
from harness.guest import Guest
from harness.lab import Lab, Side
from harness.servers import Json, Servers
from openstack.connection import Connection

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--state-dir", default="/var/lib/nova-docker-mini", help="where devstack/mini keeps the cloud")
    parser.addoption(
        "--against",
        choices=("agent", "fake"),
        default="agent",
        help="the compute service to test; `fake` is stock nova-compute with Nova's fake driver, which shows that the"
        " tests ask for what Nova does",
    )


def _unfit_markers(config: pytest.Config) -> list[str]:
    """Markers of tests that the compute service under test, or the cloud as it was started, has nothing for."""
    options = Path(config.getoption("--state-dir")) / "options.json"
    lab = Lab(options.parent)
    extras = lab.options["extras"] if options.exists() else []
    return [
        *(["grpc" if lab.door == "amqp" else "amqp"] if options.exists() else []),
        *(["agent"] if config.getoption("--against") == "fake" else []),
        *(["cinder"] if "cinder" not in extras else []),  # type: ignore[operator]
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unfit = [item for item in items if any(item.get_closest_marker(name) for name in _unfit_markers(config))]
    if unfit:
        config.hook.pytest_deselected(items=unfit)
        items[:] = [item for item in items if item not in unfit]
    # Tests that restart services come last, whatever file they are in.
    items.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    state = Path(pytestconfig.getoption("--state-dir"))
    if not (state / "options.json").exists():
        pytest.exit(f"there is no cloud in {state}; start one with ./devstack/mini up --fake-compute", returncode=3)
    return Lab(state)


@pytest.fixture(scope="session")
def side(lab: Lab, pytestconfig: pytest.Config) -> Side:
    """The compute service under test."""
    return lab.side(pytestconfig.getoption("--against"))


@pytest.fixture(scope="session")
def demo(lab: Lab) -> Connection:
    return lab.connect("demo")


@pytest.fixture(scope="session")
def admin(lab: Lab) -> Connection:
    connection = lab.connect("admin")
    try:
        connection.authorize()
        connection.compute.get("/").raise_for_status()
    except Exception as error:
        pytest.exit(f"the cloud in {lab.state} does not answer ({error}); see ./devstack/mini status", returncode=3)
    return connection


@pytest.fixture(scope="session")
def servers(demo: Connection, side: Side) -> Servers:
    """The compute API as the user `demo`."""
    return Servers(demo, side)


@pytest.fixture(scope="session")
def admin_servers(admin: Connection, side: Side) -> Servers:
    """The compute API as an administrator."""
    return Servers(admin, side)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_at_the_end(lab: Lab, admin: Connection) -> Iterator[None]:
    before = leaks.inventory(lab, admin)
    yield
    leaks.assert_nothing_new(lab, admin, before)


class Known:
    """What exists and is no test's fault: renewed after fixtures that several tests share have made something."""

    def __init__(self) -> None:
        self.stale = True
        self.names: set[str] = set()


_known = Known()


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> None:
    if fixturedef.scope != "function":
        _known.stale = True


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab, admin: Connection) -> Iterator[None]:
    """Every test leaves every layer as it found it."""
    if _known.stale:
        _known.names = leaks.inventory(lab, admin)
        _known.stale = False
    yield
    try:
        leaks.assert_nothing_new(lab, admin, _known.names)
    except AssertionError:
        # Told once; the next test is not to blame.
        _known.stale = True
        raise


@pytest.fixture(autouse=True)
def no_panic(lab: Lab, side: Side) -> Iterator[None]:
    """The compute service's log tells of no panic (or Python's unhandled counterpart in a thread)."""
    log = lab.log(side.program)
    start = log.stat().st_size if log.exists() else 0
    yield
    if not log.exists():
        return
    with log.open("rb") as stream:
        # A log that was rotated meanwhile is shorter than before.
        stream.seek(start if log.stat().st_size >= start else 0)
        written = stream.read().decode(errors="replace")
    panics = [line for line in written.splitlines() if "panicked at" in line or "Exception in thread" in line]
    assert not panics, f"{log} tells of:\n" + "\n".join(panics)


@pytest.fixture(scope="session")
def unique() -> Callable[[str], str]:
    """A name that no other resource of this run has, nor one that an earlier run left behind."""
    run = secrets.token_hex(2)
    return lambda stem: f"t{run}-{next(_numbers)}-{stem}"


class Launcher:
    """Launches servers and takes them away again."""

    def __init__(self, servers: Servers, unique: Callable[[str], str]) -> None:
        self._servers = servers
        self._unique = unique
        self._launched: list[str] = []

    def request(self, stem: str = "server", **fields: Any) -> str:
        """Ask for a server and return its id at once."""
        server = self._servers.create(self._unique(stem), **fields)
        self._launched.append(server["id"])
        return str(server["id"])

    def __call__(self, stem: str = "server", **fields: Any) -> Json:
        """A server that is ACTIVE."""
        return self._servers.wait(self.request(stem, **fields), "ACTIVE")

    def failing(self, stem: str = "server", **fields: Any) -> Json:
        """A server whose launch is expected to end in ERROR."""
        return self._servers.wait(self.request(stem, **fields), "ERROR")

    def take_away(self) -> None:
        for server_id in self._launched:
            self._servers.delete(server_id)
        for server_id in self._launched:
            self._servers.wait_gone(server_id)


@pytest.fixture
def launch(servers: Servers, unique: Callable[[str], str]) -> Iterator[Launcher]:
    launcher = Launcher(servers, unique)
    yield launcher
    launcher.take_away()


@pytest.fixture(scope="module")
def module_launch(servers: Servers, unique: Callable[[str], str]) -> Iterator[Launcher]:
    """For servers that the tests of one module share."""
    launcher = Launcher(servers, unique)
    yield launcher
    launcher.take_away()


@pytest.fixture
def usable_afterwards(admin_servers: Servers) -> Iterator[None]:
    """A test that stops what the host needs ends when servers can be launched there again."""
    yield
    hosts.wait_usable(admin_servers)


@pytest.fixture(scope="session")
def private_network(demo: Connection) -> list[Json]:
    """The `networks` of a launch on the demo project's own network."""
    return [{"uuid": demo.network.find_network("private", ignore_missing=False).id}]


@pytest.fixture(scope="session")
def guest_of(lab: Lab, demo: Connection, servers: Servers) -> Callable[[str], Guest]:
    """The inside of a server on the private network, seen from its router."""
    router = demo.network.find_router("router", ignore_missing=False)

    def guest(server_id: str) -> Guest:
        return Guest(lab, servers.addresses(server_id)[0], f"qrouter-{router.id}")

    return guest


@pytest.fixture
def add_image(demo: Connection, unique: Callable[[str], str]) -> Iterator[Callable[..., str]]:
    """Uploads an image of the demo user that lives as long as the test; returns its id."""
    made: list[str] = []

    def add(data: bytes, stem: str = "image", **fields: Any) -> str:
        made.append(images.upload(demo, unique(stem), data, **fields))
        return made[-1]

    yield add
    for image_id in made:
        demo.image.delete_image(image_id, ignore_missing=True)


@pytest.fixture(scope="session")
def tiny(lab: Lab) -> Archive:
    """The archive of the image `tiny`, to make others from."""
    return Archive.read(lab.tiny_archive)


@pytest.fixture
def amqp(lab: Lab) -> Iterator[Amqp]:
    client = Amqp(lab)
    yield client
    client.close()
