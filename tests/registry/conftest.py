"""Fixtures of the registry tests. README.md (one directory up) says how to run one test."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import images
from harness.lab import Lab
from harness.waiting import eventually
from oci import cloud, content, process, reference, relay
from oci.client import Registry
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--registry-url") or config.getoption("--target") == "reference":
        unfit = [item for item in items if item.get_closest_marker("cloud")]
        if unfit:
            config.hook.pytest_deselected(items=unfit)
            items[:] = [item for item in items if item not in unfit]
    items.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The registry under test."""
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
        state = Path(option("--state-dir"))
        if not (state / "options.json").exists():
            pytest.exit(f"there is no cloud in {state}; start one with ./devstack/mini up", returncode=3)
        yield cloud.target(state)


@pytest.fixture(scope="session")
def name_of() -> Callable[[str], str]:
    """A word that no other repository of this run has, nor one that an earlier run left behind."""
    run = secrets.token_hex(2)
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
    return Lab(Path(pytestconfig.getoption("--state-dir")))


@pytest.fixture(scope="session")
def admin(lab: Lab) -> Connection:
    return lab.connect("admin")


@pytest.fixture(scope="session")
def demo(lab: Lab) -> Connection:
    return lab.connect("demo")


@pytest.fixture(scope="session")
def people(lab: Lab, admin: Connection) -> Iterator[People]:
    """Makes projects and users; they are gone at the end."""
    people = People(admin)
    yield people
    people.take_away()


@pytest.fixture(scope="session")
def stranger(people: People, name_of: Callable[[str], str]) -> Someone:
    """A user with a project of its own, and no part in the demo user's."""
    return people.make(name_of("stranger"))


@pytest.fixture(scope="session")
def glance_images(admin: Connection) -> Callable[[], dict[str, cloud.Image]]:
    """All images by id, those that users do not see among others too."""
    return lambda: cloud.images(admin)


@pytest.fixture
def glance(lab: Lab) -> Iterator[Relay]:
    """A way to Glance that holds an upload in its middle."""
    with relay.running(cloud.glance(lab.state)) as glance:
        yield glance


@pytest.fixture
def held(lab: Lab, tmp_path: Path, glance: Relay) -> Iterator[process.Own]:
    """A registry of the test's own that reaches Glance by way of `glance`."""
    with process.running(lab.state, tmp_path, glance=glance.url) as held:
        yield held


@pytest.fixture
def upload(demo: Connection) -> Iterator[Callable[..., str]]:
    """Uploads to Glance directly; returns the image's id."""
    made: list[str] = []

    def add(name: str, data: bytes, **fields: object) -> str:
        made.append(images.upload(demo, name, data, **fields))
        return made[-1]

    yield add
    for image_id in made:
        demo.image.delete_image(image_id, ignore_missing=True)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, target: Target) -> Iterator[None]:
    """Every test leaves Glance as it found it."""
    if target.name != "cloud":
        yield
        return
    glance_images = request.getfixturevalue("glance_images")
    before = set(glance_images())
    yield
    left: dict[str, cloud.Image] = {}

    def clean() -> bool:
        nonlocal left
        left = {key: image for key, image in glance_images().items() if key not in before}
        return not left

    try:
        eventually(clean, "Glance as it was", 90)
    except AssertionError:
        told = "\n  ".join(f"{image['id']} {image['name']} {image['status']}" for image in left.values())
        raise AssertionError(f"the test left these images in Glance:\n  {told}") from None
