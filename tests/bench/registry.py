"""The cloud's registry beside Debian's docker-registry: pushes and pulls by dockerd, and requests for manifests.

Both run on this machine, in turn, without TLS. Ours keeps its images in the cloud's Glance, the other on the disk.
Before a cold pull the benchmark drops the kernel's page cache and starts our registry anew, with an empty cache and the
user logged in (the other asks for no password). The cost of a login has a line of its own.

    STATE/venv/bin/python tests/bench/registry.py [--sizes 200,1000] [--count 5] [--state-dir STATE]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cloud"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "registry"))

from harness import images
from harness.lab import Lab
from oci import cloud, commands, content, pictures, process, reference
from oci.checks import ok
from oci.client import Registry
from oci.commands import Command
from oci.target import Target

_LAYERS = 4
_CLIENTS = 50
_SECONDS = 5.0


@dataclasses.dataclass
class Side:
    """One of the two registries."""

    name: str
    target: Target
    cool: Callable[[], None]
    """Empties its memory and its cache."""


@dataclasses.dataclass
class Bench:
    lab: Lab
    work: Path
    ours: Side
    theirs: Side
    own: process.Own
    docker: Command
    count: int
    rows: list[tuple[str, str, str, str]] = dataclasses.field(default_factory=list)

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.ours, self.theirs

    def row(self, what: str, ours: float, theirs: float, unit: str, *, more_is_better: bool = False) -> None:
        """One line of the table. The ratio is our speed divided by the other's."""
        ratio = ours / theirs if more_is_better else theirs / ours
        self.rows.append((what, f"{ours:.2f} {unit}", f"{theirs:.2f} {unit}", f"{ratio:.2f} x"))
        print(f"  {what}: {ours:.2f} {unit}, docker-registry {theirs:.2f} {unit}, {ratio:.2f} x", flush=True)

    def only(self, what: str, value: str) -> None:
        self.rows.append((what, value, "", ""))
        print(f"  {what}: {value}", flush=True)

    # ------------------------------------------------------------ images of a size

    def images_of(self, megabytes: int) -> None:
        """Push and pull of an image of this size, in million bytes."""
        context = pictures.build_context(self.work / f"context-{megabytes}", "bench")
        _pad(context, megabytes)
        local = f"bench:{megabytes}"
        self.docker("build", "-t", local, context)
        for side in self.sides:
            self.docker("tag", local, self._name(side, megabytes))
        pushes: dict[str, list[float]] = {side.name: [] for side in self.sides}
        for side in self.sides:
            pushes[side.name].append(_seconds(lambda side=side: self.docker("push", self._name(side, megabytes))))
        self.row(f"push {megabytes} MB", pushes["ours"][0], pushes["theirs"][0], "s")
        self._forget()
        cold = self._pulls(megabytes, lambda side: (side.cool(), _drop_page_cache()))
        # By now each registry has the layers at hand. Cold pulls between warm ones would slow the warm ones down,
        # because their writes are still on the way to the disk.
        warm = self._pulls(megabytes, lambda side: None)
        for what, times in (("cold", cold), ("warm", warm)):
            medians = [statistics.median(times[side.name]) for side in self.sides]
            self.row(f"pull {megabytes} MB, {what}", medians[0], medians[1], "s")

    def _pulls(self, megabytes: int, prepare: Callable[[Side], object]) -> dict[str, list[float]]:
        """The times of pulls, each side in turn."""
        times: dict[str, list[float]] = {side.name: [] for side in self.sides}
        for number in range(self.count):
            # Each side comes first equally often: the machine may be slower or faster a little later.
            for side in self.sides if number % 2 == 0 else reversed(self.sides):
                prepare(side)
                name = self._name(side, megabytes)
                times[side.name].append(_seconds(lambda name=name: self.docker("pull", name)))
                self._forget()
        return times

    def _name(self, side: Side, megabytes: int) -> str:
        return f"{side.target.host}/{side.target.namespace}/bench:{megabytes}"

    def _forget(self) -> None:
        self.docker("system", "prune", "--all", "--force")
        # The writes of one pull must not slow the next one down.
        subprocess.run(["sync"], check=True)

    # ------------------------------------------------------------ what only ours has

    def first_manifest(self, megabytes: int) -> None:
        """The time to the manifest of a `docker save` image that nobody has read yet."""
        archive = self.work / "saved.tar"
        context = pictures.build_context(self.work / "saved", "saved")
        _pad(context, megabytes)
        self.docker("build", "-t", "saved:latest", context)
        self.docker("save", "-o", archive, "saved:latest")
        self._forget()
        connection = self.lab.connect("demo")
        with archive.open("rb") as stream:
            image_id = images.upload(connection, "bench-saved", stream)  # type: ignore[arg-type]
        archive.unlink()
        try:
            # The upload's writes are still on the way to the disk.
            subprocess.run(["sync"], check=True)
            for how, stem in (("name", "bench-saved"), ("id", image_id)):
                name = f"{self.ours.target.namespace}/{stem}"
                times = []
                for _ in range(self.count):
                    self.ours.cool()
                    client = Registry(self.ours.target)
                    client.token(f"repository:{name}:pull,push,delete")
                    took = _seconds(lambda client=client, name=name: ok(client.manifest(name, "latest"), 200))
                    times.append(took * 1000)
                told = f"{statistics.median(times):.0f} ms, at most {max(times):.0f} ms"
                self.only(f"first manifest of a saved image of {megabytes} MB, by its {how}", told)
            self._crowd(client, name, image_id)
        finally:
            connection.image.delete_image(image_id)

    def _crowd(self, client: Registry, name: str, image_id: str) -> None:
        """Many clients pull the same layer, which is in no cache."""
        layers = ok(client.manifest(name, "latest"), 200).json()["layers"]
        layer = max(layers, key=lambda layer: layer["size"])
        before = cloud.reads(self.lab.log("glance"), image_id)

        def pull(_: int) -> int:
            path = f"/v2/{name}/blobs/{layer['digest']}"
            with client.call("GET", path, repositories=(name,), stream=True) as answer:
                return sum(len(part) for part in answer.iter_content(1_000_000))

        with concurrent.futures.ThreadPoolExecutor(_CLIENTS) as pool:
            begin = time.monotonic()
            sizes = set(pool.map(pull, range(_CLIENTS)))
            took = time.monotonic() - begin
        if sizes != {layer["size"]}:
            raise SystemExit(f"clients got {sizes} of {layer['size']} bytes")
        reads = cloud.reads(self.lab.log("glance"), image_id) - before
        what = f"{_CLIENTS} clients, one cold layer of {layer['size'] / 1e6:.0f} MB"
        self.only(what, f"{reads} reads from Glance, {took:.1f} s")

    def first_token(self) -> None:
        """The time to a token for a user who is new to the registry: Keystone is slow with passwords."""
        self.own.stop()
        self.own.start()
        client = Registry(self.ours.target)
        took = _seconds(lambda: client.token(f"repository:{self.ours.target.namespace}/bench:pull"))
        self.only("first token, with the login at Keystone", f"{took * 1000:.0f} ms")

    # ------------------------------------------------------------ small requests

    def requests(self) -> None:
        """Manifests per second, over kept connections."""
        for method in ("HEAD", "GET"):
            rates = []
            for side in self.sides:
                client = Registry(side.target)
                name = f"{side.target.namespace}/bench-small"
                image = content.image("bench")
                client.push(name, image, "v1")
                headers = client.authorization(f"repository:{name}:pull")
                rates.append(_rate(side.target, method, f"/v2/{name}/manifests/v1", headers))
                client.take_away()
            self.row(f"{method} manifest", rates[0], rates[1], "/s", more_is_better=True)

    def table(self) -> str:
        head = ("", "ours", "docker-registry", "ratio")
        lines = [head, ("---",) * 4, *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def clear(self) -> None:
        client = Registry(self.ours.target)
        name = f"{self.ours.target.namespace}/bench"
        for tag in client.tags(name).json().get("tags") or []:
            client.delete_manifest(name, tag)


def _pad(context: Path, megabytes: int) -> None:
    """Layers of noise, so that compression changes nothing."""
    with Path("/dev/urandom").open("rb") as noise, (context / "Dockerfile").open("a") as dockerfile:
        for number in range(_LAYERS):
            with (context / f"noise-{number}").open("wb") as target:
                for _ in range(megabytes // _LAYERS):
                    target.write(noise.read(1_000_000))
            dockerfile.write(f"COPY noise-{number} /noise-{number}\n")


def _seconds(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def _drop_page_cache() -> None:
    subprocess.run(["sync"], check=True)
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("1\n")


def _rate(target: Target, method: str, path: str, headers: dict[str, str], connections: int = 8) -> float:
    """Answers per second to one repeated request, on several connections."""
    address = urllib.parse.urlsplit(target.url)
    fields = {"Host": target.host, "Accept": content.ANY_MANIFEST, **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    request = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode()

    def run(_: int) -> int:
        answers = 0
        with socket.create_connection((address.hostname, address.port)) as plain, plain.makefile("rb") as stream:
            end = time.monotonic() + _SECONDS
            while time.monotonic() < end:
                plain.sendall(request)
                status = stream.readline()
                if b" 200 " not in status:
                    raise SystemExit(f"{method} {path}: {status!r}")
                length = 0
                while (line := stream.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                if method == "GET":
                    stream.read(length)
                answers += 1
        return answers

    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        return sum(pool.map(run, range(connections))) / _SECONDS


@contextlib.contextmanager
def _bench(state: Path, count: int) -> Iterator[Bench]:
    plain = {"tls_cert_file": None, "tls_key_file": None, "max_staged_gb_per_project": 20, "cache_size_gb": 10}
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp")))
        for name in ("own", "reference"):
            (work / name).mkdir()
        own = stack.enter_context(process.running(state, work / "own", plain))
        other = stack.enter_context(reference.running(work / "reference", password=False))
        engine = stack.enter_context(commands.dockerd())
        docker = commands.docker(engine, work / "credentials")

        def login() -> None:
            docker("login", "-u", own.target.user, "--password-stdin", own.target.host, stdin=own.target.password)

        login()

        def cool() -> None:
            own.stop()
            shutil.rmtree(work / "own" / "state" / "cache", ignore_errors=True)
            own.start()
            login()

        ours = Side("ours", own.target, cool)
        theirs = Side("theirs", other, lambda: None)
        bench = Bench(Lab(state), work, ours, theirs, own, docker, count)
        try:
            yield bench
        finally:
            bench.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="200,1000", help="sizes of the images, in million bytes")
    parser.add_argument("--count", type=int, default=5, help="pulls of each kind; the median counts")
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/nova-docker-mini"))
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    with _bench(arguments.state_dir, arguments.count) as bench:
        for size in sizes:
            bench.images_of(size)
        bench.first_manifest(max(sizes))
        bench.first_token()
        bench.only("most memory of our process", f"{bench.own.most_resident() / 1024**2:.0f} MiB")
        bench.requests()
        print("\n" + bench.table())


if __name__ == "__main__":
    main()
