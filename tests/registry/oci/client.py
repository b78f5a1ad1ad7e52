"""The HTTP API of a registry, one method for each end-point of OCI distribution-spec 1.1. Answers come as they are."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import requests

from oci.checks import ok
from oci.content import ANY_MANIFEST, Blob, Manifest
from oci.target import Target

_OCTETS = {"Content-Type": "application/octet-stream"}
_ALL_ACTIONS = "pull,push,delete"
_SECONDS = 240
"""Longer than the registry waits for Keystone or for Glance."""


def challenge(answer: requests.Response) -> tuple[str, dict[str, str]]:
    """The scheme and the parameters of `WWW-Authenticate`."""
    scheme, _, rest = answer.headers["WWW-Authenticate"].partition(" ")
    return scheme.lower(), dict(re.findall(r'(\w+)="([^"]*)"', rest))


class Registry:
    """A user at a registry. `user` and `password` are the target's unless given; an empty user is nobody."""

    def __init__(self, target: Target, user: str | None = None, password: str | None = None) -> None:
        self.target = target
        self.user = target.user if user is None else user
        self.password = target.password if password is None else password
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(target.ca) if target.ca else True
        self.manifests: list[tuple[str, str]] = []
        """Repository and digest of what was pushed, for clearing up."""
        self._scheme: tuple[str, dict[str, str]] | None = None
        self._tokens: dict[tuple[str, ...], str] = {}

    # ------------------------------------------------------------ requests

    def call(
        self,
        method: str,
        path: str,
        *,
        repositories: tuple[str, ...] = (),
        scopes: tuple[str, ...] = (),
        token: str | None = None,
        **arguments: Any,
    ) -> requests.Response:
        """One request. `path` may be a whole address (a Location).

        A token is asked for `repositories`, and for `scopes` beside them, where none is given.
        """
        headers = dict(arguments.pop("headers", None) or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        elif self.user:
            headers |= self.authorization(*(f"repository:{name}:{_ALL_ACTIONS}" for name in repositories), *scopes)
        arguments.setdefault("timeout", _SECONDS)
        arguments.setdefault("allow_redirects", method in ("GET", "HEAD"))
        address = urllib.parse.urljoin(self.target.url, path)
        return self.session.request(method, address, headers=headers, **arguments)

    def authorization(self, *scopes: str) -> dict[str, str]:
        """The header that says who asks, with a token for the scopes where the registry has tokens."""
        if self._scheme is None:
            answer = self.session.get(f"{self.target.url}/v2/", timeout=_SECONDS)
            self._scheme = challenge(answer) if answer.status_code == 401 else ("none", {})
        scheme, _ = self._scheme
        if scheme == "none":
            return {}
        if scheme == "basic":
            return {"Authorization": requests.auth._basic_auth_str(self.user, self.password)}
        return {"Authorization": f"Bearer {self.token(*scopes)}"}

    def token(self, *scopes: str) -> str:
        """A token for these scopes, or for none; remembered."""
        if scopes not in self._tokens:
            self._tokens[scopes] = str(ok(self.ask_token(*scopes), 200).json()["token"])
        return self._tokens[scopes]

    def ask_token(self, *scopes: str) -> requests.Response:
        """The answer of the token service that the challenge names."""
        scheme, parameters = challenge(self.session.get(f"{self.target.url}/v2/", timeout=_SECONDS))
        assert scheme == "bearer", f"this registry has no tokens but {scheme}"
        query = [("service", parameters["service"]), *(("scope", scope) for scope in scopes)]
        credentials = (self.user, self.password) if self.user else None
        return self.session.get(parameters["realm"], params=query, auth=credentials, timeout=_SECONDS)

    def forget_tokens(self) -> None:
        self._tokens.clear()

    # ------------------------------------------------------------ blobs

    def blob(self, name: str, digest: str, method: str = "GET", **headers: str) -> requests.Response:
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        # requests would take the length of the uncompressed body for the blob's.
        headers.setdefault("Accept-Encoding", "identity")
        return self.call(method, f"/v2/{name}/blobs/{digest}", repositories=(name,), headers=headers)

    def begin(self, name: str, *, sources: tuple[str, ...] = (), data: bytes = b"", **query: str) -> requests.Response:
        """POST uploads. Words of the query have `_` for `-`; `sources` are repositories to mount from."""
        parameters = {key.rstrip("_").replace("_", "-"): value for key, value in query.items()}
        return self.call(
            "POST",
            f"/v2/{name}/blobs/uploads/",
            repositories=(name, *sources),
            params=parameters,
            data=data,
            headers=_OCTETS if data else {},
        )

    def upload(self, name: str) -> str:
        """A new session's address."""
        return location(ok(self.begin(name), 202))

    def patch(
        self, name: str, address: str, data: bytes | Iterator[bytes], span: str | None = None
    ) -> requests.Response:
        """A chunk, with its Content-Range (`FIRST-LAST`) or as a stream."""
        headers = dict(_OCTETS) if span is None else {**_OCTETS, "Content-Range": span}
        return self.call("PATCH", address, repositories=(name,), data=data, headers=headers)

    def finish(
        self, name: str, address: str, digest: str | None, data: bytes | Iterator[bytes] = b"", span: str | None = None
    ) -> requests.Response:
        headers = dict(_OCTETS) if span is None else {**_OCTETS, "Content-Range": span}
        where = address if digest is None else with_query(address, digest=digest)
        return self.call("PUT", where, repositories=(name,), data=data, headers=headers)

    def status(self, name: str, address: str) -> requests.Response:
        return self.call("GET", address, repositories=(name,))

    def cancel(self, name: str, address: str) -> requests.Response:
        return self.call("DELETE", address, repositories=(name,))

    def push_blob(self, name: str, blob: Blob) -> None:
        """Pushes a blob, in a session of its own."""
        begun = self.begin(name) if blob.algorithm == "sha256" else self.begin(name, digest_algorithm=blob.algorithm)
        address = location(ok(begun, 202))
        ok(self.finish(name, address, blob.digest, blob.data), 201)

    def delete_blob(self, name: str, digest: str) -> requests.Response:
        return self.call("DELETE", f"/v2/{name}/blobs/{digest}", repositories=(name,))

    # ------------------------------------------------------------ manifests

    def manifest(
        self, name: str, reference: str, method: str = "GET", accept: str = ANY_MANIFEST, **headers: str
    ) -> requests.Response:
        headers = {"Accept": accept, **{key.replace("_", "-"): value for key, value in headers.items()}}
        headers.setdefault("Accept-Encoding", "identity")
        return self.call(method, f"/v2/{name}/manifests/{reference}", repositories=(name,), headers=headers)

    def put_manifest(self, name: str, reference: str, data: bytes, media_type: str) -> requests.Response:
        answer = self.call(
            "PUT",
            f"/v2/{name}/manifests/{reference}",
            repositories=(name,),
            data=data,
            headers={"Content-Type": media_type},
        )
        if answer.status_code == 201 and "Docker-Content-Digest" in answer.headers:
            self.manifests.append((name, answer.headers["Docker-Content-Digest"]))
        return answer

    def push(self, name: str, manifest: Manifest, *references: str) -> requests.Response:
        """Pushes a manifest with all that it needs, by its digest if no tag is given; the last answer."""
        for child in manifest.children:
            self.push(name, child)
        for blob in {blob.digest: blob for blob in manifest.blobs}.values():
            self.push_blob(name, blob)
        for reference in references or (manifest.digest,):
            answer = ok(self.put_manifest(name, reference, manifest.data, manifest.media_type), 201)
        return answer

    def delete_manifest(self, name: str, reference: str) -> requests.Response:
        return self.call("DELETE", f"/v2/{name}/manifests/{reference}", repositories=(name,))

    # ------------------------------------------------------------ discovery

    def tags(self, name: str, **query: str) -> requests.Response:
        return self.call("GET", f"/v2/{name}/tags/list", repositories=(name,), params=query)

    def referrers(self, name: str, digest: str, **query: str) -> requests.Response:
        return self.call("GET", f"/v2/{name}/referrers/{digest}", repositories=(name,), params=query)

    # ------------------------------------------------------------ clearing up

    def take_away(self) -> None:
        """Deletes the manifests that were pushed."""
        for name, digest in reversed(self.manifests):
            ok(self.delete_manifest(name, digest), 202, 404)
        self.manifests.clear()


def location(answer: requests.Response) -> str:
    """The address in `Location`, made absolute."""
    return str(urllib.parse.urljoin(str(answer.request.url), answer.headers["Location"]))


def with_query(address: str, **query: str) -> str:
    """The address with more in its query; what was there stays as it was."""
    parts = urllib.parse.urlsplit(address)
    more = urllib.parse.urlencode(query)
    return urllib.parse.urlunsplit(parts._replace(query=f"{parts.query}&{more}" if parts.query else more))


def link_next(answer: requests.Response) -> str | None:
    """The address of the next page (RFC 8288)."""
    link: Mapping[str, str] = answer.links.get("next", {})
    return urllib.parse.urljoin(str(answer.request.url), link["url"]) if link else None
