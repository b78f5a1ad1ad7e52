"""Logs and events of several servers at once, line by line, with their names."""

from __future__ import annotations

import codecs
import contextlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TextIO

from nova_docker_compose.channel import OUTPUT, Channel, NoChannel, url
from nova_docker_compose.cloud import Api, CloudError
from nova_docker_compose.errors import ComposeError

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
POLL = 2.0
"""Seconds between two looks at a console log; Nova tells nobody when it grows."""
_AT_ONCE = 8
"""Requests to Nova at the same time."""
_OVERLAP = 4096
_LONGEST_LINE = 64 * 1024

Target = tuple[str, str]
"""Name and id of a server."""


class Printer:
    """Prints whole lines of several servers; each has a colour of its own on a terminal."""

    def __init__(self, output: TextIO, names: Sequence[str], prefix: bool = True) -> None:
        self._output = output
        self._lock = threading.Lock()
        width = max((len(name) for name in names), default=0)
        is_coloured = prefix and output.isatty()
        self._prefixes = {}
        for number, name in enumerate(names):
            text = f"{name:<{width}}  | " if prefix else ""
            colour = _COLOURS[number % len(_COLOURS)]
            self._prefixes[name] = f"\x1b[{colour}m{text}\x1b[0m" if is_coloured else text

    def line(self, name: str, text: str) -> None:
        """Prints a line of a server."""
        with self._lock:
            print(f"{self._prefixes[name]}{text}", file=self._output, flush=True)


class Lines:
    """Makes lines of what comes in pieces."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        # Output and errors may each end within a character.
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}
        self._rest: dict[int, str] = {}

    def add(self, kind: int, data: bytes) -> None:
        """What was written next."""
        decoder = self._decoders.setdefault(kind, codecs.getincrementaldecoder("utf-8")("replace"))
        *lines, rest = (self._rest.get(kind, "") + decoder.decode(data)).split("\n")
        if len(rest) > _LONGEST_LINE:
            lines.append(rest)
            rest = ""
        self._rest[kind] = rest
        for line in lines:
            self._take(line.removesuffix("\r"))

    def end(self) -> None:
        """Hands over what has no line end."""
        for rest in self._rest.values():
            if rest:
                self._take(rest)
        self._rest.clear()


class Follower:
    """Follows servers until all have ended, or the user stops it."""

    def __init__(self, api: Api, show: Callable[[Target, str], None], tell: Callable[[str], None]) -> None:
        """`show` gets a server and a line."""
        self._api = api
        self._show = show
        self._tell = tell
        self._channels: list[Channel] = []
        self._failures: list[str] = []
        self._stopped = threading.Event()
        self._asking = threading.BoundedSemaphore(_AT_ONCE)

    def follow(self, targets: Sequence[Target], request: dict[str, Any], poll: bool) -> None:
        """Sends each the request and prints what comes. With `poll` the console log stands in for a channel.

        Raises ComposeError with what failed, when all have ended.
        """
        threads = [
            threading.Thread(target=self._guard, args=(target, request, poll), daemon=True) for target in targets
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            self._stopped.set()
            for channel in list(self._channels):
                channel.close()
        if self._failures:
            raise ComposeError("\n".join(self._failures))

    def _guard(self, target: Target, request: dict[str, Any], poll: bool) -> None:
        try:
            self._follow(target, request, poll)
        except ComposeError as error:
            if not self._stopped.is_set():
                self._failures.append(f"{target[0]}: {error}")

    def _follow(self, target: Target, request: dict[str, Any], poll: bool) -> None:
        name, server_id = target
        lines = Lines(lambda line: self._show(target, line))
        try:
            with self._asking:
                address = url(self._api, server_id)
            channel = Channel(address, self._api.verify(), request)
        except NoChannel as error:
            if not poll:
                raise
            self._tell(f"warning: {name}: {error}; its console log is looked at every {POLL:.0f} seconds instead")
            self._poll(server_id, request, lines)
            return
        with channel:
            self._channels.append(channel)
            try:
                channel.run(lines.add)
            finally:
                lines.end()

    def _poll(self, server_id: str, request: dict[str, Any], lines: Lines) -> None:
        tail = request.get("tail")
        arguments = {} if tail is None else {"length": tail}
        seen = ""
        while True:
            with self._asking:
                # In this order: what it wrote before its end is not missed.
                runs = self._runs(server_id)
                now = self._log(server_id, arguments)
            lines.add(OUTPUT, news(seen, now).encode())
            seen, arguments = now, {}
            if not runs or self._stopped.wait(POLL):
                lines.end()
                return

    def _log(self, server_id: str, arguments: dict[str, Any]) -> str:
        answer = self._api.request(
            "compute", "POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": arguments}
        )
        return str(answer.get("output") or "")

    def _runs(self, server_id: str) -> bool:
        try:
            return bool(self._api.request("compute", "GET", f"/servers/{server_id}")["server"]["status"] == "ACTIVE")
        except CloudError as error:
            if error.status == 404:
                return False
            raise


def news(seen: str, now: str) -> str:
    """What a log has more than before. Nova gives the end of it only, which may have moved on."""
    if not seen:
        return now
    mark = seen[-_OVERLAP:]
    at = now.rfind(mark)
    return now[at + len(mark) :] if at >= 0 else now


def since(text: str | None) -> str | None:
    """Seconds since 1970, of a time or of how long ago: 90s, 10m, 3h, 1h30m, 2026-01-01T00:00:00Z, 1700000000."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text):
        return text
    ago = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if ago is not None and text:
        hours, minutes, seconds = (int(part or 0) for part in ago.groups())
        return str(max(0, int(time.time()) - hours * 3600 - minutes * 60 - seconds))
    with contextlib.suppress(ValueError):
        return f"{datetime.fromisoformat(text).timestamp():.6f}"
    raise ComposeError(f"--since {text}: it must be a time (2026-01-01T00:00:00Z), or how long ago (1h30m)")
