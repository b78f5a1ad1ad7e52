"""Files out of Debian packages, without installing them on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from minicloud import process
from minicloud.files import own_directory


class MissingLibrary(Exception):
    """A program in an image would not start."""


def library_packages(programs: Iterable[str]) -> list[str]:
    """The packages of libraries that packages of programs need. apt knows: their names differ between releases."""
    without = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    command = ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in without), *programs]
    # A line that is not indented is a package, or a virtual one in angle brackets.
    names = (line for line in process.run(command).splitlines() if line.startswith(("lib", "zlib")))
    return sorted({name for name in names if not name.endswith(("-bin", "-perl", ":i386"))})


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
            name, arrow, place = line.strip().partition(" => ")
            if arrow:
                path = Path(place.split()[0])
                # The loader takes this machine's, too.
                if not path.is_relative_to(root):
                    raise MissingLibrary(f"{program} needs {name}; its package is none of those that were unpacked")
                found.add(path.relative_to(root))
    return found


def copy(root: Path, target: Path, paths: Iterable[Path | str]) -> None:
    """Copy files from one tree to the same place in another, following links."""
    for path in paths:
        destination = target / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, destination)
        destination.chmod((root / path).stat().st_mode & 0o755)
