"""Which image and which flavor a service gets."""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

from nova_docker_compose import agent, privileges
from nova_docker_compose.cloud import Api, Json
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.translation import Wanted

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TRAIT = "trait:CUSTOM_HV_DOCKER"
_MIB = 1 << 20
_GIB = 1 << 30


class Choices:
    """The cloud's images and flavors, asked for once."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._flavors: list[Json] | None = None
        self._images: dict[str, Json] = {}

    def image(self, reference: str) -> Json:
        """The image of a reference. Raises ComposeError with near names if there is none."""
        if reference not in self._images:
            self._images[reference] = self._find_image(reference)
        return self._images[reference]

    def forget_image(self, reference: str) -> None:
        """It is asked for anew: it has been pushed."""
        self._images.pop(reference, None)

    def flavor(self, wanted: Wanted, image: Json) -> Json:
        """The flavor that is named, or the smallest that fits. Raises ComposeError."""
        if self._flavors is None:
            self._flavors = self._api.listed("compute", "/flavors/detail", "flavors")
        named = wanted.extra.get("flavor")
        if named is not None:
            found = [each for each in self._flavors if named in (each["name"], each["id"])]
            if not found:
                raise ComposeError(
                    f"there is no flavor {named}{_near(named, [each['name'] for each in self._flavors])}"
                )
            lacking = privileges.not_had(wanted.privileges, _specs(found[0]))
            if lacking:
                raise ComposeError(
                    f"the flavor {named} neither gives nor lets users choose {', '.join(lacking)}{self._others(wanted)}"
                )
            in_memory = math.ceil(agent.largest_in_memory(wanted.service) / _MIB)
            if in_memory > found[0]["ram"]:
                raise ComposeError(
                    f"the flavor {named} has {found[0]['ram']} MiB of memory; shm_size or a tmpfs of {in_memory} does"
                    " not fit into it"
                )
            return found[0]
        fitting = [each for each in _for_containers(self._flavors) if _fits(each, wanted, image)]
        if not fitting:
            raise ComposeError(self._nothing_fits(wanted, image))
        return min(fitting, key=lambda each: _rank(each, wanted))

    def _nothing_fits(self, wanted: Wanted, image: Json) -> str:
        needs = [
            f"{wanted.vcpus} processor{'s' if wanted.vcpus > 1 else ''}",
            f"{max(wanted.memory, image.get('min_ram') or 0)} MiB of memory",
        ]
        needs.append(f"{_disk(image)} GiB of disk")
        needs += [
            f"{key} {', '.join(items)} (docker:{key} or docker:allow)" for key, items in wanted.privileges.items()
        ]
        return f"no flavor has {', '.join(needs)}{self._others(wanted)}"

    def _others(self, wanted: Wanted) -> str:
        """The flavors with the privileges that are asked for, whatever else they lack."""
        able = [each["name"] for each in _for_containers(self._flavors or []) if _gives(each, wanted)]
        return f"; the privileges are to be had with {', '.join(sorted(able))}" if wanted.privileges and able else ""

    def _find_image(self, reference: str) -> Json:
        if _UUID.fullmatch(reference):
            return self._api.request("image", "GET", f"/images/{reference}")
        for name in _names(reference):
            # Without the operator Glance takes the part before a colon for one.
            found = self._api.listed("image", "/images", "images", name=f"eq:{name}", status="active")
            if found:
                mine = [each for each in found if each.get("owner") == self._api.project_id()]
                return max(mine or found, key=lambda each: (each["created_at"], each["id"]))
        known = [each["name"] for each in self._api.listed("image", "/images", "images", status="active")]
        raise ComposeError(
            f"there is no image {reference} in Glance{_near(reference, [name for name in known if name])};"
            " `up` brings one there that the Docker or buildah of this machine has"
        )


def choose(choices: Choices, chosen: list[Wanted]) -> dict[str, tuple[Json, Json]]:
    """Image and flavor of each service. Raises ComposeError for all that lack one."""
    picked: dict[str, tuple[Json, Json]] = {}
    problems = []
    for wanted in chosen:
        try:
            image = choices.image(wanted.image)
            picked[wanted.name] = image, choices.flavor(wanted, image)
        except ComposeError as error:
            problems.append(f"services.{wanted.name}: {error}")
    if problems:
        raise ComposeError("\n".join(problems))
    return picked


def _names(reference: str) -> list[str]:
    """How an image of this reference may be called in Glance: as it is, and as the registry names it."""
    names = [reference]
    if registry_of(reference):
        reference = reference.partition("/")[2]
        names.append(reference)
    # The registry's names begin with a project.
    if "/" in reference:
        names.append(reference.partition("/")[2])
    tagged = [name if ":" in name else f"{name}:latest" for name in names]
    bare = [name.removesuffix(":latest") for name in names]
    return list(dict.fromkeys([*names, *tagged, *bare]))


def registry_of(reference: str) -> str | None:
    """The registry's address that an image's name begins with."""
    # It has a dot, a colon or is localhost.
    host, slash, _ = reference.partition("/")
    return host if slash and (set(host) & set(".:") or host == "localhost") else None


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, 0.5)
    return f"; there is {', '.join(dict.fromkeys(near))}" if near else ""


def _for_containers(flavors: list[Json]) -> list[Json]:
    """The flavors for this agent's hosts, in a cloud that tells them from others."""
    usable = [each for each in flavors if each.get("extra_specs", {}).get(_TRAIT) != "forbidden"]
    ours = [each for each in usable if each.get("extra_specs", {}).get(_TRAIT) == "required"]
    return ours or usable


def _fits(flavor: Json, wanted: Wanted, image: Json) -> bool:
    return (
        flavor["vcpus"] >= wanted.vcpus
        and flavor["ram"] >= max(wanted.memory, image.get("min_ram") or 0)
        and (flavor["disk"] == 0 or flavor["disk"] >= _disk(image))
        and _gives(flavor, wanted)
    )


def _gives(flavor: Json, wanted: Wanted) -> bool:
    return not privileges.not_had(wanted.privileges, _specs(flavor))


def _specs(flavor: Json) -> Json:
    return dict(flavor.get("extra_specs") or {})


def _rank(flavor: Json, wanted: Wanted) -> tuple[Any, ...]:
    """The less the better; privileges that nobody has asked for count first."""
    more = privileges.unasked(wanted.privileges, _specs(flavor))
    return more, flavor["ram"], flavor["vcpus"], flavor["disk"], flavor["name"]


def _disk(image: dict[str, Any]) -> int:
    return max(image.get("min_disk") or 0, math.ceil((image.get("virtual_size") or image.get("size") or 0) / _GIB))
