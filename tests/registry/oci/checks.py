"""What answers must look like."""

from __future__ import annotations

from collections.abc import Iterable

import requests

from oci.target import Lack, Target

CODES = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNSUPPORTED",
}
"""The specification's error codes."""


def ok(answer: requests.Response, *statuses: int) -> requests.Response:
    """The answer has one of these statuses."""
    assert answer.status_code in statuses, told(answer)
    return answer


def refused(answer: requests.Response, statuses: int | Iterable[int], *codes: str) -> requests.Response:
    """A refusal with one of these statuses, and a body with one of these codes (any of the specification's if none)."""
    ok(answer, *([statuses] if isinstance(statuses, int) else statuses))
    if answer.request.method == "HEAD":
        assert answer.content == b"", "the answer to HEAD has a body"
        return answer
    assert answer.headers.get("Content-Type", "").startswith("application/json"), told(answer)
    errors = answer.json()["errors"]
    assert errors, told(answer)
    for error in errors:
        assert isinstance(error["code"], str) and isinstance(error.get("message", ""), str), told(answer)
        assert error["code"] in (codes or CODES), told(answer)
    return answer


def invalid(target: Target, answer: requests.Response, *codes: str) -> None:
    """The request has something that cannot be: 400 with a code, unless the registry looks less closely."""
    if not (target.lacks_any(Lack.VALIDATION) and answer.status_code in (404, 500)):
        refused(answer, 400, *codes)


def told(answer: requests.Response) -> str:
    """The exchange, for the message of a failure. Credentials are left out."""
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "date"}
    return f"{answer.request.method} {answer.request.url}: {answer.status_code} {headers} {answer.text[:500]}"
