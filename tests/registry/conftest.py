"""Fixtures of the registry tests. README.md (one directory up) says how to run one test."""

from __future__ import annotations

import functools
import itertools
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from harness import images
from harness.lab import Lab
from harness.waiting import eventually
from oci import cloud, commands, content, inventory, process, reference, relay
from oci.client import Registry
from oci.clock import Clock
from oci.commands import Command
from oci.content import Manifest
from oci.people import People, Someone
from oci.relay import Relay
from oci.target import Target
from openstack.connection import Connection

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--target",
        choices=("cloud", "reference"),
        default="cloud",
        help="the registry to test: that of the cloud of devstack/mini, or Debian's docker-registry, which shows that"
        " the tests ask for what the specification says",
    )
    parser.addoption("--state-dir", default="/var/lib/nova-docker-mini", help="where devstack/mini keeps the cloud")
    parser.addoption("--registry-url", help="any other registry instead, as `https://HOST:PORT`")
    parser.addoption("--registry-user", default="", help="with --registry-url: who logs in")
    parser.addoption("--registry-password", default="", help="with --registry-url")
    parser.addoption("--registry-namespace", default="test", help="with --registry-url: what names begin with")
    parser.addoption("--registry-ca", type=Path, help="with --registry-url: file (PEM) of its certificate authority")


_BEFORE = pytest.StashKey[set[str]]()
"""What the cloud held when the run began."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _is_for_cloud(config):
        return
    unfit = [item for item in items if item.get_closest_marker("cloud")]
    if unfit:
        config.hook.pytest_deselected(items=unfit)
        items[:] = [item for item in items if item not in unfit]


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    # Workers of pytest-xdist leave it to the process that started them.
    if _is_for_cloud(config) and not hasattr(config, "workerinput") and not config.option.collectonly:
        config.stash[_BEFORE] = inventory.inventory(Lab(_state(config)).connect("admin"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Every run leaves the cloud as it found it."""
    before = session.config.stash.get(_BEFORE, None)
    if before is None:
        return
    if left := inventory.left_since(Lab(_state(session.config)).connect("admin"), before):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_sep("!", "the run left behind", red=True)
        reporter.write_line("\n".join(sorted(left)))


def _is_for_cloud(config: pytest.Config) -> bool:
    return not config.getoption("--registry-url") and config.getoption("--target") == "cloud"


def _state(config: pytest.Config) -> Path:
    """The directory of the cloud, which must be there."""
    state = Path(config.getoption("--state-dir"))
    if not (state / "options.json").exists():
        pytest.exit(f"there is no cloud in {state}; start one with ./devstack/mini up", returncode=3)
    return state


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The registry under test. Each worker of pytest-xdist has a user and project of its own, or a reference."""
    pytestconfig = request.config
    option = pytestconfig.getoption
    if option("--registry-url"):
        yield Target(
            "other",
            option("--registry-url"),
            option("--registry-namespace"),
            option("--registry-user"),
            option("--registry-password"),
            option("--registry-ca"),
        )
    elif option("--target") == "reference":
        try:
            with reference.running(tmp_path_factory.mktemp("reference")) as target:
                yield target
        except reference.NotInstalled as error:
            pytest.exit(str(error), returncode=3)
    else:
        member: Someone = request.getfixturevalue("member")
        yield cloud.target(_state(pytestconfig), member.name, member.password)


@pytest.fixture(scope="session")
def name_of() -> Callable[[str], str]:
    """A word that no other repository of this run has, nor one that an earlier run left behind."""
    run = secrets.token_hex(4)
    return lambda stem: f"t{run}-{next(_numbers)}-{stem}"


@pytest.fixture
def registry(target: Target) -> Iterator[Registry]:
    """The target as its user. What is pushed is deleted after the test."""
    client = Registry(target)
    yield client
    client.take_away()


@pytest.fixture
def repository(target: Target, name_of: Callable[[str], str]) -> str:
    """A repository of the test's own."""
    return f"{target.namespace}/{name_of('repository')}"


@pytest.fixture
def another(target: Target, name_of: Callable[[str], str]) -> str:
    """Another repository of the test's own."""
    return f"{target.namespace}/{name_of('another')}"


@pytest.fixture
def pushed(registry: Registry, repository: str) -> Manifest:
    """An image in `repository`, with the tag `v1`."""
    image = content.image(repository)
    registry.push(repository, image, "v1")
    return image


