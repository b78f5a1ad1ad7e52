"""Who asks: logins with Keystone, and the short-lived tokens that stand for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from harness.lab import Lab
from harness.waiting import eventually
from oci import content, process
from oci.checks import ok, refused
from oci.client import Registry, challenge
from oci.clock import Clock
from oci.content import Manifest
from oci.people import Credential, People, Someone, delete_credential, make_credential
from oci.target import Target
from openstack.connection import Connection

pytestmark = pytest.mark.cloud

RunOwn = Callable[..., AbstractContextManager[process.Own]]


@pytest.fixture
def credential(owner: Connection, name_of: Callable[[str], str]) -> Iterator[Credential]:
    made = make_credential(owner, name_of("credential"))
    yield made
    delete_credential(owner, made)


def test_the_challenge_says_where_to_get_which_token(target: Target, repository: str, pushed: Manifest) -> None:
    nobody = Registry(target, "")
    for answer, scope in (
        (nobody.call("GET", "/v2/"), None),
        (nobody.manifest(repository, "v1"), f"repository:{repository}:pull"),
        (nobody.begin(repository), f"repository:{repository}:pull,push"),
    ):
        scheme, parameters = challenge(refused(answer, 401, "UNAUTHORIZED"))
        assert scheme == "bearer"
        assert parameters["realm"] == f"{target.url}/token"
        assert parameters["service"] == target.host
        assert parameters.get("scope") == scope


def test_a_token_is_short_lived(registry: Registry, repository: str) -> None:
    answer = ok(registry.ask_token(f"repository:{repository}:pull"), 200).json()
    assert answer["token"] == answer.get("access_token", answer["token"])
    assert 0 < answer["expires_in"] <= 300
    assert answer["issued_at"].endswith("Z") or "+" in answer["issued_at"]


def test_a_token_by_a_form(target: Target, repository: str, pushed: Manifest) -> None:
    """As clients of OAuth 2 ask for it."""
    nobody = Registry(target, "")
    form = {
        "grant_type": "password",
        "service": target.host,
        "client_id": "test",
        "scope": f"repository:{repository}:pull",
        "username": target.user,
        "password": target.password,
    }
    answer = ok(nobody.call("POST", "/token", data=form), 200).json()
    path = f"/v2/{repository}/manifests/v1"
    ok(nobody.call("GET", path, token=answer["access_token"], headers={"Accept": content.ANY_MANIFEST}), 200)
    refused(nobody.call("POST", "/token", data={**form, "password": "wrong"}), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("domain", ["", "Default/"], ids=["without", "with"])
def test_a_user_logs_in_with_or_without_a_domain(
    target: Target, repository: str, pushed: Manifest, domain: str
) -> None:
    ok(Registry(target, f"{domain}{target.user}").manifest(repository, "v1"), 200)


@pytest.mark.parametrize(
    "user",
    ["nobody-knows", "Elsewhere/{user}", "{user}/{user}/{user}", "d" * 5000, "ünknown", ":"],
    ids=["nobody", "another domain", "two slashes", "long", "not ASCII", "a colon"],
)
def test_who_is_not_known_gets_no_token(target: Target, repository: str, pushed: Manifest, user: str) -> None:
    name = user.format(user=target.user).encode().decode("latin-1")
    refused(Registry(target, name).ask_token(f"repository:{repository}:pull"), 401, "UNAUTHORIZED")


def test_an_application_credential_pushes_and_pulls(target: Target, repository: str, credential: Credential) -> None:
    client = Registry(target, credential.id, credential.secret)
    image = content.image(repository)
    client.push(repository, image, "v1")
    assert ok(client.manifest(repository, "v1"), 200).content == image.data
    client.take_away()


def test_a_deleted_application_credential_opens_nothing(
    target: Target, owner: Connection, repository: str, pushed: Manifest, name_of: Callable[[str], str]
) -> None:
    credential = make_credential(owner, name_of("deleted"))
    delete_credential(owner, credential)
    client = Registry(target, credential.id, credential.secret)
    refused(client.ask_token(f"repository:{repository}:pull"), 401, "UNAUTHORIZED")


def test_a_wrong_secret_of_an_application_credential(target: Target, repository: str, credential: Credential) -> None:
    client = Registry(target, credential.id, "wrong")
    refused(client.ask_token(f"repository:{repository}:pull"), 401, "UNAUTHORIZED")


def test_a_credential_that_may_only_read_does_not_push(
    target: Target, owner: Connection, people: People, name_of: Callable[[str], str], repository: str, pushed: Manifest
) -> None:
    """Glance's policy lets readers list images, and neither load nor store them: they have nothing to upload either."""
    reader = people.make(name_of("reader"))
    people.admit(reader.user_id, owner.current_project_id, "reader")
    client = reader.at(target)
    assert ok(client.tags(repository), 200).json()["tags"] == ["v1"]
    refused(client.manifest(repository, "v1"), 403, "DENIED")
    image = content.image(f"{repository} reader")
    for blob in image.blobs:
        refused(client.begin(repository, data=blob.data, digest=blob.digest), (401, 403), "DENIED", "UNAUTHORIZED")
    refused(client.put_manifest(repository, "v2", image.data, image.media_type), (401, 403), "DENIED", "UNAUTHORIZED")


