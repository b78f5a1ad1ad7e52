"""`ps`, `start`, `stop`, `restart`, `rm`, `port` and `logs`: what a project's servers do."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable
from typing import Any

from cliff import lister

from nova_docker_compose import slots
from nova_docker_compose.cloud import of_project
from nova_docker_compose.commands.base import CloudCommand, ended, name_of, tell
from nova_docker_compose.commands.inside import add_log_options, follow, log_request, needs_channel
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.floating import forwarded_to, reached_at
from nova_docker_compose.following import Printer
from nova_docker_compose.servers import Servers

_COLUMNS = ("Name", "Image", "Service", "Status", "Health", "Exit Code", "Addresses", "Floating IPs", "ID")


class Ps(lister.Lister, CloudCommand):
    """List the servers of the project"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds which."""
        with warnings.catch_warnings():
            # cliff's own -f, for the format, gives way to the file's; it says so to everybody.
            warnings.simplefilter("ignore", UserWarning)
            parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("-a", "--all", action="store_true", help="Those too that do not run, and those of run")
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """cliff's own run of lists does not come by that of other commands."""
        return ended(lambda: lister.Lister.run(self, parsed_args))

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        """The columns and the servers."""
        _, servers = self.servers_of(parsed_args, oneoffs=parsed_args.all)
        forwarded = forwarded_to(self.api(), name_of(parsed_args))
        rows = [
            (
                each.name,
                each.image,
                each.service,
                each.status if each.task is None else f"{each.status} ({each.task})",
                each.health or "",
                "" if each.exit_code is None else each.exit_code,
                ", ".join(each.addresses),
                ", ".join([*each.floating, *(at for way in forwarded.get(each.id, []) for at in reached_at(*way))]),
                each.id,
            )
            for each in servers
            if parsed_args.all or each.status != "SHUTOFF"
        ]
        return _COLUMNS, rows


class Start(CloudCommand):
    """Start servers that are stopped"""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Starts them."""
        servers, chosen = self.servers_of(parsed_args)
        stopped = [each for each in chosen if each.status == "SHUTOFF"]
        for each in stopped:
            servers.start(each)
        servers.come_up(each.id for each in stopped)
        return 0


class Stop(CloudCommand):
    """Stop servers, which stay"""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Stops them."""
        servers, chosen = self.servers_of(parsed_args)
        running = [each for each in chosen if each.status == "ACTIVE"]
        for each in running:
            servers.stop(each)
        servers.wait([each.id for each in running], ("SHUTOFF",))
        return 0


class Restart(CloudCommand):
    """Restart servers"""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Restarts them."""
        servers, chosen = self.servers_of(parsed_args)
        for each in chosen:
            servers.restart(each)
        servers.come_up(each.id for each in chosen)
        return 0


class Rm(CloudCommand):
    """Remove servers that are stopped"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds those that run."""
        parser = super().get_parser(prog_name)
        parser.add_argument("-s", "--stop", action="store_true", help="Stop and remove those too that run")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Removes them with their places."""
        servers, chosen = self.servers_of(parsed_args, oneoffs=True)
        # What runs of `run` is another's.
        stop = parsed_args.stop
        going = [each for each in chosen if (stop and not each.oneoff) or each.status in ("SHUTOFF", "ERROR")]
        if not going:
            tell("no stopped servers")
        servers.delete(going)
        project = name_of(parsed_args)
        slots.remove(self.api(), project, {slots.slot_name(project, each.service, each.number) for each in going})
        return 0


class Port(CloudCommand):
    """Print where a port of a service is reached"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the port."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--protocol", choices=("tcp", "udp", "sctp"), default="tcp", help="Protocol (default tcp)")
        parser.add_argument("--index", metavar="<number>", type=int, default=1, help="Which replica (default 1)")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Prints ADDRESS:PORT."""
        if len(parsed_args.service) != 2 or not parsed_args.service[1].isdigit():
            raise ComposeError("say which: SERVICE PORT")
        name, port = parsed_args.service[0], int(parsed_args.service[1])
        project = name_of(parsed_args)
        api = self.api()
        servers = [each for each in Servers(api, project, tell).listed(name) if each.number == parsed_args.index]
        if not servers:
            raise ComposeError(f"no such service: {name} has no server {parsed_args.index}")
        for address, port_id in forwarded_to(api, project).get(servers[0].id, []):
            for protocol, published, target in address.forwarded(port_id):
                if (protocol, target) == (parsed_args.protocol, port):
                    print(f"{address.body['floating_ip_address']}:{published}", file=self.app.stdout)
                    return 0
        groups = [each for each in of_project(api, project, "security-groups") if each["name"] == f"{project}-{name}"]
        rules = [rule for group in groups for rule in group["security_group_rules"]]
        is_open = any((rule["protocol"], rule["port_range_min"]) == (parsed_args.protocol, port) for rule in rules)
        if not is_open or not servers[0].floating:
            raise ComposeError(f"no port {port}/{parsed_args.protocol} for {servers[0].name}")
        print(f"{servers[0].floating[0]}:{port}", file=self.app.stdout)
        return 0


class Logs(CloudCommand):
    """Print what servers have printed: Nova's console log"""

    # -f follows, as Compose has it.
    file_options = ("--file",)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds how much."""
        parser = super().get_parser(prog_name)
        parser.add_argument("-n", "--tail", metavar="<lines>", default="all", help="Only the last lines of each")
        parser.add_argument("--no-log-prefix", action="store_true", help="Without the servers' names")
        add_log_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Prints the logs, one server after the other; all at once when it follows them."""
        request = log_request(parsed_args)
        servers, chosen = self.servers_of(parsed_args)
        printer = Printer(self.app.stdout, [each.name for each in chosen], not parsed_args.no_log_prefix)
        if needs_channel(request):
            running = [(each.name, each.id) for each in chosen if each.status == "ACTIVE"]
            return follow(self.api(), running, request, printer)
        for each in chosen:
            for line in servers.log(each, request["tail"]).splitlines():
                printer.line(each.name, line)
        return 0
