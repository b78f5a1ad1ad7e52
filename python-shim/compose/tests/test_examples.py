"""The applications of devstack/examples, as far as no cloud is needed for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_cloud import FakeCloud
from nova_docker_compose.cloud import Api
from nova_docker_compose.heat import Template
from nova_docker_compose.loader import Request, load
from nova_docker_compose.translation import translate

EXAMPLES = Path(__file__).parents[3] / "devstack" / "examples" / "fig"


@pytest.mark.parametrize(
    ("name", "services"), [("balanced", ["lb", "web"]), ("wordpress", ["db", "web"])], ids=["balanced", "wordpress"]
)
def test_an_example_is_taken_without_a_warning(cloud: FakeCloud, name: str, services: list[str]) -> None:
    project = load(Request(project_name="p", environment={"DB_PASSWORD": "it's"}, here=EXAMPLES / name))
    translation = translate(project)
    assert (list(translation.wanted), translation.warnings) == (services, [])
    assert sorted(path.parent.name for path in (EXAMPLES / name).glob("*/Dockerfile")) == sorted(services)
    for number, wanted in enumerate(translation.wanted.values()):
        cloud.images[number]["name"] = wanted.image
    told: list[str] = []
    assert Template(Api(cloud), project, told.append).make()["outputs"]
    assert told == []
