"""Where one cloud keeps everything: paths under its state directory, and its loopback ports."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

DEFAULT_STATE_DIR = Path("/var/lib/nova-docker-mini")

# The longest socket below the state directory is containerd's task socket; sun_path holds 107 characters.
_LONGEST_STATE_DIR = 60

SOURCE = Path(__file__).resolve().parent.parent.parent
"""The checkout that this package is part of."""

LOCK_FILE = SOURCE / "devstack" / "requirements.lock"
_DRIVER = SOURCE / "python-shim" / "src" / "nova_docker"
METADATA_DEFINITIONS = _DRIVER / "metadefs"
EXTRA_SPEC_VALIDATORS = (_DRIVER / "extra_specs.py", _DRIVER / "extra_specs.json")

HEAT_PLUGIN = "heat-plugin"
"""The marker of what of python-shim/heat is installed."""

REGION = "RegionOne"
ADDRESS = "127.0.0.1"

PORTS = {
    "mariadb": 3306,
    "rabbitmq": 5672,
    "epmd": 14369,
    "erlang distribution": 25672,
    "memcached": 11211,
    "ovsdb": 6640,
    "keystone": 5000,
    "glance": 9292,
    "placement": 8778,
    "nova-api": 8774,
    "nova-metadata": 8775,
    "nova-serialproxy": 6083,
    "neutron-api": 9696,
    "horizon": 8080,
    "agent registry": 5042,
    "registry": 5043,
}
"""Every TCP port on 127.0.0.1 that the cloud uses, by the name of what listens there."""

CONSOLE_PORTS = "6100:6199"
"""Of these the compute service's listener for serial consoles takes the first one that is free."""

AGENT_PORTS = ("agent registry", "registry")
"""Of them, those of the agent and of the registry, which are built here."""

_TLS_PORTS = ("registry",)

OPTIONAL_PORTS = {"heat": {"heat-api": 8004, "heat-api-cfn": 8000}, "cinder": {"cinder-api": 8776}}

EXTERNAL_CIDR = "172.24.4.0/24"
EXTERNAL_HOST_ADDRESS = "172.24.4.1/24"

ADDRESS_FOR_SERVERS = EXTERNAL_HOST_ADDRESS.partition("/")[0]
"""Where servers reach the host, through their router."""


def url(port_name: str, path: str = "", address: str = ADDRESS) -> str:
    """The HTTP address of one of the services in PORTS or OPTIONAL_PORTS."""
    ports = PORTS | OPTIONAL_PORTS["heat"] | OPTIONAL_PORTS["cinder"]
    scheme = "https" if port_name in _TLS_PORTS else "http"
    return f"{scheme}://{address}:{ports[port_name]}{path}"


def keystone_url() -> str:
    return url("keystone", "/v3")


class BadStateDir(Exception):
    """The state directory cannot be used; the message says why."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The paths of one cloud. Nothing is created here; `create` does that."""

    root: Path

    @classmethod
    def at(cls, state_dir: str | os.PathLike[str]) -> Layout:
        root = Path(os.path.abspath(state_dir))
        if len(str(root)) > _LONGEST_STATE_DIR:
            raise BadStateDir(
                f"{root}: the path of the state directory may have at most {_LONGEST_STATE_DIR} characters,"
                " because unix sockets live below it"
            )
        if not all(part.isascii() and (part.isalnum() or part in "/._-+") for part in str(root)):
            raise BadStateDir(
                f"{root}: use letters, digits and the characters / . _ - + in the state directory's path;"
                " others mean something in one of the configuration files that name it"
            )
        if root == Path("/") or len(root.parts) < 3:
            raise BadStateDir(f"{root}: give the cloud a directory of its own, `down --wipe` removes it")
        return cls(root)

    def create(self) -> None:
        """Make the directories, with modes that let the mysql and rabbitmq users reach their own."""
        for path, mode in (
            (self.root, 0o755),
            (self.etc, 0o755),
            (self.run, 0o755),
            (self.log, 0o755),
            (self.bin, 0o755),
            (self.cache, 0o755),
            (self.markers, 0o755),
            (self.run / "ovs", 0o755),
            (self.neutron_starts, 0o755),
        ):
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            path.chmod(mode)

    @property
    def etc(self) -> Path:
        """Rendered configuration: written anew by every `up`."""
        return self.root / "etc"

    @property
    def run(self) -> Path:
        """Sockets and pid files: worthless after a reboot."""
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def bin(self) -> Path:
        """The binaries of the agent, its runtime and the registry, and the `openstack` command."""
        return self.root / "bin"

    @property
    def cache(self) -> Path:
        """Downloads and built images; `down --wipe --keep-cache` leaves it."""
        return self.root / "cache"

    @property
    def markers(self) -> Path:
        """One file for each long step that is done; it holds what the step was done for."""
        return self.root / "done"

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def criu(self) -> Path:
        """The program that suspends servers to disk, where it could be fetched."""
        return self.root / "criu" / "criu"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def passwords_file(self) -> Path:
        return self.root / "passwords.json"

    @property
    def options_file(self) -> Path:
        return self.root / "options.json"

    @property
    def clouds_file(self) -> Path:
        return self.etc / "clouds.yaml"

    @property
    def mysql_socket(self) -> Path:
        return self.run / "mysql" / "mysql.sock"

    @property
    def docker_socket(self) -> Path:
        return self.run / "docker.sock"

    @property
    def driver_socket(self) -> Path:
        """Where the agent serves the container driver to a stock nova-compute."""
        return self.run / "driver.sock"

    @property
    def tls(self) -> Path:
        """The certificates of the cloud's own authority and of the registry."""
        return self.root / "tls"

    @property
    def authority(self) -> Path:
        """The authority that clients of the registry may trust."""
        return self.tls / "ca.pem"

    @property
    def registry_certificate(self) -> Path:
        return self.tls / "registry.pem"

    @property
    def registry_key(self) -> Path:
        return self.tls / "registry.key"

    @property
    def ovs_db_socket(self) -> Path:
        return self.run / "ovs" / "db.sock"

    @property
    def neutron_starts(self) -> Path:
        """Where Neutron's API keeps the time of its start, by the id of a process: worthless after a reboot."""
        return self.run / "neutron"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def demo_key(self) -> Path:
        """The private half of the demo user's key pair."""
        return self.root / "demo_key"
