"""What all commands share: their options, the project, and how they end."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from cliff import command

from nova_docker_compose.cloud import Api, Server
from nova_docker_compose.errors import ComposeError, NoFile
from nova_docker_compose.loader import Request, load, name_without_files
from nova_docker_compose.progress import Progress
from nova_docker_compose.project import Project, Service
from nova_docker_compose.servers import Servers


class ComposeCommand(command.Command):
    """A command on a project. Subclasses have `compose`, whose result is the exit code or what is listed."""

    file_options: tuple[str, ...] = ("-f", "--file")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options that say which project. -f is a file, as Compose has it, not the format of a list."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        group = parser.add_argument_group("project")
        group.add_argument(
            *self.file_options, metavar="<file>", action="append", default=[], help="Compose file; repeat"
        )
        group.add_argument("-p", "--project-name", metavar="<name>", help="Name of the project")
        group.add_argument("--project-directory", metavar="<directory>", help="Where relative paths begin")
        group.add_argument(
            "--env-file", metavar="<file>", action="append", default=[], help="File of variables; repeat"
        )
        group.add_argument("--profile", metavar="<name>", action="append", default=[], help="Profile to enable; repeat")
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Ends with Compose's exit codes, and with its mistakes line by line."""
        return ended(lambda: super(ComposeCommand, self).run(parsed_args))


def ended(do: Callable[[], int]) -> int:
    """The exit code of what is done; mistakes are told."""
    try:
        return do()
    except ComposeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        # All that is begun can be gone on with.
        print("interrupted; run the command again to go on", file=sys.stderr)
        return 130


def request_of(parsed_args: argparse.Namespace, services: Sequence[str] = ()) -> Request:
    """What the options ask for."""
    return Request(
        files=parsed_args.file,
        project_name=parsed_args.project_name,
        directory=parsed_args.project_directory,
        env_files=parsed_args.env_file,
        profiles=parsed_args.profile,
        services=services,
    )


def project_of(parsed_args: argparse.Namespace, services: Sequence[str] = ()) -> Project:
    """The project of the files; tells its warnings."""
    try:
        project = load(request_of(parsed_args, services))
    except NoFile:
        raise
    except ComposeError as error:
        error.exit_code = 15
        raise
    warn(project.warnings)
    return project


def said_of(parsed_args: argparse.Namespace) -> Callable[[], Mapping[str, Service]]:
    """What the files say of services, whatever their profiles, for commands that can do without.

    These commands take servers of a service whose profile is off too.
    """
    request = replace(request_of(parsed_args), profiles=["*"])
    return functools.cache(lambda: load(request).services)


def name_of(parsed_args: argparse.Namespace) -> str:
    """The project's name, for commands whose knowledge is all in the cloud."""
    return name_without_files(request_of(parsed_args))


def warn(warnings: Sequence[str]) -> None:
    """Tells warnings, each once."""
    for warning in dict.fromkeys(warnings):
        print(f"warning: {warning}", file=sys.stderr)


def tell(line: str) -> None:
    """What goes on, beside what is printed."""
    print(line, file=sys.stderr, flush=True)


class CloudCommand(ComposeCommand):
    """A command on what a project has in the cloud. It needs no file."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the services."""
        parser = super().get_parser(prog_name)
        parser.add_argument("service", metavar="<service>", nargs="*", help="Only these services")
        return parser

    def api(self) -> Api:
        """The cloud, as the user who has logged in."""
        return Api(self.app.client_manager.sdk_connection)

    def servers_of(self, parsed_args: argparse.Namespace, oneoffs: bool = False) -> tuple[Servers, list[Server]]:
        """The servers of the project, or of the services that are named; with `oneoffs` those of `run` too.

        Raises ComposeError if a service has none.
        """
        servers = Servers(self.api(), name_of(parsed_args), Progress(sys.stderr), said_of(parsed_args))
        there = servers.listed(oneoffs=oneoffs)
        chosen = [each for each in there if not parsed_args.service or each.service in parsed_args.service]
        for name in parsed_args.service:
            if name not in {each.service for each in there}:
                raise ComposeError(f"no such service: {name} has no server")
        return servers, chosen
