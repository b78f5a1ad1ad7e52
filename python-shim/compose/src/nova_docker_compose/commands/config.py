"""`config`: the project in the canonical form."""

from __future__ import annotations

import argparse

from nova_docker_compose.commands.base import ComposeCommand, project_of, tell, warn
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.project import Project
from nova_docker_compose.translation import translate


class Config(ComposeCommand):
    """Check a Compose file and print it in the canonical form"""

    auth_required = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds what is printed."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--format", choices=("yaml", "json"), default="yaml", help="Form (default yaml)")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--services", action="store_true", help="Only the services' names")
        what.add_argument("--volumes", action="store_true", help="Only the volumes' names")
        what.add_argument("--images", action="store_true", help="Only the images' names")
        parser.add_argument("service", metavar="<service>", nargs="*", help="Only these services, and what they need")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Prints the project."""
        project = project_of(parsed_args, parsed_args.service)
        if parsed_args.service:
            chosen = project.with_needed(parsed_args.service)
            project.services = {name: project.services[name] for name in chosen}
        if parsed_args.services:
            lines = project.order()
        elif parsed_args.volumes:
            lines = list(project.volumes)
        elif parsed_args.images:
            lines = sorted({str(each["image"]) for each in project.services.values() if "image" in each})
        elif self.app.options.verbose_level == 0:
            # --quiet is an option of all commands, which cliff takes for itself.
            lines = []
        else:
            lines = [(project.as_json() if parsed_args.format == "json" else project.as_yaml()).rstrip("\n")]
        for line in lines:
            print(line, file=self.app.stdout)
        _foresee(project)
        return 0


def _foresee(project: Project) -> None:
    """Tells what `up` would say to the same files, as far as no cloud is needed to know."""
    try:
        warn(translate(project).warnings)
    except ComposeError as error:
        for line in str(error).splitlines():
            tell(f"up will refuse it: {line}")
