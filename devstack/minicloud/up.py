"""`mini up`: the steps, and what each waits for."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from minicloud import agent_build, broker, certificates, criu, database, host, openvswitch, ovn, packages, process
from minicloud import passwords as passwords_module
from minicloud.config import clients, extras, identity, infrastructure, neutron, nova, registry
from minicloud.config.ini import Ini, render
from minicloud.files import Marker, write_file
from minicloud.images import debian, tiny
from minicloud.layout import EXTERNAL_CIDR, LOCK_FILE, PORTS, Layout, url
from minicloud.options import Options
from minicloud.passwords import Passwords
from minicloud.programs import Program, programs, uwsgi_files
from minicloud.supervisor import Supervisor
from minicloud.tasks import Graph, Kind, Progress

NEUTRON_AGENTS = {
    "ovs": ("neutron-ovs", "neutron-dhcp", "neutron-dhcp-watch", "neutron-l3", "neutron-metadata"),
    "ovn": ("ovn-controller", "neutron-ovn-metadata"),
}

LEFTOVERS = ("docker", "docker.pid", "docker.sock", "containerd", "mysql", "neutron", "ovs", "ovn")
"""What below run/ a crash or a reboot leaves behind, and would mislead what starts anew."""


class Busy(Exception):
    """Another `up` or `down` works on the same state directory."""


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Hold the state directory's lock. The kernel releases it however this process ends."""
    layout.root.mkdir(parents=True, exist_ok=True)
    with (layout.root / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"another `mini up` or `mini down` is at work on {layout.root}") from error
        yield


def up(layout: Layout, options: Options, progress: Progress) -> None:
    """Bring the cloud up. Leaves alone what is done already; may run again after any interruption."""
    # Before minutes of installing, rather than after.
    host.check_ports(layout, options)
    if (device := openvswitch.foreign_route()) is not None:
        raise host.UnfitHost(
            f"{EXTERNAL_CIDR} is the cloud's external network, and this machine already routes it to {device}"
        )
    layout.create()
    options.save(layout.options_file)
    secrets = passwords_module.load_or_create(layout.passwords_file)
    _Up(layout, options, secrets, progress).run()


def write_configuration(layout: Layout, options: Options, secrets: Passwords, datapath: str) -> None:
    """Render every file below etc/ but the agent's. Any may hold secrets, so only its service may read it."""
    files: dict[str, Ini] = {
        "keystone.conf": identity.keystone(layout, secrets),
        "placement.conf": identity.placement(layout, secrets),
        "glance-api.conf": identity.glance(layout, secrets),
        "nova.conf": nova.control(layout, secrets, options),
        "registry.conf": registry.registry(layout),
        "nova-compute.conf": nova.grpc_compute(layout, secrets, options, host.reserved_memory_mb()),
        "neutron.conf": neutron.neutron(layout, secrets, options),
        "ml2_conf.ini": neutron.ml2(layout, options),
        "ovs_agent.ini": neutron.ovs_agent(datapath),
        "dhcp_agent.ini": neutron.dhcp_agent(datapath),
        "l3_agent.ini": neutron.l3_agent(datapath),
        "metadata_agent.ini": neutron.metadata_agent(secrets),
        "ovn_metadata_agent.ini": neutron.ovn_metadata_agent(layout, secrets),
        "heat.conf": extras.heat(layout, secrets),
        "cinder.conf": extras.cinder(layout, secrets),
        "nova-compute-fake.conf": nova.fake_compute(layout, secrets, options),
        "neutron-fake.conf": neutron.fake_agent(layout, secrets, options),
        **uwsgi_files(layout, options),
    }
    for name, ini in files.items():
        write_file(layout.etc / name, render(ini), mode=0o600)
    write_file(layout.etc / "my.cnf", render(infrastructure.mariadb(layout)), owner="mysql", mode=0o600)
    write_file(layout.etc / "rabbitmq.conf", infrastructure.rabbitmq(secrets), owner="rabbitmq", mode=0o600)
    write_file(layout.etc / "docker-daemon.json", infrastructure.dockerd(layout))
    write_file(layout.etc / "containerd.toml", infrastructure.containerd(layout))
    write_file(layout.etc / "nfs_shares", extras.cinder_export(layout) + "\n")
    write_file(layout.clouds_file, clients.clouds_yaml(secrets), mode=0o600)
    write_file(layout.etc / "horizon_settings.py", clients.horizon(layout, secrets, options), mode=0o600)


