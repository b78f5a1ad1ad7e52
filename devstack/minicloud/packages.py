"""Debian packages, installed so that none of their services starts, and the virtual environment."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from minicloud import process
from minicloud.files import Marker, write_file
from minicloud.layout import HEAT_PLUGIN, LOCK_FILE, SOURCE, Layout

DEBIAN_PACKAGES: dict[str, tuple[str, ...]] = {
    "Python, and what compiles uWSGI and links the agent": (
        "python3-venv",
        "python3-dev",
        "gcc",
        "libc6-dev",
        "ca-certificates",
        "openssl",
    ),
    "what OpenStack stands on": ("mariadb-server", "rabbitmq-server", "memcached", "qemu-utils"),
    "the network": (
        "openvswitch-switch",
        "dnsmasq-base",
        "dnsmasq-utils",
        "haproxy",
        "radvd",
        "keepalived",
        "conntrack",
        "iptables",
        "nftables",
        "ebtables",
        "ipset",
        "iproute2",
        "iputils-ping",
        "iputils-arping",
        "ethtool",
        "kmod",
    ),
    "containers and their images": ("docker.io",),
}

EXTRA_DEBIAN_PACKAGES = {
    # The driver checks that mount.nfs exists, though it never mounts anything here.
    "cinder": ("nfs-common",),
    "debian": ("debootstrap",),
}

NETWORK_DEBIAN_PACKAGES = {"ovs": (), "ovn": ("ovn-central", "ovn-host")}

_UNITS = {
    "mariadb-server": ("mariadb.service",),
    "rabbitmq-server": ("rabbitmq-server.service",),
    "erlang-base": ("epmd.service", "epmd.socket"),
    "memcached": ("memcached.service",),
    "openvswitch-switch": ("openvswitch-switch.service",),
    "ovn-central": (
        "ovn-central.service",
        "ovn-northd.service",
        "ovn-ovsdb-server-nb.service",
        "ovn-ovsdb-server-sb.service",
    ),
    "ovn-host": ("ovn-host.service", "ovn-controller.service"),
    "haproxy": ("haproxy.service",),
    "radvd": ("radvd.service",),
    "keepalived": ("keepalived.service",),
    "rpcbind": ("rpcbind.service", "rpcbind.socket"),
    "nfs-common": ("nfs-client.target",),
    "docker.io": ("docker.service", "docker.socket"),
    "containerd": ("containerd.service",),
}
"""The units that would start these packages' services at the next boot."""

_VIRT_DRIVER = "virt-driver"
_COMPOSE = "compose"
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_ASIDE = Path("/usr/sbin/policy-rc.d.nova-docker-mini-saved")
_POLICY_TEXT = "#!/bin/sh\n# Made by nova-docker-agent's devstack/mini while it installs packages.\nexit 101\n"


def _installed() -> set[str]:
    listing = process.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n"])
    return {line.split()[-1] for line in listing.splitlines() if line.startswith("ii")}