def test_a_robot_of_a_member_only_pulls_where_pushes_need_another_role(
    run_own: RunOwn, tmp_path: Path, repository: str, credential: Credential, pushed: Manifest
) -> None:
    """By Glance's own policy members load images: its operator need change nothing."""
    with run_own(tmp_path, {"push_roles": "image-pusher, admin"}) as own:
        robot = Registry(own.target, credential.id, credential.secret)
        assert ok(robot.manifest(repository, "v1"), 200).content == pushed.data
        for blob in pushed.blobs:
            assert ok(robot.blob(repository, blob.digest), 200).content == blob.data
        image = content.image(f"{repository} robot")
        refused(robot.begin(repository, data=image.blobs[0].data, digest=image.blobs[0].digest), 401, "DENIED")
        refused(robot.put_manifest(repository, "v2", image.data, image.media_type), 401, "DENIED")
        refused(robot.delete_manifest(repository, pushed.digest), 401, "DENIED")


# ---------------------------------------------------------------- what a token is for


def test_a_token_is_for_one_repository(registry: Registry, repository: str, another: str, pushed: Manifest) -> None:
    registry.push(another, content.image(another), "v1")
    token = registry.token(f"repository:{another}:pull,push,delete")
    for answer in (
        registry.call("GET", f"/v2/{repository}/manifests/v1", token=token),
        registry.call("GET", f"/v2/{repository}/blobs/{pushed.blobs[0].digest}", token=token),
        registry.call("GET", f"/v2/{repository}/tags/list", token=token),
        registry.call("POST", f"/v2/{repository}/blobs/uploads/", token=token),
        registry.call("DELETE", f"/v2/{repository}/manifests/v1", token=token),
    ):
        refused(answer, (401, 403), "DENIED", "UNAUTHORIZED")


def test_a_token_for_pulls_does_not_push_or_delete(registry: Registry, repository: str, pushed: Manifest) -> None:
    token = registry.token(f"repository:{repository}:pull")
    ok(registry.call("GET", f"/v2/{repository}/tags/list", token=token), 200)
    for answer in (
        registry.call("POST", f"/v2/{repository}/blobs/uploads/", token=token),
        registry.call(
            "PUT",
            f"/v2/{repository}/manifests/v2",
            token=token,
            data=pushed.data,
            headers={"Content-Type": pushed.media_type},
        ),
        registry.call("DELETE", f"/v2/{repository}/manifests/v1", token=token),
        registry.call("DELETE", f"/v2/{repository}/blobs/{pushed.blobs[0].digest}", token=token),
    ):
        refused(answer, (401, 403), "DENIED", "UNAUTHORIZED")
    ok(registry.manifest(repository, "v1"), 200)


def test_a_refusal_for_want_of_scope_says_which(registry: Registry, repository: str, another: str) -> None:
    """dockerd asks for another token then."""
    token = registry.token(f"repository:{another}:pull")
    answer = registry.call("GET", f"/v2/{repository}/tags/list", token=token)
    scheme, parameters = challenge(refused(answer, 401, "DENIED"))
    assert (scheme, parameters["error"]) == ("bearer", "insufficient_scope")
    assert parameters["scope"] == f"repository:{repository}:pull"


@pytest.mark.parametrize(
    "scope", ["", "repository", "repository:", "repository:UPPER/x:pull", "registry:catalog:*", "a b c"]
)
def test_a_scope_that_means_nothing_grants_nothing(
    registry: Registry, repository: str, pushed: Manifest, scope: str
) -> None:
    answer = registry.ask_token(scope)
    if ok(answer, 200, 400).status_code == 200:
        answer = registry.call("GET", f"/v2/{repository}/manifests/v1", token=answer.json()["token"])
        refused(answer, (401, 403), "DENIED", "UNAUTHORIZED")


def forged(token: str) -> list[str]:
    """What is nearly the token."""
    middle = len(token) // 2
    flipped = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJhY2Nlc3MiOltdfQ."
    return [flipped, token[:-4], token + "AAAA", token[::-1], "", "x", unsigned, "A" * 8000]


