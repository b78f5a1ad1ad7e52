"""`run`: one command in a server of its own."""

from __future__ import annotations

import argparse

from nova_docker_compose.attached import is_terminal
from nova_docker_compose.cloud import Api
from nova_docker_compose.commands.base import ComposeCommand, project_of, tell
from nova_docker_compose.commands.inside import add_exec_options, variables, words_behind
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.oneoff import Command, OneOff

_INTERRUPTED = 130


class Run(ComposeCommand):
    """Run one command in a new server of a service, show what it writes, and end with its exit code"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds what runs and how."""
        parser = super().get_parser(prog_name)
        add_exec_options(parser)
        parser.add_argument("--rm", action="store_true", help="Remove the server when the command has ended")
        parser.add_argument("--name", metavar="<name>", help="Name of the server")
        parser.add_argument("--entrypoint", metavar="<words>", help="In the place of the image's entry point")
        parser.add_argument("--no-deps", action="store_true", help="Leave the services alone that this one needs")
        parser.add_argument("service", metavar="<service>", help="Which service")
        parser.add_argument(
            "words",
            metavar="<command>",
            nargs=argparse.REMAINDER,
            help="The command, with its options; or the service's",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Runs it."""
        if parsed_args.rm and parsed_args.detach:
            raise ComposeError(
                "--rm cannot be had with -d: nobody is there to remove the server when its command has ended"
            )
        project = project_of(parsed_args, [parsed_args.service])
        project.named([parsed_args.service])
        argv = getattr(self.app, "command_options", None) or []
        command = Command(
            words=words_behind(argv, parsed_args.service, parsed_args.words),
            entrypoint=parsed_args.entrypoint,
            environment=variables(parsed_args.env),
            user=parsed_args.user,
            working_dir=parsed_args.workdir,
            name=parsed_args.name,
            tty=not parsed_args.no_tty and not parsed_args.detach and is_terminal(),
            detach=parsed_args.detach,
            remove=parsed_args.rm,
            with_needed=not parsed_args.no_deps,
        )
        oneoff = OneOff(Api(self.app.client_manager.sdk_connection), project, parsed_args.service, command, tell)
        try:
            code = oneoff.run()
        except KeyboardInterrupt:
            return _INTERRUPTED
        if parsed_args.detach:
            print(parsed_args.name or oneoff.slot, file=self.app.stdout)
        return code
