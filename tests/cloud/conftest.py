"""Fixtures of the cloud tests. README.md (one directory up) says how to run one test."""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import hosts, images, leaks, schedule
from harness import tenant as tenants
from harness.amqp import Amqp
from harness.archives import Archive
from harness.guest import Guest
from harness.heat import Heat
from harness.lab import Lab, Side
from harness.schedule import AloneLast
from harness.servers import Json, Servers
from harness.tenant import Tenant
from harness.whole_run import WholeRun
from openstack.connection import Connection
from xdist.remote import Producer
from xdist.workermanage import WorkerController

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
    parser.addoption("--seed", type=int, help="of the storm, to be drawn again; a failed one has printed it")
    parser.addoption("--minutes", type=float, default=10, help="how long the storm lasts")


def _unfit_markers(config: pytest.Config) -> list[str]:
    """Markers of tests that the compute service under test, or the cloud as it was started, has nothing for."""
    options = Path(config.getoption("--state-dir")) / "options.json"
    lab = Lab(options.parent)
    extras = lab.options["extras"] if options.exists() else []
    return [
        *(["grpc" if lab.door == "amqp" else "amqp"] if options.exists() else []),
        *(["agent"] if config.getoption("--against") == "fake" else []),
        *(name for name in ("cinder", "heat") if name not in extras),  # type: ignore[operator]
        *([] if tenants.has_ipv6() else ["ipv6"]),
    ]


def pytest_configure(config: pytest.Config) -> None:
    state = Path(config.getoption("--state-dir"))
    if hasattr(config, "workerinput") or config.getoption("collectonly"):
        return
    if not (state / "options.json").exists():
        pytest.exit(f"there is no cloud in {state}; start one with ./devstack/mini up", returncode=3)
    lab, against = Lab(state), config.getoption("--against")
    if against == "fake" and not lab.options["fake_compute"]:
        pytest.exit("this cloud has no fake; start it with ./devstack/mini up --fake-compute", returncode=3)
    config.pluginmanager.register(WholeRun(lab, lab.side(against)))


_groups_file = Path(tempfile.gettempdir()) / f"cloud-tests-{os.getpid()}" / "groups.json"
"""Of the process that leads workers."""


def pytest_configure_node(node: WorkerController) -> None:
    _groups_file.parent.mkdir(exist_ok=True)
    node.workerinput[schedule.GROUPS_FILE] = str(_groups_file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> AloneLast | None:
    return AloneLast(config, log, _groups_file) if config.getvalue("dist") == "loadscope" else None


def pytest_unconfigure() -> None:
    shutil.rmtree(_groups_file.parent, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unfit = [item for item in items if any(item.get_closest_marker(name) for name in _unfit_markers(config))]
    if unfit:
        config.hook.pytest_deselected(items=unfit)
        items[:] = [item for item in items if item not in unfit]
    schedule.arrange(config, items)


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    return Lab(Path(pytestconfig.getoption("--state-dir")))


@pytest.fixture(scope="session")
def side(lab: Lab, pytestconfig: pytest.Config) -> Side:
    """The compute service under test."""
    return lab.side(pytestconfig.getoption("--against"))


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
def tenant(
    admin: Connection, unique: Callable[[str], str], worker_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tenant]:
    """The project, user, network, router and key pair of this worker's tests."""
    number = int(worker_id.removeprefix("gw")) if worker_id != "master" else 0
    with tenants.tenant(admin, unique(worker_id), number, tmp_path_factory.mktemp("keys")) as made:
        yield made


@pytest.fixture(scope="session")
def user(tenant: Tenant) -> Connection:
    """The cloud as the tenant's user sees it."""
    return tenant.connection


@pytest.fixture(scope="session")
def servers(user: Connection, side: Side, lab: Lab) -> Servers:
    """The compute API as the tenant's user."""
    return Servers(user, side, lab)


@pytest.fixture(scope="session")
def admin_servers(admin: Connection, side: Side, lab: Lab) -> Servers:
    """The compute API as an administrator."""
    return Servers(admin, side, lab)


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
def nothing_left(lab: Lab, tenant: Tenant) -> Iterator[None]:
    """Every test leaves every layer of its project as it found it. See WholeRun for what is no project's."""
    look = functools.partial(leaks.of_project, lab, tenant.project_id)
    if _known.stale:
        _known.names = look()
        _known.stale = False
    yield
    try:
        leaks.assert_nothing_new(look, _known.names)
    except AssertionError:
        # Told once; the next test is not to blame.
        _known.stale = True
        raise


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


@pytest.fixture
def heat(user: Connection, unique: Callable[[str], str]) -> Iterator[Heat]:
    """Makes stacks that live as long as the test."""
    stacks = Heat(user, unique)
    yield stacks
    stacks.take_away()


@pytest.fixture(scope="session")
def private_network(tenant: Tenant) -> list[Json]:
    """The `networks` of a launch on the tenant's network."""
    return [{"uuid": tenant.network.id}]


@pytest.fixture(scope="session")
def key_name(tenant: Tenant) -> str:
    """The key pair with which a Guest opens a server."""
    return tenant.name


@pytest.fixture(scope="session")
def guest_of(lab: Lab, tenant: Tenant, servers: Servers) -> Callable[[str], Guest]:
    """The inside of a server on the tenant's network, seen from its router, or with OVN, whose router has no network
    namespace, from the metadata service's port in the network."""
    space = f"ovnmeta-{tenant.network.id}" if lab.network == "ovn" else f"qrouter-{tenant.router.id}"

    def guest(server_id: str) -> Guest:
        return Guest(lab, servers.addresses(server_id)[0], tenant.key, space)

    return guest


@pytest.fixture
def add_image(user: Connection, unique: Callable[[str], str]) -> Iterator[Callable[..., str]]:
    """Uploads an image of the tenant's user that lives as long as the test; returns its id."""
    made: list[str] = []

    def add(data: bytes, stem: str = "image", **fields: Any) -> str:
        made.append(images.upload(user, unique(stem), data, **fields))
        return made[-1]

    yield add
    for image_id in made:
        user.image.delete_image(image_id, ignore_missing=True)


@pytest.fixture(scope="session")
def tiny(lab: Lab) -> Archive:
    """The archive of the image `tiny`, to make others from."""
    return Archive.read(lab.tiny_archive)


@pytest.fixture
def amqp(lab: Lab) -> Iterator[Amqp]:
    client = Amqp(lab)
    yield client
    client.close()
