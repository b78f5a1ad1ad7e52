"""`exec`, `attach`, `top` and `events`: what goes through the channel to a server's host; the same for any server."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Sequence
from typing import Any

from cliff import command

from nova_docker_compose.attached import attach, is_terminal, window
from nova_docker_compose.channel import Channel, url
from nova_docker_compose.cloud import Api, Server, find_server
from nova_docker_compose.commands.base import CloudCommand, ComposeCommand, ended, name_of, tell
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.following import Follower, Printer, Target, since
from nova_docker_compose.servers import Servers

_INTERRUPTED = 130


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Those that need the channel."""
    parser.add_argument("-f", "--follow", action="store_true", help="Go on with what is written from now on")
    parser.add_argument(
        "--since", metavar="<time>", help="From a time on (2026-01-01T00:00:00Z), or how long ago (10m)"
    )
    parser.add_argument("-t", "--timestamps", action="store_true", help="Each line begins with its time")


def log_request(parsed_args: argparse.Namespace) -> dict[str, Any]:
    """What the options of `logs` ask for."""
    if parsed_args.tail != "all" and not parsed_args.tail.isdigit():
        raise ComposeError("--tail needs a number, or all")
    return {
        "op": "logs",
        "tail": None if parsed_args.tail == "all" else int(parsed_args.tail),
        "since": since(parsed_args.since),
        "timestamps": parsed_args.timestamps,
        "follow": parsed_args.follow,
    }


def needs_channel(request: dict[str, Any]) -> bool:
    """Whether Nova's console log does not do."""
    return bool(request["follow"] or request["timestamps"] or request["since"] is not None)


def follow(api: Api, targets: Sequence[Target], request: dict[str, Any], printer: Printer) -> int:
    """Prints logs until all have ended. Nova's console log stands in where it can."""
    poll = not request["timestamps"] and request["since"] is None
    try:
        Follower(api, lambda target, line: printer.line(target[0], line), tell).follow(targets, request, poll)
    except KeyboardInterrupt:
        # So it is ended.
        return _INTERRUPTED
    return 0


def add_exec_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--detach", action="store_true", help="Begin it, and let it run on")
    parser.add_argument("-T", "--no-tty", action="store_true", help="No terminal, also where the user has one")
    parser.add_argument("-u", "--user", metavar="<user>", help="Run it as this user")
    parser.add_argument(
        "-e",
        "--env",
        metavar="<name>[=<value>]",
        action="append",
        default=[],
        help="Variable of its environment; without a value, yours; repeat",
    )
    parser.add_argument("-w", "--workdir", metavar="<directory>", help="Run it there")


_IN_BACKGROUND = """\
unset NOVA_CONSOLE
command -v -- "$1" >/dev/null || { echo "$1: there is no such command" >&2; exit 127; }
command -v setsid >/dev/null || { echo "the image has no setsid" >&2; exit 127; }
said=$(setsid sh -c 'echo begun && exec "$@" </dev/null >/dev/null 2>&1' sh "$@" &)
[ "$said" = begun ]
"""
"""Begins a command that stays when the channel ends: it has a session of its own, and not the mark of those that the
agent ends. The inner shell says when it has them; the outer one reads until the command has taken its place."""


def _exec(api: Api, server: Target, parsed_args: argparse.Namespace, words: Sequence[str]) -> int:
    """Runs a command in a server; its exit code. Detached it only begins, and that is 0."""
    if not words:
        raise ComposeError("say which command")
    tty = not parsed_args.no_tty and not parsed_args.detach and is_terminal()
    request: dict[str, Any] = {
        "op": "exec",
        "argv": ["sh", "-c", _IN_BACKGROUND, "sh", *words] if parsed_args.detach else list(words),
        "user": parsed_args.user,
        "env": variables(parsed_args.env),
        "working_dir": parsed_args.workdir,
        "tty": tty,
        "size": window() if tty else None,
        "stdin": not parsed_args.detach,
    }
    return _joined(api, server, request, tty)