def test_a_forged_token_opens_nothing(registry: Registry, repository: str, pushed: Manifest) -> None:
    token = registry.token(f"repository:{repository}:pull")
    path = f"/v2/{repository}/manifests/v1"
    ok(registry.call("GET", path, token=token, headers={"Accept": content.ANY_MANIFEST}), 200)
    for forgery in forged(token):
        ok(registry.call("GET", path, token=forgery), 401, 431)
        ok(registry.call("GET", "/v2/", token=forgery), 401, 431)


def test_keystone_s_own_token_is_no_token_here(registry: Registry, owner: Connection, repository: str) -> None:
    answer = registry.call("GET", f"/v2/{repository}/tags/list", token=str(owner.auth_token))
    refused(answer, 401, "UNAUTHORIZED")


def test_an_expired_token_opens_nothing_and_clients_get_another(
    run_own: RunOwn, clock: Clock, tmp_path: Path, repository: str
) -> None:
    with run_own(tmp_path, {"token_lifetime_seconds": 60}, clock=clock) as own:
        client = Registry(own.target)
        path = f"/v2/{repository}/manifests/v1"
        token = client.token(f"repository:{repository}:pull")
        refused(client.call("GET", path, token=token), 404, "MANIFEST_UNKNOWN")
        clock.forward(60)
        answer = refused(client.call("GET", path, token=token), 401, "UNAUTHORIZED")
        assert challenge(answer)[1]["scope"] == f"repository:{repository}:pull"
        client.forget_tokens()
        refused(client.manifest(repository, "v1"), 404, "MANIFEST_UNKNOWN")


def test_a_token_of_another_registry_opens_nothing(
    registry: Registry, own: process.Own, repository: str, pushed: Manifest
) -> None:
    token = Registry(own.target).token(f"repository:{repository}:pull")
    refused(registry.call("GET", f"/v2/{repository}/manifests/v1", token=token), 401, "UNAUTHORIZED")


def test_registries_that_share_a_key_still_tell_their_tokens_apart(
    run_own: RunOwn, tmp_path: Path, repository: str
) -> None:
    """A token has an audience: what was given out for one name is not taken by another."""
    key = tmp_path / "key"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        run_own(tmp_path / "one", {"token_key_file": key}) as one,
        run_own(tmp_path / "two", {"token_key_file": key}) as two,
    ):
        token = Registry(one.target).token(f"repository:{repository}:pull")
        path = f"/v2/{repository}/manifests/v1"
        refused(Registry(one.target).call("GET", path, token=token), 404)
        refused(Registry(two.target).call("GET", path, token=token), 401, "UNAUTHORIZED")
    assert key.stat().st_mode & 0o777 == 0o600


# ---------------------------------------------------------------- other people's projects


def seen(client: Registry, name: str, pushed: Manifest) -> list[tuple[int, object]]:
    """What a user is told of a repository: status and error codes of everything that reads."""
    answers = [
        client.manifest(name, "v1"),
        client.manifest(name, "v1", "HEAD"),
        client.manifest(name, pushed.digest),
        client.blob(name, pushed.blobs[0].digest),
        client.blob(name, pushed.blobs[0].digest, "HEAD"),
        client.tags(name),
        client.referrers(name, pushed.digest),
    ]
    return [
        (answer.status_code, answer.json() if answer.status_code == 200 else _codes(answer.content and answer.json()))
        for answer in answers
    ]


def _codes(body: object) -> list[str]:
    return [error["code"] for error in body["errors"]] if isinstance(body, dict) else []


def test_what_others_may_not_see_is_as_if_it_were_not(
    target: Target, stranger: Someone, owner: Connection, repository: str, pushed: Manifest
) -> None:
    client = stranger.at(target)
    stem = repository.partition("/")[2]
    for project in (target.namespace, owner.current_project_id):
        there = seen(client, f"{project}/{stem}", pushed)
        absent = seen(client, f"{project}/{stem}-that-nobody-made", pushed)
        assert there == absent
        assert all(status in (200, 401, 403, 404) for status, _ in there)
        assert there[0][0] != 200
    nowhere = seen(client, f"a-project-that-nobody-has/{stem}", pushed)
    assert nowhere == seen(client, f"{target.namespace}/{stem}", pushed)


def test_others_neither_push_nor_delete(
    target: Target, registry: Registry, stranger: Someone, owner: Connection, repository: str, pushed: Manifest
) -> None:
    client = stranger.at(target)
    stem = repository.partition("/")[2]
    for name in (repository, f"{owner.current_project_id}/{stem}"):
        for answer in (
            client.begin(name),
            client.put_manifest(name, "v1", pushed.data, pushed.media_type),
            client.delete_manifest(name, "v1"),
            client.delete_manifest(name, pushed.digest),
            client.delete_blob(name, pushed.blobs[0].digest),
        ):
            refused(answer, (401, 403, 404))
    assert ok(registry.manifest(repository, "v1"), 200).content == pushed.data