# ---------------------------------------------------------------- what only a cloud has


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    """The cloud around the registry."""
    return Lab(_state(pytestconfig))


@pytest.fixture(scope="session")
def admin(lab: Lab) -> Connection:
    return lab.connect("admin")


@pytest.fixture(scope="session")
def people(admin: Connection) -> Iterator[People]:
    """Makes projects and users; they are gone at the end."""
    people = People(admin)
    yield people
    people.take_away()


@pytest.fixture(scope="session")
def member(people: People, name_of: Callable[[str], str]) -> Someone:
    """The user whose project the tests push into."""
    return people.make(name_of("member"))


@pytest.fixture(scope="session")
def owner(people: People, member: Someone) -> Connection:
    """The cloud as the user whose project the tests push into."""
    return people.connect(member)


@pytest.fixture(scope="session")
def stranger(people: People, name_of: Callable[[str], str]) -> Someone:
    """A user with a project of its own, and no part in that of the tests."""
    return people.make(name_of("stranger"))


@pytest.fixture(scope="session")
def glance_images(admin: Connection, people: People) -> Callable[[], dict[str, cloud.Image]]:
    """The images of the tests' projects by id, those that users do not see among others too."""

    def found() -> dict[str, cloud.Image]:
        projects = people.project_ids
        return {key: image for key, image in cloud.images(admin).items() if image["owner"] in projects}

    return found


@pytest.fixture(scope="session")
def run_own(lab: Lab, target: Target) -> Callable[..., AbstractContextManager[process.Own]]:
    """Starts a registry of a test's own, beside that of the cloud: `process.running`, for the same user."""
    return functools.partial(process.running, lab.state, user=target)


@pytest.fixture
def own(run_own: Callable[..., AbstractContextManager[process.Own]], tmp_path: Path) -> Iterator[process.Own]:
    """A registry of the test's own."""
    with run_own(tmp_path) as own:
        yield own


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    """A clock that tests move."""
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture
def glance(lab: Lab) -> Iterator[Relay]:
    """A way to Glance that holds an upload in its middle."""
    with relay.running(cloud.glance(lab.state)) as glance:
        yield glance


@pytest.fixture
def held(
    run_own: Callable[..., AbstractContextManager[process.Own]], tmp_path: Path, glance: Relay
) -> Iterator[process.Own]:
    """A registry of the test's own that reaches Glance by way of `glance`."""
    with run_own(tmp_path, glance=glance.url) as held:
        yield held


@pytest.fixture
def upload(owner: Connection) -> Iterator[Callable[..., str]]:
    """Uploads to Glance directly; returns the image's id."""
    made: list[str] = []

    def add(name: str, data: bytes, **fields: object) -> str:
        made.append(images.upload(owner, name, data, **fields))
        return made[-1]

    yield add
    for image_id in made:
        owner.image.delete_image(image_id, ignore_missing=True)


@pytest.fixture(scope="session")
def told() -> set[str]:
    """Images that a test left, and that were told of."""
    return set()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, target: Target, told: set[str]) -> Iterator[None]:
    """Every test leaves the tests' projects without images."""
    yield
    if target.name != "cloud":
        return
    glance_images = request.getfixturevalue("glance_images")
    left: dict[str, cloud.Image] = {}

    def clean() -> bool:
        nonlocal left
        left = {key: image for key, image in glance_images().items() if key not in told}
        return not left

    try:
        eventually(clean, "projects without images", 240)
    except AssertionError:
        told.update(left)
        lines = "\n  ".join(f"{image['id']} {image['name']} {image['status']}" for image in left.values())
        raise AssertionError(f"the test left these images in Glance:\n  {lines}") from None


# ---------------------------------------------------------------- clients


@pytest.fixture(scope="session")
def engine() -> Iterator[Path]:
    """The socket of a Docker Engine that tests share; each leaves it without images."""
    with commands.dockerd() as socket:
        yield socket


@pytest.fixture
def docker(engine: Path, tmp_path: Path, target: Target) -> Iterator[Command]:
    """docker(1), logged in; without images before and afterwards."""
    docker = commands.docker(engine, tmp_path / "credentials")
    docker("login", "--username", target.user, "--password-stdin", target.host, stdin=target.password)
    yield docker
    commands.forget_images(docker)