def variables(words: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE of the command line; a NAME alone is the user's own variable, if there is one."""
    split = [word.partition("=") for word in words]
    return {name: value if sign else os.environ[name] for name, sign, value in split if sign or name in os.environ}


def _joined(api: Api, server: Target, request: dict[str, Any], tty: bool) -> int:
    """Joins the user's terminal with what is asked for; the exit code."""
    name, server_id = server
    try:
        with Channel(url(api, server_id), api.verify(), request) as channel:
            return attach(channel, request["stdin"], tty)
    except ComposeError as error:
        raise ComposeError(f"{name}: {error}") from error
    except KeyboardInterrupt:
        return _INTERRUPTED


def words_behind(argv: Sequence[str], name: str, parsed: Sequence[str]) -> list[str]:
    """The words of a command, behind the name of where it runs.

    openstack takes its own options (-v, -q, --debug) wherever they stand, so what was parsed may lack some.
    """
    found = list(parsed)
    for at, word in enumerate(argv):
        behind = list(argv[at + 1 :])
        rest = iter(behind)
        if word == name and all(each in rest for each in parsed):
            found = behind
    return found[1:] if found[:1] == ["--"] else found


class _ServiceCommand(ComposeCommand):
    """A command on one server of a service."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--index", metavar="<number>", type=int, default=1, help="Which replica (default 1)")
        return parser

    def server_of(self, parsed_args: argparse.Namespace) -> tuple[Api, Server]:
        """The server that is meant."""
        api = Api(self.app.client_manager.sdk_connection)
        service, number = parsed_args.service, parsed_args.index
        found = [each for each in Servers(api, name_of(parsed_args), tell).listed(service) if each.number == number]
        if not found:
            raise ComposeError(f"no such service: {service} has no server {number}")
        if found[0].status != "ACTIVE":
            raise ComposeError(f"{found[0].name}: it is {found[0].status}; start it first")
        return api, found[0]


class Exec(_ServiceCommand):
    """Run a command in a server of a service, and end with its exit code"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds what runs and how."""
        parser = super().get_parser(prog_name)
        add_exec_options(parser)
        parser.add_argument("service", metavar="<service>", help="Where")
        parser.add_argument(
            "words", metavar="<command>", nargs=argparse.REMAINDER, help="The command, with its options"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Runs it."""
        argv = getattr(self.app, "command_options", None) or []
        words = words_behind(argv, parsed_args.service, parsed_args.words)
        api, server = self.server_of(parsed_args)
        return _exec(api, (server.name, server.id), parsed_args, words)


class Attach(_ServiceCommand):
    """Show what a server's first process writes, pass lines on to it, and end with its exit code"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds which."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--no-stdin", action="store_true", help="Type nothing")
        parser.add_argument("service", metavar="<service>", help="Which service")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Attaches. Ctrl-C ends it, and leaves the process alone."""
        api, server = self.server_of(parsed_args)
        request = {"op": "attach", "stdin": not parsed_args.no_stdin, "size": window()}
        return _joined(api, (server.name, server.id), request, tty=False)


class Top(CloudCommand):
    """List the processes of servers"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the form."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--format", choices=("table", "json"), default="table", help="Form (default table)")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Asks all at the same time, and prints one server after the other."""
        _, chosen = self.servers_of(parsed_args, oneoffs=True)
        running = [(each.name, each.id) for each in chosen if each.status == "ACTIVE"]
        # A long line comes in parts.
        answers = {server_id: "" for _, server_id in running}

        def take(server: Target, part: str) -> None:
            answers[server[1]] += part

        try:
            Follower(self.api(), take, tell).follow(running, {"op": "top"}, poll=False)
        except KeyboardInterrupt:
            return _INTERRUPTED
        finally:
            self._print([(name, answers[server_id]) for name, server_id in running], parsed_args.format)
        return 0

    def _print(self, answers: list[tuple[str, str]], form: str) -> None:
        listed = []
        for name, answer in answers:
            # Of one that has failed there is nothing, or a part.
            with contextlib.suppress(ValueError):
                listed.append({"server": name, **json.loads(answer)})
        if form == "json":
            print(json.dumps(listed, indent=2), file=self.app.stdout)
            return
        for each in listed:
            print(each["server"], *_table([each["titles"], *each["processes"]]), "", sep="\n", file=self.app.stdout)


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


class Events(CloudCommand):
    """Tell what happens to servers, until they are gone or Ctrl-C ends it"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the form."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--json", action="store_true", help="A line of JSON for each")
        parser.add_argument("--since", metavar="<time>", help="From a time on, or how long ago (10m)")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Tells them as they come."""
        _, chosen = self.servers_of(parsed_args)
        services = {each.name: each.service for each in chosen}
        printer = Printer(self.app.stdout, list(services), prefix=not parsed_args.json)

        def show(server: Target, line: str) -> None:
            name, event = server[0], json.loads(line)
            if parsed_args.json:
                printer.line(name, json.dumps({"server": name, "service": services[name], **event}))
            else:
                code = f" exit_code={event['exit_code']}" if "exit_code" in event else ""
                printer.line(name, f"{event['time']} {event['event']}{code}")

        running = [(each.name, each.id) for each in chosen if each.status == "ACTIVE"]
        try:
            request = {"op": "events", "since": since(parsed_args.since)}
            Follower(self.api(), show, tell).follow(running, request, poll=False)
        except KeyboardInterrupt:
            return _INTERRUPTED
        return 0


class _ServerCommand(command.Command):
    """A command on any server of nova-docker-agent, of Compose or not."""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Ends as the commands of Compose do."""
        return ended(lambda: super(_ServerCommand, self).run(parsed_args))

    def server_of(self, parsed_args: argparse.Namespace) -> tuple[Api, Target]:
        """The server that is meant."""
        api = Api(self.app.client_manager.sdk_connection)
        found = find_server(api, parsed_args.server)
        return api, (str(found["name"]), str(found["id"]))


class ServerExec(_ServerCommand):
    """Run a command in a server that is a container, and end with its exit code"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds what runs and how."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        add_exec_options(parser)
        parser.add_argument("server", metavar="<server>", help="Name or id")
        parser.add_argument(
            "words", metavar="<command>", nargs=argparse.REMAINDER, help="The command, with its options"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Runs it."""
        argv = getattr(self.app, "command_options", None) or []
        words = words_behind(argv, parsed_args.server, parsed_args.words)
        api, server = self.server_of(parsed_args)
        return _exec(api, server, parsed_args, words)


class ServerLogs(_ServerCommand):
    """Print what a server that is a container has written, and go on with it"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds how much."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("-n", "--tail", metavar="<lines>", default="all", help="Only the last lines")
        add_log_options(parser)
        parser.add_argument("server", metavar="<server>", help="Name or id")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Prints it."""
        request = log_request(parsed_args)
        api, server = self.server_of(parsed_args)
        return follow(api, [server], request, Printer(self.app.stdout, [server[0]], prefix=False))
