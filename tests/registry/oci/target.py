"""The registry under test, and what it may legitimately do otherwise."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path


class Lack(enum.Enum):
    """What a registry does not have. A test then asks for the documented other answer; it is not left out."""

    REFERRERS = "no referrers API: 404, and no OCI-Subject; clients keep the fallback tag themselves"
    CHUNK_ORDER = "the Content-Range of a chunk is not looked at"
    SINGLE_POST = "POST with a digest opens a session, as if there were no digest"
    SHA512 = "a blob that was pushed by its sha512 digest is known by its sha256 digest only"
    TAG_ORDER = "the list of tags is always given whole, and in no order"
    TAG_DELETE = "a tag is not deleted: 405 or 400"
    BLOB_DELETE = "a blob that an image holds is not deleted: 405"
    STAGED_BY_REPOSITORY = "a blob that was uploaded lately is known in all repositories of its project"
    VALIDATION = "what is no name, tag, digest or manifest has no route (404, another body), or fails (500 UNKNOWN)"
    SESSION_REPOSITORY = "an upload can be addressed through another repository"


@dataclasses.dataclass(frozen=True)
class Target:
    """How one registry is reached."""

    name: str
    url: str
    """Scheme, host and port."""
    namespace: str
    """Repositories of the tests are made below it."""
    user: str
    password: str
    ca: Path | None = None
    """Certificate authority of an https address."""
    lacks: frozenset[Lack] = frozenset()

    def lacks_any(self, *lacks: Lack) -> bool:
        return not self.lacks.isdisjoint(lacks)

    @property
    def host(self) -> str:
        """`HOST:PORT`, as an image's name begins."""
        return self.url.partition("://")[2]

    @property
    def tls(self) -> bool:
        return self.url.startswith("https:")
