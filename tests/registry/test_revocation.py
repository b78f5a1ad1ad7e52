"""Whoever is let in no more: a token that was had before opens nothing, as soon as Glance does not take the user's
Keystone token any more.

Glance's middleware remembers for `token_cache_time` (300 seconds) which Keystone tokens are good, here in memcached.
Nobody waits for that: memcached is emptied, which is all that happens at the end of that time.
"""

from __future__ import annotations

import configparser
import dataclasses
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from harness.lab import Lab
from harness.waiting import eventually
from oci import content, process
from oci.checks import ok, refused
from oci.client import Registry, challenge, location
from oci.content import Manifest
from oci.people import People, delete_credential, make_credential
from oci.target import Target
from openstack.connection import Connection

pytestmark = pytest.mark.cloud

WITHIN = 45
"""Seconds after Glance's refusal: as old as the registry's listings may be, and time to ask on a busy machine. Less
than the 60 for which it remembers logins and who may read an image, which must open nothing."""


@dataclasses.dataclass(frozen=True)
class Guest:
    """Somebody who has pushed an image, and is about to be shown out."""

    client: Registry
    repository: str
    image: Manifest
    token: str
    show_out: Callable[[], object]


def forget_tokens(state: Path) -> None:
    """Glance and Keystone remember no token any more."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(state / "etc" / "glance-api.conf")
    host, _, port = settings["keystone_authtoken"]["memcached_servers"].partition(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(b"flush_all\r\n")
        assert connection.recv(64) == b"OK\r\n"


@pytest.fixture(params=["role", "user", "password", "credential"])
def guest(
    request: pytest.FixtureRequest,
    target: Target,
    admin: Connection,
    demo: Connection,
    people: People,
    name_of: Callable[[str], str],
) -> Iterator[Guest]:
    if request.param == "credential":
        credential = make_credential(demo, name_of("guest"))
        client, namespace, project_id = (
            Registry(target, credential.id, credential.secret),
            target.namespace,
            demo.current_project_id,
        )

        def show_out() -> object:
            return delete_credential(demo, credential)
    else:
        someone = people.make(name_of("guest"))
        client, namespace, project_id = someone.at(target), someone.name, someone.project_id

        def show_out() -> object:
            match request.param:
                case "role":
                    return people.expel(someone.user_id, someone.project_id)
                case "user":
                    return admin.identity.update_user(someone.user_id, is_enabled=False)
                case _:
                    return admin.identity.update_user(someone.user_id, password="another-word")  # noqa: S106

    stem = name_of("repository")
    repository = f"{namespace}/{stem}"
    image = content.image(repository)
    client.push(repository, image, "v1")
    token = client.token(f"repository:{repository}:pull,push,delete", "registry:catalog:*")
    yield Guest(client, repository, image, token, show_out)
    for found in admin.image.images(owner=project_id):
        if (found.name or "").startswith(stem):
            admin.image.delete_image(found.id)


def requests_of(guest: Guest) -> dict[str, Callable[[], requests.Response]]:
    """Everything that a token is good for, with the one from before."""
    repository, image = guest.repository, guest.image

    def call(method: str, path: str, **arguments: object) -> Callable[[], requests.Response]:
        return lambda: guest.client.call(method, path, token=guest.token, **arguments)  # type: ignore[arg-type]

    accept = {"headers": {"Accept": content.ANY_MANIFEST}}
    body = {"data": image.data, "headers": {"Content-Type": image.media_type}}
    at = f"/v2/{repository}"
    return {
        "pull by tag": call("GET", f"{at}/manifests/v1", **accept),
        "pull by digest": call("GET", f"{at}/manifests/{image.digest}", **accept),
        "a blob that is cached": call("GET", f"{at}/blobs/{image.blobs[-1].digest}"),
        "the head of a blob": call("HEAD", f"{at}/blobs/{image.blobs[-1].digest}"),
        "tags": call("GET", f"{at}/tags/list"),
        "referrers": call("GET", f"{at}/referrers/{image.digest}"),
        "catalog": call("GET", "/v2/_catalog"),
        "push": call("PUT", f"{at}/manifests/v2", **body),
        "mount": call("POST", f"{at}/blobs/uploads/?mount={image.blobs[-1].digest}"),
        "delete a tag": call("DELETE", f"{at}/manifests/v1"),
        "delete": call("DELETE", f"{at}/manifests/{image.digest}"),
    }


def refusal(what: str, ask: Callable[[], requests.Response]) -> requests.Response:
    """The first answer with the status 401."""

    def refusals() -> list[requests.Response]:
        answer = ask()
        return [answer] if answer.status_code == 401 else []

    return eventually(refusals, f"{what} refused", WITHIN)[0]


def test_who_was_shown_out_does_nothing_with_a_token_of_before(guest: Guest, lab: Lab, admin: Connection) -> None:
    everything = requests_of(guest)
    for what in ("pull by tag", "pull by digest", "a blob that is cached", "tags", "catalog"):
        ok(everything[what](), 200)
    ok(everything["a blob that is cached"](), 200)
    guest.show_out()
    forget_tokens(lab.state)
    for what, ask in everything.items():
        # What the registry listed a moment ago is good for a few seconds; the listings do not end together. What would
        # change something is refused from the first.
        is_change = what in ("push", "mount", "delete a tag", "delete")
        answer = ask() if is_change else refusal(what, ask)
        assert answer.status_code == 401, f"{what}: {answer.status_code} {answer.text}"
        # Whoever has no role any more still is somebody, who may list the catalog of no project.
        why = ("invalid_token", "insufficient_scope") if what == "catalog" else ("invalid_token",)
        assert challenge(answer)[1]["error"] in why, what
    stem = guest.repository.partition("/")[2]
    assert [image.name for image in admin.image.images() if (image.name or "").startswith(stem)] == [f"{stem}:v1"]


def test_who_was_shown_out_gets_no_token_that_opens_anything(guest: Guest, lab: Lab) -> None:
    guest.show_out()
    forget_tokens(lab.state)
    client = Registry(guest.client.target, guest.client.user, guest.client.password)
    scope = f"repository:{guest.repository}:pull,push,delete"

    def is_refused() -> bool:
        answer = client.ask_token(scope)
        if answer.status_code in (401, 403):
            return True
        token = ok(answer, 200).json()["token"]
        # The registry learns of it when the token is used.
        refused(client.call("GET", f"/v2/{guest.repository}/tags/list", token=token), (401, 404))
        return False

    eventually(is_refused, "no token", WITHIN)


def test_an_upload_that_was_begun_before_becomes_no_image(guest: Guest, lab: Lab, admin: Connection) -> None:
    """What is uploaded is seen by nobody until Glance is asked, when the manifest comes."""
    other = content.image(f"{guest.repository} more")
    for blob in other.blobs:
        guest.client.push_blob(guest.repository, blob)
    guest.show_out()
    forget_tokens(lab.state)
    answer = guest.client.call(
        "PUT",
        f"/v2/{guest.repository}/manifests/v2",
        token=guest.token,
        data=other.data,
        headers={"Content-Type": other.media_type},
    )
    refused(answer, (401, 403), "UNAUTHORIZED", "DENIED")
    stem = guest.repository.partition("/")[2]
    assert [image.name for image in admin.image.images() if (image.name or "").startswith(stem)] == [f"{stem}:v1"]


def test_an_upload_goes_on_no_longer_than_its_token(lab: Lab, tmp_path: Path, repository: str) -> None:
    with process.running(lab.state, tmp_path, {"token_lifetime_seconds": 5}) as own:
        client = Registry(own.target)

        def begun() -> str:
            """A new upload's address, unless the token is used too late."""
            client.forget_tokens()
            answer = ok(client.begin(repository), 202, 401)
            return location(answer) if answer.status_code == 202 else ""

        address = eventually(begun, "an upload", 60)
        token = client.token(f"repository:{repository}:pull,push,delete")
        eventually(lambda: client.call("GET", address, token=token).status_code == 401, "the token's end", 60)
        for method in ("PATCH", "PUT", "GET", "DELETE"):
            refused(client.call(method, address, token=token, data=b"more"), 401, "UNAUTHORIZED")
