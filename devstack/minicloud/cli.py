"""The subcommands of `mini`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from minicloud import options as options_module
from minicloud import packages, process
from minicloud import passwords as passwords_module
from minicloud.config import clients
from minicloud.layout import DEFAULT_STATE_DIR, BadStateDir, Layout, url
from minicloud.tasks import Progress, TaskFailed

_DESCRIPTION = """\
A single-node OpenStack 2026.2 cloud whose compute service is nova-docker-agent: servers are containers.

  mini up              install, configure and start everything; run it again after an interruption,
                       a reboot or a change of the agent's source: it does only what is missing
  mini demo            launch a server through the public API and look at it from all sides
  mini status          what runs and answers; exit status 1 when something is down
  mini check           whether the host is fit for the agent: `nova-docker-agent check` of this cloud
  mini logs SERVICE    the log of one service (names as in `status`); -f follows it
  mini openrc [USER]   shell exports for demo (the default) or admin:  eval "$(devstack/mini openrc)"
  mini down            stop what `up` started, remove its bridges, namespaces and addresses
  mini down --wipe     and all of its state

The dashboard is Horizon at http://127.0.0.1:8080; user and password are printed by `up` and `demo`.
"""

_EPILOG = """\
Everything is kept below one directory (--state-dir) and listens on 127.0.0.1 or on the cloud's own bridges.
Later runs of `up` remember --with, --fake-compute, --no-agent, --door, --network and --release.
More: devstack/README.md
"""


def _extras(text: str) -> tuple[str, ...]:
    names = tuple(sorted({name.strip() for name in text.split(",") if name.strip() not in ("", "none")}))
    unknown = [name for name in names if name not in options_module.EXTRAS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)}: not among {', '.join(options_module.EXTRAS)} (or `none`)"
        )
    return names


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    # No default here: the subcommand's would hide an option given before it.
    common.add_argument("--state-dir", default=argparse.SUPPRESS, metavar="D", help=argparse.SUPPRESS)
    parser = argparse.ArgumentParser(
        prog="mini",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--state-dir",
        default=str(DEFAULT_STATE_DIR),
        metavar="D",
        help="where all state of the cloud is kept (default: %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", metavar="SUBCOMMAND")
    up = commands.add_parser("up", parents=[common], help="start the cloud, from whatever state it is in")
    up.add_argument(
        "--with",
        dest="extras",
        type=_extras,
        default=None,
        metavar="LIST",
        help="what else to bring up, separated by commas: heat, cinder, debian (an image); or none",
    )
    up.add_argument(
        "--fake-compute",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="also start stock nova-compute with Nova's fake driver as host HOSTNAME-fake, to compare with",
    )
    up.add_argument(
        "--agent",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="build and start nova-docker-agent (the default)",
    )
    up.add_argument(
        "--door",
        choices=options_module.DOORS,
        default=None,
        help="how Nova reaches the agent: amqp, the agent is the compute service (the default); grpc, a stock"
        " nova-compute drives it with the virt driver of python-shim/. A change keeps servers that run",
    )
    up.add_argument(
        "--network",
        choices=options_module.NETWORKS,
        default=None,
        help="what wires the ports of servers: ovs, Neutron's Open vSwitch agent (the default); or ovn, OVN's"
        " controller. A cloud keeps what it was made with",
    )
    up.add_argument(
        "--release",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="build the agent for release, for benchmarks; this takes longer",
    )
    down = commands.add_parser("down", parents=[common], help="stop the cloud")
    down.add_argument("--wipe", action="store_true", help="also remove all state")
    down.add_argument("--keep-cache", action="store_true", help="with --wipe: keep downloads and built images")
    commands.add_parser("status", parents=[common], help="show what runs and answers")
    commands.add_parser("check", parents=[common], help="check whether the host is fit for the agent")
    logs = commands.add_parser("logs", parents=[common], help="show the log of a service")
    logs.add_argument("service", metavar="SERVICE", help="a name as in `mini status`")
    logs.add_argument("-f", "--follow", action="store_true", help="follow the log")
    logs.add_argument("-n", "--lines", type=int, default=200, help="number of last lines (default: 200)")
    openrc = commands.add_parser("openrc", parents=[common], help="print shell exports for a user")
    openrc.add_argument("user", nargs="?", default="demo", choices=sorted(clients.USERS))
    demo = commands.add_parser("demo", parents=[common], help="launch a server and look at it")
    demo.add_argument("--new", action="store_true", help="launch another server even if an earlier demo's still runs")
    return parser


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.command is None:
        parser.print_help()
        return 0
    commands: dict[str, Callable[[Layout, argparse.Namespace], int]] = {
        "up": _up,
        "down": _down,
        "status": _status,
        "check": _check,
        "logs": _logs,
        "openrc": _openrc,
        "demo": _demo,
    }
    try:
        return commands[arguments.command](Layout.at(arguments.state_dir), arguments)
    except KeyboardInterrupt:
        print(f"mini: interrupted; `mini {arguments.command}` goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except (BadStateDir, NoCloud, TaskFailed, process.CommandFailed) as error:
        print(f"mini: {error}", file=sys.stderr)
        return 1


class NoCloud(Exception):
    """The state directory holds no cloud."""


def _require_cloud(layout: Layout) -> None:
    if not layout.passwords_file.exists():
        raise NoCloud(f"there is no cloud in {layout.root}; make one with `mini up`")


def _up(layout: Layout, arguments: argparse.Namespace) -> int:
    from minicloud import check, host, up

    progress = Progress()
    try:
        for warning in host.check(layout):
            progress.say(f"warning: {warning}")
        with up.exclusive(layout):
            before = options_module.load(layout.options_file)
            options = options_module.change(
                before,
                extras=arguments.extras,
                fake_compute=arguments.fake_compute,
                agent=arguments.agent,
                door=arguments.door,
                network=arguments.network,
                release=arguments.release,
            )
            host.check_network(layout, before, options)
            up.up(layout, options, progress)
    except (host.UnfitHost, up.Busy) as error:
        print(f"mini: {error}", file=sys.stderr)
        return 1
    for trouble in check.troubles(layout, options) if options.agent else []:
        progress.say(trouble)
    memory = host.memory_of(layout)
    secrets = passwords_module.load(layout.passwords_file)
    program = _program()
    progress.say(f"the cloud is up; its processes take {memory / 1024**3:.1f} GiB of memory")
    print(
        f"\n  Dashboard     {url('horizon')}/   user demo, password {secrets['demo']}"
        f"\n                {' ' * 24}   user admin, password {secrets['admin']}"
        f'\n  Command line  eval "$({program} openrc)"     then, for example: openstack server list'
        f"{_registry_line(options)}"
        f"\n  Next          {program} demo\n"
    )
    return 0


def _registry_line(options: options_module.Options) -> str:
    """How to log in to the registry, which is there with the agent."""
    if not options.agent:
        return ""
    address = url("registry").partition("://")[2]
    return f"\n  Registry      docker login -u demo {address}     then, for example: docker push {address}/demo/mine"


def _program() -> str:
    """The command with which the user can call this again."""
    path = os.path.relpath(Path(__file__).resolve().parent.parent / "mini")
    return path if "/" in path else f"./{path}"


def _down(layout: Layout, arguments: argparse.Namespace) -> int:
    from minicloud import teardown, up

    progress = Progress()
    if not layout.root.exists():
        print(f"mini: {layout.root} does not exist")
        return 0
    try:
        with up.exclusive(layout):
            packages.restore_policy()
            teardown.stop(layout, progress)
            if arguments.wipe:
                teardown.wipe(layout, arguments.keep_cache)
                progress.say(f"removed {layout.root}" + (" but its cache" if arguments.keep_cache else ""))
    except (up.Busy, teardown.NotOurs) as error:
        print(f"mini: {error}", file=sys.stderr)
        return 1
    return 0


def _status(layout: Layout, arguments: argparse.Namespace) -> int:
    from minicloud import status

    _require_cloud(layout)
    return status.report(layout)


def _check(layout: Layout, arguments: argparse.Namespace) -> int:
    from minicloud import check

    _require_cloud(layout)
    options = options_module.load(layout.options_file)
    if not options.agent:
        raise NoCloud("this cloud has no agent; `mini up --agent` starts it")
    check.become(layout, options)
    return 1


def _logs(layout: Layout, arguments: argparse.Namespace) -> int:
    path = layout.log / f"{arguments.service}.log"
    if "/" in arguments.service or not path.exists():
        known = sorted(entry.stem for entry in layout.log.glob("*.log"))
        print(f"mini: no log of {arguments.service}; there are: {', '.join(known) or 'none'}", file=sys.stderr)
        return 1
    follow = ["-F"] if arguments.follow else []
    os.execv("/usr/bin/tail", ["tail", "-n", str(arguments.lines), *follow, str(path)])  # noqa: S606


def _openrc(layout: Layout, arguments: argparse.Namespace) -> int:
    _require_cloud(layout)
    sys.stdout.write(clients.openrc(layout, passwords_module.load(layout.passwords_file), arguments.user))
    return 0


def _demo(layout: Layout, arguments: argparse.Namespace) -> int:
    _require_cloud(layout)
    package = Path(__file__).resolve().parent.parent
    environment = process.clean_environment(PYTHONPATH=str(package), MINI=_program())
    python = str(layout.python)
    new = ["--new"] if arguments.new else []
    os.execve(python, [python, "-B", "-m", "minicloud.demo", str(layout.root), *new], environment)  # noqa: S606
