"""The processes of the cloud: what each runs, as which user, and which files' changes restart it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from minicloud import ovn
from minicloud.config.ini import Ini, Section
from minicloud.layout import (
    ADDRESS,
    ADDRESS_FOR_SERVERS,
    EXTRA_SPEC_VALIDATORS,
    HEAT_PLUGIN,
    LOCK_FILE,
    OPTIONAL_PORTS,
    PORTS,
    Layout,
)
from minicloud.options import Options
from minicloud.process import SYSTEM_PATH

STATE_VARIABLE = "NOVA_DOCKER_MINI"
"""A variable of every process of a cloud. It holds the state directory, so `up` and `down` recognise leftovers."""


@dataclasses.dataclass(frozen=True)
class Program:
    """One entry of supervisord's configuration."""

    name: str
    command: tuple[str, ...]
    level: int
    """Programs stop from the highest level down: computes, agents, networks, APIs, then the services below them."""
    files: tuple[Path, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    user: str = "root"
    port: str | None = None
    """The name in layout.PORTS of the HTTP port that answers while the program works."""
    stop_seconds: int = 20
    stop_signal: str = "TERM"
    stop_group: bool = False


_DHCP_WATCH = Path(__file__).with_name("dhcp_watch.py")
_CHUNKED_WSGI = Path(__file__).with_name("chunked_wsgi.py")

DEAF_SECONDS = 3
"""For what does not hear SIGINT; SIGTERM would have it wait for a minute."""
INFRASTRUCTURE, CONTROL, NETWORK, AGENT, COMPUTE = range(5)


@dataclasses.dataclass(frozen=True)
class _Wsgi:
    """A service that is a WSGI application under uWSGI."""

    name: str
    module: str
    threads: int
    config: tuple[str, ...]
    """Its configuration files under etc/."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extra: Section = dataclasses.field(default_factory=dict)
    loaded: tuple[Path, ...] = ()
    """What it loads of this repository. Its source, because what is installed may come later than the configuration."""


_EXTRA_APIS = {
    "heat": {"heat-api": "heat.wsgi.api", "heat-api-cfn": "heat.wsgi.cfn"},
    "cinder": {"cinder-api": "cinder.wsgi.api"},
}


def _wsgi_services(layout: Layout, options: Options) -> list[_Wsgi]:
    etc = str(layout.etc)
    # The paste file comes first: Nova reads it by position, and otherwise finds no application.
    nova = {
        "OS_NOVA_CONFIG_DIR": etc,
        "OS_NOVA_CONFIG_FILES": f"{layout.venv}/etc/nova/api-paste.ini;nova.conf",
    }
    validators = EXTRA_SPEC_VALIDATORS if options.agent else ()
    services = [
        _Wsgi(
            "keystone",
            "keystone.wsgi.api",
            4,
            ("keystone.conf",),
            {"OS_KEYSTONE_CONFIG_FILES": f"{etc}/keystone.conf"},
        ),
        _Wsgi("placement", "placement.wsgi.api", 4, ("placement.conf",), {"OS_PLACEMENT_CONFIG_DIR": etc}),
        _Wsgi("glance", "glance.wsgi.api", 6, ("glance-api.conf",), {"OS_GLANCE_CONFIG_DIR": etc}),
        _Wsgi("nova-api", "nova.wsgi.osapi_compute", 6, ("nova.conf",), nova, loaded=validators),
        _Wsgi("nova-metadata", "nova.wsgi.metadata", 2, ("nova.conf",), nova),
        _Wsgi(
            "neutron-api",
            "neutron.wsgi.api",
            4,
            ("neutron.conf", "ml2_conf.ini"),
            {
                "OS_NEUTRON_CONFIG_DIR": etc,
                "OS_NEUTRON_CONFIG_FILES": "neutron.conf;ml2_conf.ini",
                "TMPDIR": str(layout.neutron_starts),
            },
            # Neutron keeps the time of a start in a file that is named after the parent process. By it the OVN driver
            # tells its workers from those of an earlier start, so each start needs a parent of its own; and only a
            # worker that loads Neutron itself is its child.
            {"master": True, "lazy-apps": True, "no-orphans": True},
        ),
        _Wsgi(
            "horizon",
            "openstack_dashboard.wsgi",
            4,
            ("horizon_settings.py",),
            {"DJANGO_SETTINGS_MODULE": "openstack_dashboard.settings"},
            {"static-map": f"/static={layout.root}/horizon/static"},
        ),
    ]
    services += [
        _Wsgi(name, module, 2, (f"{extra}.conf",), extra={"pyargv": f"--config-file {etc}/{extra}.conf"})
        for extra in options.services
        for name, module in _EXTRA_APIS[extra].items()
    ]
    return services


def _port(name: str) -> int:
    return (PORTS | OPTIONAL_PORTS["heat"] | OPTIONAL_PORTS["cinder"])[name]


def uwsgi_files(layout: Layout, options: Options) -> dict[str, Ini]:
    """uWSGI's configuration, one file for each API, by file name under etc/."""
    return {f"uwsgi-{service.name}.ini": _uwsgi(layout, service) for service in _wsgi_services(layout, options)}


def _listening(service: _Wsgi) -> Section:
    """Where a service listens: servers signal wait conditions to Heat, and all else is the host's alone."""
    port = _port(service.name)
    if service.name not in _EXTRA_APIS["heat"]:
        return {"http-socket": f"{ADDRESS}:{port}"}
    # The bridge may come later than the service.
    return {"http-socket": (f"{ADDRESS}:{port}", f"{ADDRESS_FOR_SERVERS}:{port}"), "freebind": True}


def _uwsgi(layout: Layout, service: _Wsgi) -> Ini:
    return {
        "uwsgi": {
            **_listening(service),
            # Glance reads chunked bodies itself, piece by piece.
            **(
                {"module": f"{service.module}:application"}
                if service.name == "glance"
                else {"wsgi-file": str(_CHUNKED_WSGI), "env": f"MINI_WSGI_MODULE={service.module}"}
            ),
            "virtualenv": str(layout.venv),
            "processes": 1,
            "threads": service.threads,
            "enable-threads": True,
            "need-app": True,
            "die-on-term": True,
            "thunder-lock": True,
            "buffer-size": 65535,
            # How long a client may pause within an upload (the default is 4 s).
            "socket-timeout": 120,
            # Images are uploaded with chunked transfer; one chunk may be this long (the default is 1 MiB).
            "chunked-input-limit": 16 * 1024 * 1024,
            # A client that keeps its connection would hold one of the few threads.
            "add-header": "Connection: close",
            "log-date": True,
            "log-format": '%(addr) [%(ctime)] "%(method) %(uri)" %(status) %(rsize)B %(msecs)ms '
            'ua="%(uagent)" rid=%(var.HTTP_X_OPENSTACK_REQUEST_ID)',
            **service.extra,
        }
    }


def rabbitmq_environment(layout: Layout) -> dict[str, str]:
    """Makes RabbitMQ's scripts use this cloud's node and nothing of the host."""
    home = f"{layout.root}/rabbitmq"
    return {
        "HOME": home,
        "RABBITMQ_NODENAME": "nova-docker-mini@localhost",
        "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
        "RABBITMQ_LOG_BASE": f"{home}/log",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
        "RABBITMQ_CONFIG_FILE": f"{layout.etc}/rabbitmq.conf",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_DIST_PORT": str(PORTS["erlang distribution"]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +SDio 2 +A 4 +sbwt none +sbwtdcpu none +sbwtdio none"
        " -kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_ADDRESS": ADDRESS,
        "ERL_EPMD_PORT": str(PORTS["epmd"]),
    }


def ovs_environment(layout: Layout) -> dict[str, str]:
    """Where ovs-vsctl, ovs-ofctl and ovs-appctl find this cloud's Open vSwitch."""
    return {"OVS_RUNDIR": f"{layout.run}/ovs", "OVS_LOGDIR": str(layout.log), "OVS_DBDIR": f"{layout.root}/ovs"}


def _infrastructure(layout: Layout) -> list[Program]:
    run, etc = layout.run, layout.etc
    return [
        Program(
            "mariadb",
            ("/usr/sbin/mariadbd", f"--defaults-file={etc}/my.cnf"),
            INFRASTRUCTURE,
            (etc / "my.cnf",),
            user="mysql",
            stop_seconds=60,
        ),
        # Erlang would start it as a daemon that nobody ends. With its own port it belongs to this cloud alone.
        Program(
            "epmd",
            ("/usr/bin/epmd", "-address", ADDRESS, "-port", str(PORTS["epmd"])),
            INFRASTRUCTURE,
            user="rabbitmq",
        ),
        Program(
            "rabbitmq",
            ("/usr/lib/rabbitmq/bin/rabbitmq-server",),
            INFRASTRUCTURE,
            (etc / "rabbitmq.conf",),
            rabbitmq_environment(layout),
            user="rabbitmq",
            stop_seconds=40,
        ),
        Program(
            "memcached",
            ("/usr/bin/memcached", "-l", ADDRESS, "-p", str(PORTS["memcached"]), "-m", "64", "-t", "1"),
            INFRASTRUCTURE,
            user="nobody",
        ),
        Program(
            "ovsdb",
            (
                "/usr/sbin/ovsdb-server",
                f"{layout.root}/ovs/conf.db",
                f"--remote=punix:{layout.ovs_db_socket}",
                f"--remote=ptcp:{PORTS['ovsdb']}:{ADDRESS}",
                f"--pidfile={run}/ovs/ovsdb-server.pid",
                "--no-chdir",
                "-vconsole:warn",
            ),
            INFRASTRUCTURE,
            environment=ovs_environment(layout),
        ),
        Program(
            "ovs-vswitchd",
            (
                "/usr/sbin/ovs-vswitchd",
                f"unix:{layout.ovs_db_socket}",
                f"--pidfile={run}/ovs/ovs-vswitchd.pid",
                "--no-chdir",
                "-vconsole:warn",
            ),
            INFRASTRUCTURE,
            environment=ovs_environment(layout),
        ),
        Program(
            "containerd",
            ("/usr/bin/containerd", "--config", f"{etc}/containerd.toml"),
            INFRASTRUCTURE,
            (etc / "containerd.toml",),
        ),
        Program(
            "dockerd",
            ("/usr/sbin/dockerd", "--config-file", f"{etc}/docker-daemon.json"),
            # Containers end with it; Open vSwitch goes later.
            NETWORK,
            (etc / "docker-daemon.json",),
            stop_seconds=40,
        ),
    ]


def _daemon(layout: Layout, name: str, script: str, level: int, *config: str, **more: object) -> Program:
    files = tuple(layout.etc / name for name in config)
    command = [f"{layout.venv}/bin/{script}"]
    for path in files:
        command += ["--config-file", str(path)]
    # At SIGTERM oslo.service waits for up to a minute for work that a cloud at its end needs no more.
    signal = "TERM" if level == COMPUTE else "INT"
    return Program(name, tuple(command), level, files, stop_signal=signal, **more)  # type: ignore[arg-type]


def _ovs(layout: Layout) -> list[Program]:
    """Neutron's agents that wire ports into Open vSwitch, and the worker that they talk to."""

    def daemon(name: str, script: str, level: int, *config: str, **more: object) -> Program:
        return _daemon(layout, name, script, level, *config, **more)

    ovs = ovs_environment(layout)
    return [
        daemon("neutron-rpc", "neutron-rpc-server", CONTROL, "neutron.conf", "ml2_conf.ini"),
        daemon(
            "neutron-ovs",
            "neutron-openvswitch-agent",
            NETWORK,
            "neutron.conf",
            "ovs_agent.ini",
            environment=ovs,
            stop_seconds=DEAF_SECONDS,
        ),
        daemon("neutron-dhcp", "neutron-dhcp-agent", NETWORK, "neutron.conf", "dhcp_agent.ini", environment=ovs),
        daemon("neutron-l3", "neutron-l3-agent", NETWORK, "neutron.conf", "l3_agent.ini", environment=ovs),
        daemon(
            "neutron-metadata",
            "neutron-metadata-agent",
            NETWORK,
            "neutron.conf",
            "metadata_agent.ini",
            stop_seconds=DEAF_SECONDS,
        ),
        Program(
            "neutron-dhcp-watch",
            (str(layout.python), "-BP", str(_DHCP_WATCH), str(layout.root)),
            NETWORK,
            (_DHCP_WATCH,),
        ),
    ]


def _ovn(layout: Layout) -> list[Program]:
    """OVN's databases and daemons, and what Neutron runs beside them."""
    run = f"{layout.run}/ovn"
    surroundings = {**ovs_environment(layout), "OVN_RUNDIR": run, "OVN_LOGDIR": str(layout.log)}
    quiet = ("--no-chdir", "-vconsole:warn")

    def database(name: str) -> Program:
        command = (
            "/usr/sbin/ovsdb-server",
            str(ovn.database(layout, name)),
            f"--remote=punix:{ovn.socket(layout, name)}",
            f"--pidfile={run}/ovn-{name}.pid",
            f"--unixctl={run}/ovn-{name}.ctl",
            *quiet,
        )
        return Program(f"ovn-{name}", command, INFRASTRUCTURE, environment=surroundings)

    northd = ("/usr/bin/ovn-northd", *(f"--ovn{name}-db={ovn.connection(layout, name)}" for name in ovn.DATABASES))
    controller = ("/usr/bin/ovn-controller", f"unix:{layout.ovs_db_socket}")
    maintenance = ("neutron-ovn-maintenance", "neutron-ovn-maintenance-worker")
    return [
        *(database(name) for name in ovn.DATABASES),
        Program("ovn-northd", (*northd, f"--pidfile={run}/ovn-northd.pid", *quiet), CONTROL, environment=surroundings),
        Program(
            "ovn-controller",
            (*controller, f"--pidfile={run}/ovn-controller.pid", *quiet),
            NETWORK,
            environment=surroundings,
        ),
        _daemon(layout, *maintenance, CONTROL, "neutron.conf", "ml2_conf.ini"),
        _daemon(
            layout,
            "neutron-ovn-metadata",
            "neutron-ovn-metadata-agent",
            NETWORK,
            "neutron.conf",
            "ovn_metadata_agent.ini",
            environment=surroundings,
            stop_seconds=DEAF_SECONDS,
        ),
    ]


def _daemons(layout: Layout, options: Options) -> list[Program]:
    def daemon(name: str, script: str, level: int, *config: str, **more: object) -> Program:
        return _daemon(layout, name, script, level, *config, **more)

    programs = [
        daemon("nova-conductor", "nova-conductor", CONTROL, "nova.conf"),
        daemon("nova-scheduler", "nova-scheduler", CONTROL, "nova.conf"),
        daemon("nova-serialproxy", "nova-serialproxy", CONTROL, "nova.conf"),
        daemon("neutron-periodic", "neutron-periodic-workers", CONTROL, "neutron.conf", "ml2_conf.ini"),
    ]
    programs += _ovn(layout) if options.network == "ovn" else _ovs(layout)
    if "heat" in options.extras:
        engine = daemon("heat-engine", "heat-engine", CONTROL, "heat.conf")
        # What of the plugin is installed.
        programs.append(dataclasses.replace(engine, files=(*engine.files, layout.markers / HEAT_PLUGIN)))
    if "cinder" in options.extras:
        programs += [daemon(name, name, CONTROL, "cinder.conf") for name in ("cinder-scheduler", "cinder-volume")]
    if options.fake_compute:
        programs.append(daemon("nova-compute-fake", "nova-compute", COMPUTE, "nova-compute-fake.conf"))
        programs.append(
            Program(
                "neutron-ovs-fake",
                (
                    str(layout.python),
                    "-BP",
                    str(Path(__file__).with_name("standin_agent.py")),
                    "--config-file",
                    f"{layout.etc}/neutron-fake.conf",
                ),
                COMPUTE,
                (layout.etc / "neutron-fake.conf", Path(__file__).with_name("standin_agent.py")),
            )
        )
    return programs


def _agent(layout: Layout, options: Options) -> list[Program]:
    config = layout.etc / "nova-docker-agent.conf"
    agent = Program(
        "nova-docker-agent",
        (
            f"{layout.bin}/nova-docker-agent",
            "run" if options.door == "amqp" else "serve-driver",
            "--config-file",
            str(config),
        ),
        # nova-compute stops before it: it would wait for an agent that does not answer.
        AGENT,
        (config, layout.bin / "nova-docker-agent"),
        ovs_environment(layout),
        stop_seconds=60,
    )
    config = layout.etc / "registry.conf"
    registry = Program(
        "registry",
        (f"{layout.bin}/nova-docker-registry", "--config-file", str(config)),
        CONTROL,
        (config, layout.bin / "nova-docker-registry", layout.registry_certificate),
        port="registry",
    )
    if options.door == "amqp":
        return [registry, agent]
    config = layout.etc / "nova-compute.conf"
    compute = Program(
        "nova-compute",
        (f"{layout.venv}/bin/nova-compute", "--config-file", str(config)),
        COMPUTE,
        (config, layout.markers / "virt-driver"),  # what of the driver is installed
        stop_seconds=60,
    )
    return [registry, agent, compute]


def programs(layout: Layout, options: Options) -> dict[str, Program]:
    """Every program of the selected cloud by name, in starting order."""
    found = _infrastructure(layout)
    for service in _wsgi_services(layout, options):
        config = (layout.etc / name for name in (*service.config, f"uwsgi-{service.name}.ini"))
        files = (*config, _CHUNKED_WSGI, *service.loaded)
        found.append(
            Program(
                service.name,
                (f"{layout.venv}/bin/uwsgi", "--ini", f"{layout.etc}/uwsgi-{service.name}.ini"),
                CONTROL,
                files,
                service.environment,
                port=service.name,
                # At SIGTERM uWSGI waits for its workers, at SIGINT it ends them.
                stop_signal="INT",
            )
        )
    found += _daemons(layout, options)
    if options.agent:
        found += _agent(layout, options)
    return {program.name: program for program in found}


def environment(layout: Layout, program: Program) -> dict[str, str]:
    """The whole environment of a program.

    It holds a digest of every file that the program reads at its start, so that supervisor's own comparison of
    old and new configuration finds the programs that must restart.
    """
    python = str(layout.venv) in program.command[0]
    base = {
        "PATH": f"{layout.venv}/bin:{SYSTEM_PATH}" if python else SYSTEM_PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        STATE_VARIABLE: str(layout.root),
        f"{STATE_VARIABLE}_DIGEST": _digest(program, python),
    }
    if python:
        # Dozens of native threads: without the limit glibc keeps an arena of memory for each.
        base |= {"MALLOC_ARENA_MAX": "2", "PYTHONWARNINGS": "ignore"}
        # setproctitle would write its titles over the environment, and with it over STATE_VARIABLE.
        base["SPT_NOENV"] = "1"
    return base | dict(program.environment)


def _digest(program: Program, python: bool) -> str:
    digest = hashlib.sha256()
    for path in (*program.files, *((LOCK_FILE,) if python else ())):
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()[:16]
