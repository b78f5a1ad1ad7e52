"""Files out of Debian packages, without installing them on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from minicloud import process
from minicloud.files import own_directory


class MissingLibrary(Exception):
    """A program in an image would not start."""


def unpack(names: Iterable[str], directory: Path) -> None:
    """Download packages through the machine's apt configuration and unpack them to `directory`/root."""
    shutil.rmtree(directory, ignore_errors=True)
    own_directory(directory, "root", 0o755)
    downloads = directory / "deb"
    # apt drops its privileges for downloading.
    own_directory(downloads, "_apt", 0o755)
    process.run(["apt-get", "-qq", "download", *names], cwd=downloads, env=process.caller_environment())
    for package in sorted(downloads.glob("*.deb")):
        process.run(["dpkg-deb", "--extract", package, directory / "root"])


def libraries(root: Path, programs: Sequence[str]) -> set[Path]:
    """The shared libraries below `root` that the programs load, as paths relative to it.

    The tree's own loader lists them, so this machine's libraries play no part.
    Raises MissingLibrary when one is not in the tree.
    """
    loader = next(root.glob("lib*/ld-linux-*.so.*"))
    search = ":".join(str(path) for path in (*root.glob("lib/*-linux-gnu"), *root.glob("usr/lib/*-linux-gnu")))
    found = {loader.relative_to(root)}
    for program in programs:
        listing = process.run([loader, "--library-path", search, "--list", root / program])
        for line in listing.splitlines():
            if "not found" in line:
                raise MissingLibrary(f"{program} needs {line.strip()}; add its package to the image's list")
            if "=>" in line:
                found.add(Path(line.split("=>")[1].split()[0]).relative_to(root))
    return found


def copy(root: Path, target: Path, paths: Iterable[Path | str]) -> None:
    """Copy files from one tree to the same place in another, following links."""
    for path in paths:
        destination = target / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, destination)
        destination.chmod((root / path).stat().st_mode & 0o755)
