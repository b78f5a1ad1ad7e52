"""Whoever is let in no more: a token that was had before opens nothing, as soon as Glance does not take the user's
Keystone token any more.

Glance's middleware remembers for `token_cache_time` (300 seconds) which Keystone tokens are good, here in memcached.
Nobody waits for that: memcached is emptied, which is all that happens at the end of that time. Nor for the registry,
which goes by a clock that the tests move.
"""

from __future__ import annotations

import configparser
import dataclasses
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
from harness.lab import Lab
from oci import content, process
from oci.checks import ok, refused
from oci.client import Registry, challenge, location
from oci.clock import Clock
from oci.content import Manifest
from oci.people import People, delete_credential, make_credential
from openstack.connection import Connection

# They empty the memcached of the whole cloud.
pytestmark = [pytest.mark.cloud, pytest.mark.alone]

LISTED_FOR = 5
"""Seconds for which the registry may go by what Glance listed before."""


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
    with socket.create_connection((host, int(port)), timeout=240) as connection:
        connection.sendall(b"flush_all\r\n")
        assert connection.recv(64) == b"OK\r\n"


@pytest.fixture(scope="module")
def own(
    run_own: Callable[..., AbstractContextManager[process.Own]],
    clock: Clock,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[process.Own]:
    """A registry that goes by `clock`."""
    with run_own(tmp_path_factory.mktemp("registry"), clock=clock) as own:
        yield own


@pytest.fixture(params=["role", "user", "password", "credential"])
def guest(
    request: pytest.FixtureRequest,
    own: process.Own,
    admin: Connection,
    owner: Connection,
    people: People,
    name_of: Callable[[str], str],
) -> Iterator[Guest]:
    target = own.target
    if request.param == "credential":
        credential = make_credential(owner, name_of("guest"))
        client, namespace, project_id = (
            Registry(target, credential.id, credential.secret),
            target.namespace,
            owner.current_project_id,
        )

        def show_out() -> object:
            return delete_credential(owner, credential)
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


def test_who_was_shown_out_does_nothing_with_a_token_of_before(
    guest: Guest, lab: Lab, admin: Connection, clock: Clock
) -> None:
    everything = requests_of(guest)
    for what in ("pull by tag", "pull by digest", "a blob that is cached", "tags", "catalog"):
        ok(everything[what](), 200)
    ok(everything["a blob that is cached"](), 200)
    guest.show_out()
    forget_tokens(lab.state)
    # What would change something is refused from the first; what was listed a moment ago may be good for some seconds.
    changes = ("push", "mount", "delete a tag", "delete")
    for what in changes:
        assert_shut(what, everything[what]())
    clock.forward(LISTED_FOR)
    for what in everything:
        assert_shut(what, everything[what]())
    stem = guest.repository.partition("/")[2]
    assert [image.name for image in admin.image.images() if (image.name or "").startswith(stem)] == [f"{stem}:v1"]


def assert_shut(what: str, answer: requests.Response) -> None:
    assert answer.status_code == 401, f"{what}: {answer.status_code} {answer.text}"
    # Whoever has no role any more still is somebody, who may list the catalog of no project.
    why = ("invalid_token", "insufficient_scope") if what == "catalog" else ("invalid_token",)
    assert challenge(answer)[1]["error"] in why, what


def test_who_was_shown_out_gets_no_token_that_opens_anything(guest: Guest, lab: Lab, clock: Clock) -> None:
    guest.show_out()
    forget_tokens(lab.state)
    clock.forward(LISTED_FOR)
    client = Registry(guest.client.target, guest.client.user, guest.client.password)
    scope = f"repository:{guest.repository}:pull,push,delete"
    answer = client.ask_token(scope)
    if answer.status_code == 200:
        # The registry remembers the login, and learns of its end when the token is used.
        token = answer.json()["token"]
        refused(client.call("GET", f"/v2/{guest.repository}/tags/list", token=token), 401, "UNAUTHORIZED")
        answer = client.ask_token(scope)
    refused(answer, (401, 403), "UNAUTHORIZED", "DENIED")


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
    refused(answer, 401, "UNAUTHORIZED")
    stem = guest.repository.partition("/")[2]
    assert [image.name for image in admin.image.images() if (image.name or "").startswith(stem)] == [f"{stem}:v1"]


def test_an_upload_goes_on_no_longer_than_its_token(own: process.Own, clock: Clock, repository: str) -> None:
    client = Registry(own.target)
    token = client.token(f"repository:{repository}:pull,push,delete")
    address = location(ok(client.begin(repository), 202))
    ok(client.call("GET", address, token=token), 204)
    clock.forward(ok(client.ask_token(), 200).json()["expires_in"])
    for method in ("PATCH", "PUT", "GET", "DELETE"):
        refused(client.call(method, address, token=token, data=b"more"), 401, "UNAUTHORIZED")
