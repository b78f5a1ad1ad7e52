"""Whether a clock can tell hidden images from missing ones: refusals of the cloud's registry, timed in pairs.

Each line has the median for something that exists but is hidden from the user, the median for something that does not
exist, and their ratio. The two requests of a pair follow each other, in changing order.

    STATE/venv/bin/python tests/bench/registry_refusals.py [--count 100] [--state-dir STATE]
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cloud"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "registry"))

import requests
from harness.lab import Lab
from oci import cloud, content
from oci.checks import ok
from oci.client import Registry
from oci.people import People, Someone
from oci.target import Target

Ask = Callable[[], requests.Response]


def seconds(ask: Ask, *statuses: int) -> float:
    begin = time.perf_counter()
    answer = ask()
    took = time.perf_counter() - begin
    ok(answer, *statuses)
    return took


def compare(what: str, hidden: Ask, absent: Ask, count: int, *statuses: int) -> None:
    """One line of the table. The first pair is not counted."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(count + 1):
        for is_hidden in (True, False) if number % 2 else (False, True):
            took = seconds(hidden if is_hidden else absent, *statuses)
            if number:
                times[is_hidden].append(took * 1000)
    there, nowhere = statistics.median(times[True]), statistics.median(times[False])
    print(f"{what:42} {there:8.2f} ms {nowhere:8.2f} ms {there / nowhere:6.2f} x", flush=True)


def measure(target: Target, stranger: Someone, project_id: str, count: int) -> None:
    owner, client = Registry(target), stranger.at(target)
    stem = f"refused-{secrets.token_hex(4)}"
    image = content.image(stem)
    owner.push(f"{target.namespace}/{stem}", image, "v1")
    there, nowhere = f"{project_id}/{stem}", f"{project_id}/absent-{stem}"
    elsewhere = f"{secrets.token_hex(16)}/{stem}"
    layer = image.blobs[-1].digest
    mine = f"{stranger.name}/mine"
    print(f"{'':42} {'hidden':>11} {'absent':>11} {'ratio':>8}")
    try:
        for what, of in (
            ("manifest by tag", lambda name: client.manifest(name, "v1")),
            ("manifest by digest", lambda name: client.manifest(name, image.digest)),
            ("blob", lambda name: client.blob(name, layer)),
            ("tags", client.tags),
        ):
            compare(what, partial(of, there), partial(of, nowhere), count, 404)
            compare(f"{what}, absent project", partial(of, there), partial(of, elsewhere), count, 404)
        compare(
            "mount",
            lambda: client.begin(mine, sources=(there,), mount=layer, from_=there),
            lambda: client.begin(mine, sources=(nowhere,), mount=layer, from_=nowhere),
            count,
            202,
        )
        compare(
            "token for a project",
            lambda: client.ask_token(f"repository:{there}:pull"),
            lambda: client.ask_token(f"repository:{elsewhere}:pull"),
            count,
            200,
        )
        # Each is one request to Keystone, which takes longer for a wrong password, because it hashes it.
        compare(
            "login: wrong password, no such user",
            lambda: Registry(target, stranger.name, secrets.token_hex(8)).ask_token(),
            lambda: Registry(target, secrets.token_hex(8), secrets.token_hex(8)).ask_token(),
            min(count, 20),
            401,
        )
    finally:
        owner.take_away()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="pairs of requests for each line")
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/nova-docker-mini"))
    options = parser.parse_args()
    lab = Lab(options.state_dir)
    people = People(lab.connect("admin"))
    try:
        stranger = people.make(f"refused-{secrets.token_hex(4)}")
        project_id = lab.connect("demo").current_project_id
        measure(cloud.target(options.state_dir), stranger, project_id, options.count)
    finally:
        people.take_away()


if __name__ == "__main__":
    main()