def test_others_do_not_go_on_with_an_upload(
    target: Target, registry: Registry, stranger: Someone, repository: str
) -> None:
    address = registry.upload(repository)
    upload = address.rpartition("/")[2]
    client = stranger.at(target)
    theirs = f"/v2/{stranger.name}/mine/blobs/uploads/{upload}"
    for name, where in ((repository, address), (f"{stranger.name}/mine", theirs)):
        refused(client.status(name, where), (401, 403, 404))
        refused(client.patch(name, where, b"theirs", "0-5"), (401, 403, 404))
        refused(client.cancel(name, where), (401, 403, 404))
    ok(registry.status(repository, address), 204)


def test_others_mount_nothing(
    target: Target, stranger: Someone, owner: Connection, repository: str, pushed: Manifest
) -> None:
    """They are asked for the upload, as for a blob that nobody has."""
    client = stranger.at(target)
    mine = f"{stranger.name}/mine"
    digest = pushed.blobs[-1].digest
    for source in (repository, f"{owner.current_project_id}/{repository.partition('/')[2]}"):
        ok(client.begin(mine, sources=(source,), mount=digest, from_=source), 202)
    refused(client.blob(mine, digest), 404, "BLOB_UNKNOWN", "NAME_UNKNOWN")


def test_an_image_for_everybody_is_pulled_by_the_project_s_id(
    target: Target, stranger: Someone, owner: Connection, repository: str, pushed: Manifest
) -> None:
    stem = repository.partition("/")[2]
    [image] = [image for image in owner.image.images() if image.name == f"{stem}:v1"]
    name = f"{owner.current_project_id}/{stem}"
    client = stranger.at(target)
    refused(client.manifest(name, "v1"), 404)
    owner.image.update_image(image.id, visibility="community")
    assert ok(client.manifest(name, "v1"), 200).content == pushed.data
    for blob in pushed.blobs:
        assert ok(client.blob(name, blob.digest), 200).content == blob.data
    # What may be seen may be mounted.
    mine = f"{stranger.name}/mine"
    ok(client.begin(mine, sources=(name,), mount=pushed.blobs[-1].digest, from_=name), 201)
    # And pushing still takes a role.
    refused(client.begin(name), (401, 403), "DENIED", "UNAUTHORIZED")
    owner.image.update_image(image.id, visibility="private")
    eventually(lambda: client.manifest(name, "v1").status_code == 404, "the image out of sight", 240)


def test_a_member_of_an_image_pulls_it(
    target: Target, stranger: Someone, owner: Connection, repository: str, pushed: Manifest
) -> None:
    stem = repository.partition("/")[2]
    [image] = [image for image in owner.image.images() if image.name == f"{stem}:v1"]
    owner.image.update_image(image.id, visibility="shared")
    owner.image.add_member(image.id, member_id=stranger.project_id)
    name = f"{owner.current_project_id}/{stem}"
    assert ok(stranger.at(target).manifest(name, "v1"), 200).content == pushed.data
    owner.image.remove_member(stranger.project_id, image.id)
    client = stranger.at(target)
    eventually(lambda: client.manifest(name, "v1").status_code == 404, "the image out of sight", 240)


def test_a_user_of_two_projects_reaches_both_by_name_and_by_id(
    target: Target, people: People, owner: Connection, name_of: Callable[[str], str], repository: str, pushed: Manifest
) -> None:
    both = people.make(name_of("both"))
    people.admit(both.user_id, owner.current_project_id)
    client = both.at(target)
    assert ok(client.manifest(repository, "v1"), 200).content == pushed.data
    own = content.image(both.name)
    for project in (both.name, both.project_id):
        client.push(f"{project}/mine", own, "v1")
        assert ok(client.manifest(f"{project}/mine", "v1"), 200).content == own.data
    # The same image, under both names.
    assert ok(client.tags(f"{both.name}/mine"), 200).json()["tags"] == ["v1"]
    client.take_away()


def test_a_password_is_in_no_log(lab: Lab, target: Target, registry: Registry, repository: str) -> None:
    stranger = dataclasses.replace(target, password="a-password-that-is-wrong")  # noqa: S106
    Registry(stranger).ask_token(f"repository:{repository}:pull")
    token = registry.token(f"repository:{repository}:pull")
    ok(registry.call("GET", f"/v2/{repository}/tags/list", token=token), 404)
    written = lab.log("registry").read_text(errors="replace")
    for secret in (target.password, "a-password-that-is-wrong", token):
        assert secret not in written
