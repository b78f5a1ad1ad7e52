"""`up`, `scale`, `down` and `pull`: what makes and takes away."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from nova_docker_compose.choosing import Choices
from nova_docker_compose.commands.base import CloudCommand, name_of, project_of, said_of, tell
from nova_docker_compose.down import down
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.progress import Progress
from nova_docker_compose.project import image_of
from nova_docker_compose.up import Options, Up

_SCALE = re.compile(r"([^=]+)==?([0-9]{1,4})")


def _scales(words: Sequence[str]) -> dict[str, int]:
    made = {}
    for word in words:
        match = _SCALE.fullmatch(word)
        if match is None:
            raise ComposeError(f"{word!r} must be SERVICE=NUMBER")
        made[match[1]] = int(match[2])
    return made


class UpCommand(CloudCommand):
    """Make and start what the files describe, and change what they describe otherwise"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds how far it goes."""
        parser = super().get_parser(prog_name)
        parser.add_argument("-d", "--detach", action="store_true", help="Accepted; it never stays attached")
        parser.add_argument(
            "--scale", metavar="<service>=<number>", action="append", default=[], help="Number of servers"
        )
        parser.add_argument("--build", action="store_true", help="Build and push images too that are there already")
        parser.add_argument("--no-deps", action="store_true", help="Leave the services alone that these need")
        parser.add_argument("--remove-orphans", action="store_true", help="Remove servers of services that are gone")
        parser.add_argument("--wait", action="store_true", help="Wait until what has a health check is healthy")
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--force-recreate", action="store_true", help="Rebuild servers that have not changed, too")
        how.add_argument("--no-recreate", action="store_true", help="Leave servers as they are that have changed")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Brings the project up."""
        project = project_of(parsed_args, parsed_args.service)
        scale = _scales(parsed_args.scale)
        project.named(scale)
        choose = project.named if parsed_args.no_deps else project.with_needed
        options = Options(
            services=choose(parsed_args.service) if parsed_args.service else (),
            scale=scale,
            force_recreate=parsed_args.force_recreate,
            no_recreate=parsed_args.no_recreate,
            remove_orphans=parsed_args.remove_orphans,
            wait=parsed_args.wait,
            build=parsed_args.build,
        )
        Up(self.api(), project, options, Progress(sys.stderr)).run()
        return 0


class Scale(CloudCommand):
    """Set the number of a service's servers: SERVICE=NUMBER, or as Fig had it SERVICE==NUMBER"""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Scales the services."""
        scale = _scales(parsed_args.service)
        if not scale:
            raise ComposeError("say which: SERVICE=NUMBER")
        project = project_of(parsed_args, list(scale))
        options = Options(services=project.named(scale), scale=scale, no_recreate=True)
        Up(self.api(), project, options, Progress(sys.stderr)).run()
        return 0


class Down(CloudCommand):
    """Stop and remove everything of the project"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the volumes."""
        parser = super().get_parser(prog_name)
        parser.add_argument("-v", "--volumes", action="store_true", help="Remove the project's named volumes too")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Takes the project down."""
        if parsed_args.service:
            raise ComposeError("down is for the whole project; rm --stop removes services")
        # openstack takes -v for its own, wherever it stands.
        words = list(getattr(self.app, "command_options", None) or [])
        after = words[words.index("down") :] if "down" in words else []
        volumes = parsed_args.volumes or "-v" in after
        project = name_of(parsed_args)
        if not down(self.api(), project, volumes, Progress(sys.stderr), said_of(parsed_args)):
            tell(f"warning: there is nothing of the project {project}")
        return 0


class Pull(CloudCommand):
    """Look for the images of services in Glance, from where hosts fetch them"""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Tells which image each service gets."""
        project = project_of(parsed_args, parsed_args.service)
        choices, problems = Choices(self.api()), []
        for name in project.named(parsed_args.service):
            try:
                image = choices.image(image_of(project, name))
            except ComposeError as error:
                problems.append(f"services.{name}: {error}")
            else:
                print(f"{name}: {image['name']} ({image['id']})", file=self.app.stdout)
        if problems:
            raise ComposeError("\n".join(problems))
        return 0