class _Up:
    def __init__(self, layout: Layout, options: Options, secrets: Passwords, progress: Progress) -> None:
        self.layout = layout
        self.options = options
        self.secrets = secrets
        self.progress = progress
        self.supervisor = Supervisor(layout)
        self.datapath = ""

    @property
    def programs(self) -> dict[str, Program]:
        return programs(self.layout, self.options)

    @property
    def _driver(self) -> list[str]:
        """The step, if there is one, that installs what Nova loads of this repository."""
        return ["virt driver"] if self.options.agent else []

    @property
    def _ovn_step(self) -> list[str]:
        """The step, if there is one, that starts what Neutron writes to."""
        return ["OVN databases and northd"] if self.options.network == "ovn" else []

    def run(self) -> None:
        graph = Graph(self.progress)
        self._foundation(graph)
        self._infrastructure(graph)
        self._control_plane(graph)
        self._network(graph)
        self._compute(graph)
        graph.run()
        self.progress.say(graph.spent())

    # ------------------------------------------------------------ before anything of the cloud can start

    def _foundation(self, graph: Graph) -> None:
        layout = self.layout
        graph.add("Debian packages", lambda: self._debian(), kind=Kind.DOWNLOADS)
        graph.add("Python packages", lambda: packages.make_venv(layout), ["Debian packages"], Kind.DOWNLOADS)
        graph.add("configuration", self._configure, ["Debian packages"])
        graph.add("image tiny (file)", lambda: tiny.build(layout.cache), ["Debian packages"], Kind.BUILDS)
        if "debian" in self.options.extras:
            graph.add("image debian (file)", lambda: debian.build(layout), ["image tiny (file)"], Kind.BUILDS)
        graph.add("compose plugin", lambda: packages.install_compose(layout), ["Python packages"], Kind.BUILDS)
        needed = ["Python packages", "configuration"]
        plugins = ["compose plugin"]
        if "heat" in self.options.extras:
            # What is installed into one environment goes one after the other.
            graph.add("heat plugin", lambda: packages.install_heat_plugin(layout), ["compose plugin"], Kind.BUILDS)
            plugins = ["heat plugin"]
        # Heat's engine is configured with a digest of its plugin.
        graph.add("supervisor", self._supervise, [*needed, *(plugins if "heat" in self.options.extras else [])])
        if self.options.agent:
            # Only agent and registry wait for it: their programs are configured again when the binaries exist.
            graph.add("agent (build)", self._build_agent, ["Debian packages"], Kind.BUILDS)
            # Behind both doors: nova-api asks it whether what a flavor says of containers is right.
            graph.add("virt driver", lambda: packages.install_virt_driver(layout), plugins, Kind.BUILDS)
            graph.add("CRIU", lambda: criu.fetch(layout), ["Debian packages"], Kind.DOWNLOADS)
            graph.add("configuration of the agent", self._configure_agent, ["configuration", "CRIU"])
        graph.add("Horizon (static files)", self._horizon_files, needed, Kind.BUILDS)

    def _debian(self) -> str | None:
        return packages.install_debian(self.layout, self.options.extras, self.options.network)

    def _build_agent(self) -> str:
        return agent_build.build(self.layout, self.options.release)

    def _configure(self) -> str:
        layout = self.layout
        self.datapath, reason = openvswitch.choose_datapath()
        write_configuration(layout, self.options, self.secrets, self.datapath)
        for path in (
            "glance/images",
            "glance/staging",
            "glance/tasks",
            "glance/lock",
            "nova/lock",
            "nova-fake/lock",
            "neutron/lock",
            "agent/blobs",
            "agent/lock",
            "agent/instances",
            "cinder/lock",
            "cinder/coordination",
            "cinder/export",
            "cinder/mnt",
            "cinder/conversion",
        ):
            (layout.root / path).mkdir(parents=True, exist_ok=True)
        database.make_keystone_keys(layout)
        certificates.make(layout)
        return reason

    def _configure_agent(self) -> None:
        """By itself, because only the agent waits for CRIU."""
        ini = nova.agent(self.layout, self.secrets, self.options, host.reserved_memory_mb())
        write_file(self.layout.etc / "nova-docker-agent.conf", render(ini), mode=0o600)

    def _supervise(self) -> str | None:
        layout, supervisor = self.layout, self.supervisor
        if not supervisor.answers():
            ended = host.end_processes(layout)
            for leftover in LEFTOVERS:
                path = layout.run / leftover
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True)
            layout.create()
            if ended:
                self.progress.say(f"  ended processes that an earlier run left behind ({len(ended)})")
        openstack = layout.bin / "openstack"
        openstack.unlink(missing_ok=True)
        openstack.symlink_to(layout.venv / "bin" / "openstack")
        supervisor.configure(self.programs.values())
        return None

    def _horizon_files(self) -> str | None:
        """Collect and compress what browsers load, once for each version of Horizon."""
        layout = self.layout
        local = layout.venv / "lib/python3.11/site-packages/openstack_dashboard/local/local_settings.py"
        settings = layout.etc / "horizon_settings.py"
        if not local.is_symlink():
            local.unlink(missing_ok=True)
            local.symlink_to(settings)
        marker = Marker(layout.markers, "horizon-static")
        wanted = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
        if marker.value() == wanted:
            return None
        shutil.rmtree(layout.root / "horizon", ignore_errors=True)
        (layout.root / "horizon").mkdir()
        environment = process.clean_environment(DJANGO_SETTINGS_MODULE="openstack_dashboard.settings")
        for command in (["collectstatic", "--noinput"], ["compress", "--force"]):
            process.run(
                [layout.python, "-m", "django", *command], log=layout.log / "horizon-static.log", env=environment
            )
        marker.set(wanted)
        return "collected and compressed"

    # ------------------------------------------------------------ what OpenStack stands on

    def _infrastructure(self, graph: Graph) -> None:
        layout = self.layout
        graph.add("MariaDB (data)", lambda: database.make_data_directory(layout), ["supervisor"])
        graph.add("MariaDB", self._mariadb, ["MariaDB (data)"], Kind.WAITING)
        graph.add("RabbitMQ", self._rabbitmq, ["supervisor"], Kind.WAITING)
        graph.add("memcached", self._starter("memcached"), ["supervisor"], Kind.WAITING)
        graph.add("Open vSwitch", self._open_vswitch, ["supervisor"], Kind.WAITING)
        if self.options.network == "ovn":
            graph.add("OVN databases and northd", self._ovn, ["supervisor"], Kind.WAITING)
        graph.add("Docker Engine", self._docker, ["supervisor"], Kind.WAITING)
        for service in ("keystone", "neutron", "nova", "placement", "glance", *self.options.services):
            graph.add(f"schema of {service}", self._schema(service), ["MariaDB"])
        if self.options.agent:
            graph.add("metadata definitions", lambda: database.load_metadata_definitions(layout), ["schema of glance"])

    def _mariadb(self) -> None:
        self.supervisor.start_and_wait("mariadb", lambda: database.answers(self.layout), 60)
        database.create_databases(self.layout, self.secrets)

    def _schema(self, service: str) -> Callable[[], str | None]:
        return lambda: database.sync(self.layout, self.secrets, service)

    def _rabbitmq(self) -> None:
        broker.make_home(self.layout)
        self.supervisor.start_and_wait("epmd", lambda: broker.port_answers(PORTS["epmd"]), 20)
        self.supervisor.start_and_wait("rabbitmq", broker.answers, 90)

    def _open_vswitch(self) -> None:
        if self.supervisor.states()["ovsdb"] != "RUNNING":
            openvswitch.make_database(self.layout)
        self.supervisor.start_and_wait("ovsdb", lambda: openvswitch.answers(self.layout), 20)
        name = self.options.host
        chassis = ovn.chassis(self.layout, name, self.datapath) if self.options.network == "ovn" else {}
        openvswitch.prepare(self.layout, name, chassis)
        self.supervisor.start("ovs-vswitchd")
        openvswitch.make_external_bridge(self.layout, self.datapath)

    def _ovn(self) -> None:
        for name in ovn.DATABASES:
            ovn.make_database(self.layout, name)
            self.supervisor.start_and_wait(f"ovn-{name}", self._ovn_answers(name), 20)
        self.supervisor.start("ovn-northd")

    def _ovn_answers(self, name: str) -> Callable[[], bool]:
        return lambda: ovn.answers(self.layout, name)

    def _docker(self) -> None:
        layout = self.layout
        (layout.run / "containerd").mkdir(exist_ok=True)
        self.supervisor.start_and_wait("containerd", (layout.run / "containerd/containerd.sock").exists, 30)
        command = ["/usr/bin/docker", "-H", f"unix://{layout.docker_socket}", "version"]
        self.supervisor.start_and_wait("dockerd", lambda: process.succeeds(command), 60)

    # ------------------------------------------------------------ the APIs and their workers

    def _control_plane(self, graph: Graph) -> None:
        for name, needs in (
            ("keystone", ["schema of keystone", "memcached"]),
            ("placement", ["schema of placement", "memcached"]),
            ("glance", ["schema of glance", "memcached"]),
            ("neutron-api", ["schema of neutron", "memcached", "RabbitMQ", *self._ovn_step]),
            ("nova-api", ["schema of nova", "memcached", "RabbitMQ", *self._driver]),
            ("nova-metadata", ["schema of nova", "memcached", "RabbitMQ"]),
            ("horizon", ["Horizon (static files)", "memcached", "supervisor"]),
        ):
            graph.add(name, self._api(name), needs, Kind.WAITING)
        graph.add("users and catalog", lambda: self._seed("identity"), ["keystone"])
        graph.add(
            "nova-conductor and nova-scheduler",
            self._starter("nova-conductor", "nova-scheduler"),
            ["schema of nova", "RabbitMQ", "users and catalog"],
            Kind.WAITING,
        )
        needs = ["schema of nova", "RabbitMQ"]
        graph.add("nova-serialproxy", self._starter("nova-serialproxy"), needs, Kind.WAITING)
        graph.add(
            "neutron workers",
            self._neutron_workers,
            ["schema of neutron", "RabbitMQ", "users and catalog", *self._ovn_step],
            Kind.WAITING,
        )
        for extra in self.options.services:
            needs = [f"schema of {extra}", "RabbitMQ", "users and catalog"]
            graph.add(extra, self._extra(extra), needs, Kind.WAITING)

    def _api(self, name: str) -> Callable[[], None]:
        def start() -> None:
            # A program that answers at once is STARTING for two seconds, which `status` would call broken.
            self.supervisor.start_and_wait(
                name, lambda: self.supervisor.states()[name] == "RUNNING" and api_answers(self.layout, name), 120
            )

        return start

    def _starter(self, *names: str) -> Callable[[], None]:
        def start() -> None:
            for name in names:
                self.supervisor.start(name)

        return start

    def _neutron_workers(self) -> None:
        self.supervisor.start("neutron-periodic")
        if self.options.network == "ovn":
            # Neutron hears of this host from OVN's databases.
            self.supervisor.start("neutron-ovn-maintenance")
            return
        # An agent whose report nobody hears waits a minute before it tries again.
        self.supervisor.start_and_wait("neutron-rpc", lambda: broker.has_queue(self.layout, "q-plugin"), 120)

    def _extra(self, extra: str) -> Callable[[], None]:
        def start() -> None:
            if extra == "cinder":
                _mount_cinder_share(self.layout)
            for name in self.programs:
                if name.startswith(extra):
                    self.supervisor.start(name)
            for name, program in self.programs.items():
                if name.startswith(extra) and program.port is not None:
                    self._api(name)()
            self._seed(extra)

        return start

    def _seed(self, *what: str) -> None:
        """Run a part of `seed` in the virtual environment, which has the SDK."""
        process.run(
            [self.layout.python, "-B", "-m", "minicloud.seed", self.layout.root, *what],
            log=self.layout.log / "seed.log",
            env=process.clean_environment(PYTHONPATH=str(Path(__file__).parent.parent)),
        )

    # ------------------------------------------------------------ network and compute

    def _network(self, graph: Graph) -> None:
        needs = ["neutron workers", "neutron-api", "Open vSwitch"]
        graph.add("neutron agents", self._neutron_agents, needs, Kind.WAITING)
        graph.add("networks, router, security group", lambda: self._seed("network"), ["neutron agents"])
        graph.add("flavors and key pair", lambda: self._seed("compute"), ["nova-api", "placement", "users and catalog"])
        debian_file = ["image debian (file)"] if "debian" in self.options.extras else []
        graph.add(
            "images",
            lambda: self._seed("images"),
            ["glance", "users and catalog", "image tiny (file)", *debian_file],
        )

    def _neutron_agents(self) -> None:
        for name in NEUTRON_AGENTS[self.options.network]:
            self.supervisor.start(name)
        # The compute service plugs into it. After a reboot it does so at once, to bring its servers back.
        first = NEUTRON_AGENTS[self.options.network][0]
        self.supervisor.start_and_wait(first, lambda: openvswitch.has_bridge(self.layout, "br-int"), 120)

    def _compute(self, graph: Graph) -> None:
        needs = ["nova-conductor and nova-scheduler", "nova-api", "neutron agents", "placement", "glance"]
        if self.options.agent:
            own = ["agent (build)", "configuration of the agent", *self._driver]
            graph.add("agent", self._agent, [*needs, *own, "Docker Engine"], Kind.WAITING)
            # After the agent: that step looks whether the binaries have changed.
            graph.add("registry", self._api("registry"), ["agent", "glance", "users and catalog"], Kind.WAITING)
        if self.options.fake_compute:
            graph.add("nova-compute with the fake driver", self._fake_compute, needs, Kind.WAITING)

    def _agent(self) -> None:
        # The binaries, and so their digests, may have changed since supervisord was configured.
        self.supervisor.configure(self.programs.values())
        if self.options.door == "amqp":
            self._register(self.options.host, "nova-docker-agent")
            return
        self.supervisor.start_and_wait("nova-docker-agent", self.layout.driver_socket.exists, 60)
        self._register(self.options.host, "nova-compute")

    def _fake_compute(self) -> None:
        self.supervisor.start("neutron-ovs-fake")
        self._register(self.options.fake_host, "nova-compute-fake")

    def _register(self, name: str, program: str) -> None:
        """Wait until the compute service of host `name` reports, and let the scheduler know it."""
        # An earlier report may come from another program, whose place this one takes.
        running = self.supervisor.states().get(program) == "RUNNING"
        since = None if running else database.now(self.layout)
        self.supervisor.start_and_wait(program, lambda: name in database.reporting_hosts(self.layout, since), 90)
        if name not in database.mapped_hosts(self.layout):
            database.map_hosts(self.layout)


def api_answers(layout: Layout, name: str) -> bool:
    """Whether an API gives any HTTP answer but one of its own failure."""
    address = url(name, "/")
    tls = ssl.create_default_context(cafile=layout.authority) if address.startswith("https:") else None
    try:
        with urllib.request.urlopen(address, timeout=20, context=tls):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, http.client.HTTPException):
        return False


def _mount_cinder_share(layout: Layout) -> None:
    """A bind mount stands in for the share that Cinder's driver expects: the kernel may have no NFS."""
    share = hashlib.md5(extras.cinder_export(layout).encode(), usedforsecurity=False).hexdigest()
    target = layout.root / "cinder" / "mnt" / share
    target.mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(target):
        process.run(["mount", "--bind", layout.root / "cinder" / "export", target])
