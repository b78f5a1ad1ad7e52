"""`build` and `push`: images of services."""

from __future__ import annotations

import argparse

from nova_docker_compose.building import Builder, Pusher, buildable
from nova_docker_compose.commands.base import CloudCommand, ComposeCommand, project_of, tell
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import image_of


class Build(ComposeCommand):
    """Build the images of services here, with Docker or buildah"""

    auth_required = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds how."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--no-cache", action="store_true", help="Build every layer anew")
        parser.add_argument("--pull", action="store_true", help="Look for newer base images")
        parser.add_argument("service", metavar="<service>", nargs="*", help="Only these services")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Builds them."""
        project = project_of(parsed_args, parsed_args.service)
        names = buildable(project, project.named(parsed_args.service))
        if not names:
            tell("no service says how to build its image")
            return 0
        builder = Builder(tell)
        for name in names:
            builder.build(project, name, parsed_args.no_cache, parsed_args.pull)
        return 0


class Push(CloudCommand):
    """Bring images from here into Glance, or to the registry that their names begin with"""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Pushes what is built, or what is named."""
        project = project_of(parsed_args, parsed_args.service)
        names = project.named(parsed_args.service)
        names = names if parsed_args.service else buildable(project, names)
        pusher, problems = Pusher(self.api(), Builder(tell), tell), []
        for reference in dict.fromkeys(image_of(project, name) for name in names):
            try:
                pusher.push(reference)
            except ComposeError as error:
                problems.append(str(error))
        if problems:
            raise ComposeError("\n".join(problems))
        return 0
