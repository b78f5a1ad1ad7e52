"""The door: what the registry says of itself, who may come in, and what has no place there."""

from __future__ import annotations

import http.client
import ssl
import urllib.parse

import pytest
from harness.lab import Lab
from harness.waiting import eventually
from oci import content
from oci.checks import invalid, ok, refused
from oci.client import Registry, challenge
from oci.content import Manifest
from oci.target import Lack, Target


def test_the_registry_speaks_version_2(registry: Registry) -> None:
    answer = ok(registry.call("GET", "/v2/"), 200)
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"


def test_nobody_is_asked_who_it_is(target: Target) -> None:
    answer = refused(Registry(target, "").call("GET", "/v2/"), 401, "UNAUTHORIZED")
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    scheme, parameters = challenge(answer)
    assert scheme in ("basic", "bearer")
    assert parameters["realm"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_nobody_does_nothing(target: Target, repository: str, pushed: Manifest, method: str) -> None:
    nobody = Registry(target, "")
    answer = nobody.call(method, f"/v2/{repository}/manifests/v1", data=pushed.data if method == "PUT" else None)
    refused(answer, 401, "UNAUTHORIZED")
    refused(nobody.begin(repository), 401, "UNAUTHORIZED")
    refused(nobody.tags(repository), 401, "UNAUTHORIZED")


def test_a_wrong_password_opens_nothing(target: Target, repository: str, pushed: Manifest) -> None:
    stranger = Registry(target, target.user, "wrong")
    scheme, _ = challenge(Registry(target, "").call("GET", "/v2/"))
    if scheme == "bearer":
        refused(stranger.ask_token(f"repository:{repository}:pull"), 401, "UNAUTHORIZED")
    else:
        refused(stranger.manifest(repository, "v1"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "repository_name",
    [
        "UPPER",
        "under_/score",
        "-dash",
        "dot.",
        "a..b",
        "a//b",
        "a___b",
        "sp%20ace",
        "%C3%A4",
        "a%2F..%2Fb",
        "a" * 300,
        "nul%00",
        "a:b",
        "a@b",
    ],
)
def test_what_is_no_name_is_refused(target: Target, registry: Registry, repository_name: str) -> None:
    name = f"{target.namespace}/{repository_name}"
    for answer in (
        registry.call("GET", f"/v2/{name}/manifests/latest"),
        registry.call("GET", f"/v2/{name}/tags/list"),
        registry.call("POST", f"/v2/{name}/blobs/uploads/"),
    ):
        if answer.status_code in (301, 307, 308):
            continue  # to the cleaned path
        invalid(target, answer, "NAME_INVALID", "NAME_UNKNOWN", "UNSUPPORTED", "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/{namespace}/../{namespace}/r/manifests/latest",
        "/v2/../../etc/passwd",
        "/v2/{namespace}/r/blobs/../../../etc/passwd",
        "/v2/{namespace}/r/blobs/uploads/../../manifests/latest",
        "/v2/{namespace}/r/blobs/sha256:%2e%2e%2f%2e%2e",
    ],
)
def test_no_path_leads_out(target: Target, registry: Registry, path: str) -> None:
    """Sent as it is: HTTP libraries would clean it."""
    address = urllib.parse.urlsplit(target.url)
    host, port = address.hostname or "", address.port
    if target.tls:
        context = ssl.create_default_context(cafile=target.ca)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=240, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=240)
    connection.request("GET", path.format(namespace=target.namespace), headers=registry.authorization())
    answer = connection.getresponse()
    assert answer.status in (301, 307, 308, 400, 401, 404)
    assert b"root:" not in answer.read()
    connection.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "manifests/v1"),
        ("PATCH", "manifests/v1"),
        ("POST", "blobs/{digest}"),
        ("PUT", "tags/list"),
        ("DELETE", "tags/list"),
    ],
)
def test_a_method_that_means_nothing_there(
    target: Target, registry: Registry, repository: str, pushed: Manifest, method: str, path: str
) -> None:
    path = path.format(digest=pushed.blobs[0].digest)
    answer = ok(registry.call(method, f"/v2/{repository}/{path}", repositories=(repository,)), 404, 405)
    if not target.lacks_any(Lack.VALIDATION):
        refused(answer, (404, 405), "UNSUPPORTED")


@pytest.mark.parametrize("path", ["/", "/v1/", "/v2/x", "/v3/", "/v2/a/b/c/d", "/favicon.ico"])
def test_a_path_that_means_nothing(registry: Registry, path: str) -> None:
    answer = registry.call("GET", path)
    # The root may greet people; nothing else is there.
    ok(answer, *((200, 404) if path == "/" else (400, 401, 404)))


def test_head_of_the_entry(registry: Registry) -> None:
    assert ok(registry.call("HEAD", "/v2/"), 200, 405).content == b""


def test_a_connection_serves_one_request_after_the_other(registry: Registry, repository: str) -> None:
    """After refusals too, with bodies that the registry did not have to read."""
    image = content.image(repository)
    for _ in range(3):
        refused(registry.put_manifest(repository, "v1", image.data, image.media_type), (400, 404))
        refused(registry.finish(repository, registry.upload(repository), "nonsense", b"x" * 100_000), 400)
        ok(registry.call("GET", "/v2/"), 200)


@pytest.mark.cloud
def test_every_request_has_a_line_in_the_log(
    lab: Lab, target: Target, registry: Registry, repository: str, pushed: Manifest
) -> None:
    """Found by the request's id, in the same words whatever the method: that an answer has no body is no breach."""
    for method, size in (("GET", len(pushed.data)), ("HEAD", 0)):
        answer = ok(registry.manifest(repository, "v1", method), 200)
        request_id = answer.headers["X-OpenStack-Request-Id"]

        def line(request_id: str = request_id) -> str:
            lines = lab.log("registry").read_text(errors="replace").splitlines()
            return next((line for line in lines if f'request_id="{request_id}"' in line), "")

        eventually(line, f"the line of {request_id}", 240)
        path = f"/v2/{repository}/manifests/v1"
        assert f'INFO request method={method} path="{path}" status=200 user="{target.user}" bytes={size} ' in line()
