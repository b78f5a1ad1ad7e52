"""What `depends_on` waits for beyond a start, which the agent tells by tags of the server."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from fake_cloud import FakeCloud
from nova_docker_compose.cloud import Api, servers
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
from nova_docker_compose.up import Options, Up

Read = Callable[[str], Project]

HEALTHY = """
services:
  web: {image: tiny, depends_on: {db: {condition: service_healthy}}}
  db: {image: db, scale: 2, healthcheck: {test: [CMD, ask]}}
"""
COMPLETED = """
services:
  web: {image: tiny, depends_on: {job: {condition: service_completed_successfully}}}
  job: {image: db, command: migrate}
"""


def up(cloud: FakeCloud, project: Project, **options: Any) -> list[str]:
    told: list[str] = []
    Up(Api(cloud), project, Options(**options), told.append).run()
    return told


def names(cloud: FakeCloud) -> set[str]:
    return {each["name"] for each in cloud.servers.values()}


def test_a_service_starts_when_all_servers_of_the_other_are_healthy(cloud: FakeCloud, project_of: Read) -> None:
    for number in (1, 2):
        cloud.told[f"p-db-{number}"] = ["health:starting"] * 3 * number + ["health:healthy"]
    told = up(cloud, project_of(HEALTHY))
    assert told.index("p-db-2: running") < told.index("p-db: healthy") < told.index("p-web-1: creating")
    assert not any(line.startswith("warning") for line in told)


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        (["health:starting", "health:unhealthy"], "p-db-1: it is unhealthy"),
        ([], "p-db-1: it has no tag health:healthy, nor another of its kind: the agent of its host writes none"),
        (["health:starting"], "p-db-1: still no health:healthy"),
    ],
)
def test_what_never_gets_healthy_is_told_and_the_other_is_not_made(
    cloud: FakeCloud, project_of: Read, tags: list[str], problem: str
) -> None:
    cloud.told = {"p-db-1": tags, "p-db-2": ["health:healthy"]}
    with pytest.raises(ComposeError, match=problem):
        up(cloud, project_of(HEALTHY))
    assert names(cloud) == {"p-db-1", "p-db-2"}


def test_who_waits_for_a_server_that_is_deleted_hears_so(cloud: FakeCloud, project_of: Read) -> None:
    cloud.told = {"p-db-1": ["health:starting"], "p-db-2": ["health:healthy"]}
    cloud.after = lambda number: (
        cloud.servers.clear() if cloud.time.timestamp() > begun + 30 and len(cloud.servers) == 2 else None
    )
    begun = cloud.time.timestamp()
    with pytest.raises(ComposeError, match="somebody has deleted it"):
        up(cloud, project_of(HEALTHY))


def test_a_service_without_a_health_check_is_never_healthy(cloud: FakeCloud, project_of: Read) -> None:
    text = HEALTHY.replace("test: [CMD, ask]", "disable: true")
    with pytest.raises(ComposeError, match=r"services.web.depends_on.db: db has no healthcheck"):
        up(cloud, project_of(text))
    assert names(cloud) == set()


def test_a_service_starts_when_the_other_has_ended_well(cloud: FakeCloud, project_of: Read) -> None:
    cloud.told["p-job-1"] = ["exit:0"]
    told = up(cloud, project_of(COMPLETED))
    assert told.index("p-job: completed") < told.index("p-web-1: creating")
    configuration = {
        each["name"]: yaml.safe_load(base64.b64decode(each.get("user_data", ""))) for each in cloud.servers.values()
    }
    assert configuration["p-job-1"]["oneshot"] is True, "an early end is no failed launch"
    assert "oneshot" not in configuration["p-web-1"]
    # It is not run again for nothing.
    begun = len(cloud.requests)
    up(cloud, project_of(COMPLETED))
    assert not [each for each in cloud.requests[begun:] if "/action" in each]
    up(cloud, project_of(COMPLETED.replace("migrate", "migrate more")))
    assert len([each for each in cloud.requests[begun:] if "/action" in each]) == 2, (
        "rebuilt while it is stopped: started"
    )


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        (["exit:3"], "p-job-1: it has ended with exit code 3"),
        ([], "p-job-1: still no exit:0"),
    ],
)
def test_what_does_not_end_well_is_told_and_the_other_is_not_made(
    cloud: FakeCloud, project_of: Read, tags: list[str], problem: str
) -> None:
    cloud.told = {"p-job-1": tags}
    with pytest.raises(ComposeError, match=problem):
        up(cloud, project_of(COMPLETED))
    assert names(cloud) == {"p-job-1"}


def test_a_container_that_ended_without_a_word_of_its_exit_code_is_told(cloud: FakeCloud, project_of: Read) -> None:
    def stop(number: int) -> None:
        for each in cloud.servers.values():
            if not each["steps"]:
                each["status"] = "SHUTOFF"

    cloud.after = stop
    with pytest.raises(ComposeError, match="p-job-1: it has no tag exit:0"):
        up(cloud, project_of(COMPLETED))


def test_tags_of_users_that_begin_alike_say_nothing(cloud: FakeCloud) -> None:
    def told(*tags: str) -> tuple[str | None, int | None]:
        cloud.servers["s"] = {"id": "s", "name": "n", "networks": [], "steps": 0, "status": "ACTIVE"}
        cloud.servers["s"] |= {"tags": ["compose:p", *tags]}
        cloud.servers["s"]["metadata"] = {"compose:project": "p", "compose:number": "1"}
        server = servers(Api(cloud), "p")[0]
        return server.health, server.exit_code

    assert told("exit:strategy", "health:food", "health:") == (None, None)
    assert told("exit:strategy", "exit:-1", "health:food", "health:starting") == ("starting", -1)


def test_a_service_that_starts_again_by_itself_never_ends(cloud: FakeCloud, project_of: Read) -> None:
    with pytest.raises(ComposeError, match=r"depends_on.job: job has restart: always, so it never ends"):
        up(cloud, project_of(COMPLETED.replace("command: migrate", "restart: always")))


def test_up_waits_for_health_when_it_is_asked_to(cloud: FakeCloud, project_of: Read) -> None:
    text = HEALTHY.replace(", depends_on: {db: {condition: service_healthy}}", "")
    cloud.told["p-db-1"] = ["health:starting"] * 9 + ["health:healthy"]
    cloud.told["p-db-2"] = ["health:healthy"]
    assert "p-db: healthy" not in up(cloud, project_of(text))
    assert "p-db: healthy" in up(cloud, project_of(text), wait=True)


def test_scaling_one_service_does_not_wait_for_others(cloud: FakeCloud, project_of: Read) -> None:
    cloud.told = {f"p-db-{number}": ["health:healthy"] for number in (1, 2)}
    up(cloud, project_of(HEALTHY))
    cloud.told = {}
    up(cloud, project_of(HEALTHY), services=["web"], scale={"web": 2}, no_recreate=True)
    assert "p-web-2" in names(cloud)
