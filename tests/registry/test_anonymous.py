"""Pulls of those who have not logged in, from a registry whose operator allows them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from oci import commands, content, pictures, process
from oci.checks import ok, refused
from oci.client import Registry
from oci.people import People
from oci.target import Target
from openstack.connection import Connection

pytestmark = pytest.mark.cloud

RunOwn = Callable[..., AbstractContextManager[process.Own]]


def test_docker_pulls_a_public_image_without_a_login_and_nothing_else(
    target: Target,
    run_own: RunOwn,
    tmp_path: Path,
    people: People,
    admin: Connection,
    owner: Connection,
    registry: Registry,
    repository: str,
    engine: Path,
    name_of: Callable[[str], str],
) -> None:
    stem = repository.partition("/")[2]
    identity = people.make(name_of("anonymous"))
    # It may do more than those for whom it stands.
    people.admit(identity.user_id, owner.current_project_id)
    options = {
        "anonymous_user": identity.name,
        "anonymous_password": identity.password,
        "tls_cert_file": None,
        "tls_key_file": None,
    }
    member = commands.docker(engine, tmp_path / "member")
    nobody = commands.docker(engine, tmp_path / "nobody")
    with run_own(tmp_path, options) as own:
        name = f"{own.target.host}/{repository}"
        member("login", "--username", target.user, "--password-stdin", own.target.host, stdin=target.password)
        for tag in ("public", "private"):
            member("build", "-t", f"{name}:{tag}", pictures.build_context(tmp_path / tag, tag))
            member("push", f"{name}:{tag}")
        [image] = [image for image in owner.image.images() if image.name == f"{stem}:public"]
        admin.image.update_image(image.id, visibility="public")
        commands.forget_images(member)

        nobody("pull", f"{name}:public")
        assert nobody("run", "--rm", "--network=none", f"{name}:public") == "public"
        said = nobody.fails("pull", f"{name}:private")
        assert "not found" in said or "manifest unknown" in said, said
        said = nobody.fails("push", f"{name}:public")
        assert "unauthorized" in said or "no basic auth credentials" in said or "denied" in said, said
        commands.forget_images(member)

        token = Registry(own.target, "").call("GET", f"/token?scope=repository:{repository}:pull,push,delete").json()
        client = Registry(own.target, "")
        accept = {"Accept": content.ANY_MANIFEST}
        path = f"/v2/{repository}"
        ok(client.call("GET", f"{path}/manifests/public", token=token["token"], headers=accept), 200)
        for method, address in (
            ("POST", f"{path}/blobs/uploads/"),
            ("DELETE", f"{path}/manifests/public"),
            ("GET", "/v2/_catalog"),
        ):
            refused(client.call(method, address, token=token["token"]), 401, "UNAUTHORIZED")
        assert identity.password not in own.log.read_text()
    # The cloud's own registry has no such option.
    refused(Registry(target, "").call("GET", f"/token?scope=repository:{repository}:pull"), 401, "UNAUTHORIZED")
    for tag in ("public", "private"):
        digest = ok(registry.manifest(repository, tag, "HEAD"), 200).headers["Docker-Content-Digest"]
        ok(registry.delete_manifest(repository, digest), 202)