def restore_policy() -> None:
    """Undo the ban on starting services, even that of a run that was killed."""
    if _POLICY.exists() and _POLICY.read_text() == _POLICY_TEXT:
        _POLICY.unlink()
    if _POLICY_ASIDE.exists():
        _POLICY_ASIDE.rename(_POLICY)


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Forbid invoke-rc.d to start services while packages are installed."""
    restore_policy()
    if _POLICY.exists():
        _POLICY.rename(_POLICY_ASIDE)
    write_file(_POLICY, _POLICY_TEXT, mode=0o755)
    try:
        yield
    finally:
        restore_policy()


def _apt(layout: Layout, *arguments: str) -> None:
    process.run(
        ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", *arguments],
        log=layout.log / "apt.log",
        env=process.caller_environment(DEBIAN_FRONTEND="noninteractive", NEEDRESTART_MODE="l"),
        # Half-unpacked packages cost the user more than the seconds until apt has finished.
        interruptible=False,
    )


def install_debian(layout: Layout, extras: Iterable[str], network: str) -> str | None:
    """Install what is missing. The services of the packages stay off, now and at the next boot."""
    before = _installed()
    groups = [*DEBIAN_PACKAGES.values(), *(EXTRA_DEBIAN_PACKAGES.get(extra, ()) for extra in extras)]
    groups.append(NETWORK_DEBIAN_PACKAGES[network])
    missing = [name for group in groups for name in group if name not in before]
    if not missing:
        restore_policy()
        return None
    with _no_service_starts():
        process.run(["dpkg", "--configure", "-a"], log=layout.log / "apt.log", interruptible=False)
        _apt(layout, "update")
        _apt(layout, "install", "-y", "--no-install-recommends", *missing)
    added = _installed() - before
    _keep_off_at_boot(layout, added)
    return f"{len(added)} installed; their services stay off"


def _keep_off_at_boot(layout: Layout, added: set[str]) -> None:
    units = [unit for package, names in _UNITS.items() if package in added for unit in names]
    if not units:
        return
    if shutil.which("systemctl"):
        # Changes the links below /etc, even where systemd does not run.
        process.run(["systemctl", "disable", *units], log=layout.log / "apt.log")
        return
    for unit in units:
        if Path("/etc/init.d", unit.partition(".")[0]).exists():
            process.run(["update-rc.d", unit.partition(".")[0], "disable"], log=layout.log / "apt.log")


def _locked(name: str) -> str:
    """One requirement of the lock file with its hashes."""
    match = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*\n", LOCK_FILE.read_text(), re.MULTILINE)
    if match is None:
        raise LookupError(f"{LOCK_FILE} does not hold {name}")
    return match.group(0)


def make_venv(layout: Layout) -> str | None:
    """Make the virtual environment, exactly as locked, with everything compiled to bytecode."""
    marker = Marker(layout.markers, "venv")
    wanted = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    if marker.value() == wanted and layout.python.exists():
        return None
    log = layout.log / "venv.log"
    environment = process.caller_environment()
    # Always from nothing: an interrupted installation looks like a finished one, and with uv's cache this takes
    # seconds.
    marker.clear()
    for own in (_VIRT_DRIVER, _COMPOSE, HEAT_PLUGIN):
        Marker(layout.markers, own).clear()
    shutil.rmtree(layout.venv, ignore_errors=True)
    process.run(["/usr/bin/python3", "-m", "venv", layout.venv], log=log, env=environment)
    pip: list[str | Path] = [layout.python, "-m", "pip", "--disable-pip-version-check"]
    installer = layout.cache / "installer.lock"
    write_file(installer, _locked("uv"))
    process.run([*pip, "install", "-q", "--no-deps", "--require-hashes", "-r", installer], log=log, env=environment)
    _uv_install(layout, log, "--require-hashes", "-r", LOCK_FILE)
    marker.set(wanted)
    return f"{LOCK_FILE.read_text().count('==')} locked packages"


def _uv_install(layout: Layout, log: Path, *arguments: str | Path) -> None:
    """Installs into the virtual environment, compiled to bytecode."""
    environment = process.caller_environment(UV_CACHE_DIR=f"{layout.cache}/uv", UV_NO_PROGRESS="1")
    with contextlib.suppress(process.CommandFailed):
        # uv does not read pip's configuration.
        pip = [layout.python, "-m", "pip", "--disable-pip-version-check"]
        index = process.run([*pip, "config", "get", "global.index-url"], env=environment).strip()
        environment.setdefault("UV_DEFAULT_INDEX", index)
    uv: list[str | Path] = [layout.venv / "bin" / "uv", "pip", "install", "--python", layout.python]
    process.run([*uv, "--compile-bytecode", *arguments], log=log, env=environment)


def install_virt_driver(layout: Layout) -> str | None:
    """Build Nova's virt driver for the agent, of which nova-api loads a part, into the virtual environment."""
    source = SOURCE / "python-shim"
    parts = [path for path in source.iterdir() if path.name not in ("compose", "heat", "tests")]
    return _install_own(layout, _VIRT_DRIVER, source, [*parts, SOURCE / "proto" / "nova_docker"])


def install_compose(layout: Layout) -> str | None:
    """Build the plugin `openstack container compose` from this source, into the virtual environment."""
    source = SOURCE / "python-shim" / "compose"
    return _install_own(layout, _COMPOSE, source, [source / "src", source / "pyproject.toml"])


def install_heat_plugin(layout: Layout) -> str | None:
    """Build Heat's resource DockerInc::Docker::Container from this source, into the virtual environment."""
    source = SOURCE / "python-shim" / "heat"
    return _install_own(layout, HEAT_PLUGIN, source, [source / "src", source / "plugins", source / "pyproject.toml"])


def _install_own(layout: Layout, name: str, source: Path, parts: Iterable[Path]) -> str | None:
    """Install a package of this repository, if one of its parts has changed since."""
    digest = hashlib.sha256()
    kinds = (".py", ".json", ".pth", ".start", ".toml", ".proto")
    paths = {path for part in parts for path in (part.rglob("*") if part.is_dir() else [part]) if path.suffix in kinds}
    # The version is that of the workspace.
    for path in sorted({*paths, SOURCE / "Cargo.toml"}):
        digest.update(str(path.relative_to(SOURCE)).encode() + b"\0" + path.read_bytes())
    marker = Marker(layout.markers, name)
    wanted = digest.hexdigest()
    if marker.value() == wanted:
        return None
    marker.clear()
    # The lock file has what it requires.
    _uv_install(layout, layout.log / f"{name}.log", "--no-deps", "--reinstall", source)
    marker.set(wanted)
    return "built and installed"
