"""Images that Glance lacks and this machine has, or can build: brought there before servers are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nova_docker_compose.building import Builder, Pusher
from nova_docker_compose.choosing import Choices
from nova_docker_compose.cloud import Api, CloudError
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
from nova_docker_compose.translation import Wanted

_NOT_FOUND = 404


def supply(
    api: Api,
    project: Project,
    choices: Choices,
    wanted: Iterable[Wanted],
    tell: Callable[[str], None],
    build: bool = False,
) -> None:
    """Builds and pushes what is missing; with `build`, everything that can be built. Raises ComposeError.

    What nobody has is not missed here: who chooses images tells all of them, with near names.
    """
    builder: Builder | None = None
    for each in wanted:
        can_build = bool(each.service.get("build"))
        if not (build and can_build) and _is_there(choices, each.image):
            continue
        try:
            builder = builder or Builder(tell)
        except ComposeError:
            if can_build:
                raise
            return
        if can_build and (build or not builder.has(each.image)):
            builder.build(project, each.name)
        if builder.has(each.image):
            Pusher(api, builder, tell).push(each.image)
            # Another service may have looked at the one from before.
            choices.forget_image(each.image)


def _is_there(choices: Choices, reference: str) -> bool:
    try:
        choices.image(reference)
    except CloudError as error:
        if error.status != _NOT_FOUND:
            raise
        return False
    except ComposeError:
        return False
    return True
