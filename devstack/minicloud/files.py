"""Write files so that an interruption leaves the old content or the new, never half of it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def write_file(path: Path, text: str, mode: int = 0o644, owner: str = "root") -> bool:
    """Make `path` hold `text`; returns whether it changed. The file never has a wider mode than `mode`."""
    try:
        user = pwd.getpwnam(owner)
        uid, gid = user.pw_uid, user.pw_gid
    except KeyError as error:
        raise LookupError(f"cannot give {path} to user {owner}: there is no such user") from error
    data = text.encode()
    changed = not path.exists() or path.read_bytes() != data
    if changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o700)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        _set_owner(temporary, uid, gid, mode)
        temporary.replace(path)
    _set_owner(path, uid, gid, mode)
    return changed


def own_directory(path: Path, owner: str, mode: int = 0o700) -> None:
    """Make a directory that belongs to `owner`."""
    user = pwd.getpwnam(owner)
    path.mkdir(parents=True, exist_ok=True)
    _set_owner(path, user.pw_uid, user.pw_gid, mode)


def _set_owner(path: Path, uid: int, gid: int, mode: int) -> None:
    status = path.stat()
    if (status.st_uid, status.st_gid) != (uid, gid) and os.geteuid() == 0:
        os.chown(path, uid, gid)
    if status.st_mode & 0o7777 != mode:
        path.chmod(mode)


class Marker:
    """A file that says that a step is done, and for which input."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / name

    def value(self) -> str | None:
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return None

    def set(self, value: str) -> None:
        write_file(self.path, value)

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
