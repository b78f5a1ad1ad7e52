"""`convert`: the project in another language."""

from __future__ import annotations

import argparse

import yaml

from nova_docker_compose.commands.base import CloudCommand, project_of, tell
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.heat import Template


class Convert(CloudCommand):
    """Print a Heat template of the same application"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the language."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--format", choices=("heat",), required=True, help="heat: a template of Heat (HOT)")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Prints the template."""
        if parsed_args.service:
            raise ComposeError("convert is for the whole project")
        template = Template(self.api(), project_of(parsed_args), tell).make()
        print(yaml.dump(template, Dumper=_Dumper, sort_keys=False, width=120).rstrip("\n"), file=self.app.stdout)
        return 0


class _Dumper(yaml.SafeDumper):
    """Without anchors, and with texts of several lines as they are."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
