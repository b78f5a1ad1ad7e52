"""MariaDB: the data directory, the databases, and the schemas of the services."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import threading
from pathlib import Path

from minicloud import process
from minicloud.files import Marker, own_directory
from minicloud.layout import LOCK_FILE, METADATA_DEFINITIONS, REGION, Layout, keystone_url
from minicloud.passwords import Passwords

DATABASES: dict[str, tuple[str, ...]] = {
    "keystone": ("keystone",),
    "placement": ("placement",),
    "glance": ("glance",),
    "neutron": ("neutron",),
    "nova": ("nova_api", "nova_cell0", "nova"),
    "heat": ("heat",),
    "cinder": ("cinder",),
}
"""The databases of each service that has any."""

_two_at_a_time = threading.Semaphore(2)


def make_data_directory(layout: Layout) -> None:
    """Create an empty data directory; root logs in over the socket as the system's root, without a password."""
    data = layout.root / "mysql"
    own_directory(layout.run / "mysql", "mysql", 0o755)
    if data.exists():
        return
    fresh = layout.root / "mysql.new"
    shutil.rmtree(fresh, ignore_errors=True)
    own_directory(fresh, "mysql")
    process.run(
        [
            "/usr/bin/mariadb-install-db",
            "--no-defaults",
            "--user=mysql",
            f"--datadir={fresh}",
            "--auth-root-authentication-method=socket",
            "--auth-root-socket-user=root",
            "--skip-test-db",
        ],
        log=layout.log / "mariadb-install.log",
    )
    fresh.rename(data)


def query(layout: Layout, statements: str) -> str:
    """What SQL statements print, a row a line, columns between tabs."""
    # By standard input, because statements hold the password.
    client: list[str | Path] = ["/usr/bin/mariadb", "--no-defaults", "-S", layout.mysql_socket, "-u", "root", "-BN"]
    return process.run(client, stdin=statements)


def answers(layout: Layout) -> bool:
    """Whether the server takes statements."""
    try:
        return query(layout, "SELECT 1") == "1\n"
    except process.CommandFailed:
        return False


def create_databases(layout: Layout, passwords: Passwords) -> None:
    """Make what is missing, for every service: an extra that is selected later finds its database."""
    statements = [
        "CREATE USER IF NOT EXISTS openstack@'127.0.0.1';",
        f"ALTER USER openstack@'127.0.0.1' IDENTIFIED BY '{passwords['database']}';",
    ]
    for names in DATABASES.values():
        for name in names:
            statements.append(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb3;")
            statements.append(f"GRANT ALL ON {name}.* TO openstack@'127.0.0.1';")
    query(layout, "\n".join(statements))


def make_keystone_keys(layout: Layout) -> None:
    """The first Fernet keys, as `keystone-manage fernet_setup` makes them, without its seconds of imports."""
    for kind in ("fernet", "credential"):
        directory = layout.root / "keystone" / f"{kind}-keys"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for index in ("0", "1"):
            path = directory / index
            if not path.exists():
                temporary = directory / f".{index}.new"
                temporary.unlink(missing_ok=True)
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(base64.urlsafe_b64encode(os.urandom(32)))
                temporary.rename(path)


def sync(layout: Layout, passwords: Passwords, service: str) -> str | None:
    """Bring the schema of one service to the locked version.

    A first migration that was cut short starts over with empty databases: MariaDB cannot roll a schema change
    back, and half of one fails for ever.
    """
    marker = Marker(layout.markers, f"schema-{service}")
    wanted = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    if marker.value() == wanted:
        return None
    with _two_at_a_time:
        if marker.value() == "begun":
            _recreate(layout, service)
        if marker.value() is None:
            marker.set("begun")
        for command, variables in _commands(layout, passwords, service):
            process.run(
                [f"{layout.venv}/bin/{command[0]}", *command[1:]],
                log=layout.log / f"schema-{service}.log",
                env=process.clean_environment(**variables),
            )
        marker.set(wanted)
    return "schema is current"


def load_metadata_definitions(layout: Layout) -> str | None:
    """What Horizon shows of containers, in the place of what an earlier version has brought."""
    files = sorted(METADATA_DEFINITIONS.glob("*.json"))
    marker = Marker(layout.markers, "metadata-definitions")
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    if marker.value() == wanted:
        return None
    command = [f"{layout.venv}/bin/glance-manage", "--config-file", f"{layout.etc}/glance-api.conf"]
    command += ["db", "load_metadefs", "--path", str(METADATA_DEFINITIONS), "--merge", "--overwrite"]
    process.run(command, log=layout.log / "metadata-definitions.log")
    marker.set(wanted)
    return f"{len(files)} namespaces"


def _recreate(layout: Layout, service: str) -> None:
    for name in DATABASES[service]:
        query(layout, f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} CHARACTER SET utf8mb3;")


def _commands(layout: Layout, passwords: Passwords, service: str) -> list[tuple[list[str], dict[str, str]]]:
    """The commands, with the variables that they need. No argument holds a secret."""

    def conf(name: str) -> list[str]:
        return ["--config-file", f"{layout.etc}/{name}"]

    nova = ["nova-manage", *conf("nova.conf")]
    cells = query(layout, "SELECT count(*) FROM information_schema.tables WHERE table_name='cell_mappings'")
    has_cell1 = (
        cells.strip() != "0"
        and query(layout, "SELECT count(*) FROM nova_api.cell_mappings WHERE name='cell1'").strip() != "0"
    )
    table: dict[str, list[tuple[list[str], dict[str, str]]]] = {
        "keystone": [
            (["keystone-manage", *conf("keystone.conf"), "db_sync"], {}),
            (
                [
                    "keystone-manage",
                    *conf("keystone.conf"),
                    "bootstrap",
                    *(f"--bootstrap-{kind}-url={keystone_url()}" for kind in ("admin", "internal", "public")),
                    f"--bootstrap-region-id={REGION}",
                ],
                {"OS_BOOTSTRAP_PASSWORD": passwords["admin"]},
            ),
        ],
        "placement": [(["placement-manage", *conf("placement.conf"), "db", "sync"], {})],
        "glance": [(["glance-manage", *conf("glance-api.conf"), "db_sync"], {})],
        "neutron": [
            (
                ["neutron-db-manage", *conf("neutron.conf"), *conf("ml2_conf.ini"), "upgrade", "heads"],
                {},
            )
        ],
        "nova": [
            ([*nova, "api_db", "sync"], {}),
            # Without addresses, both read them from the configuration file, and cell0 is nova + "_cell0".
            ([*nova, "cell_v2", "map_cell0"], {}),
            ([*nova, "db", "sync"], {}),
            *([] if has_cell1 else [([*nova, "cell_v2", "create_cell", "--name=cell1"], {})]),
        ],
        "heat": [(["heat-manage", *conf("heat.conf"), "db_sync"], {})],
        "cinder": [(["cinder-manage", *conf("cinder.conf"), "db", "sync"], {})],
    }
    return table[service]


def map_hosts(layout: Layout) -> None:
    """Let Nova's API know the compute hosts that registered."""
    process.run(
        [f"{layout.venv}/bin/nova-manage", "--config-file", f"{layout.etc}/nova.conf", "cell_v2", "discover_hosts"],
        log=layout.log / "discover-hosts.log",
    )


def mapped_hosts(layout: Layout) -> set[str]:
    """The compute hosts that Nova's API knows."""
    return set(query(layout, "SELECT host FROM nova_api.host_mappings").split())


def now(layout: Layout) -> str:
    """The time of the database, in UTC."""
    return query(layout, "SELECT UTC_TIMESTAMP()").strip()


def reporting_hosts(layout: Layout, since: str | None = None) -> set[str]:
    """The compute hosts that have their records and reported to Nova after `since`.

    Without it, within the last 15 seconds (they do every 10).
    """
    limit = "UTC_TIMESTAMP() - INTERVAL 15 SECOND" if since is None else f"'{since}'"
    return set(
        query(
            layout,
            "SELECT DISTINCT s.host FROM nova.services s"  # noqa: S608, the time is the database's own
            " JOIN nova.compute_nodes n ON n.host = s.host"
            " WHERE s.`binary` = 'nova-compute' AND s.deleted = 0 AND n.deleted = 0"
            f" AND COALESCE(s.last_seen_up, s.created_at) > {limit}",
        ).split()
    )


def namespace_names(layout: Layout) -> set[str]:
    """The names of the network namespaces of networks, routers and servers."""
    names: set[str] = set()
    for prefix, column in (
        ("qdhcp", "SELECT id FROM neutron.networks"),
        ("ovnmeta", "SELECT id FROM neutron.networks"),
        ("qrouter", "SELECT id FROM neutron.routers"),
        ("nova", "SELECT uuid FROM nova.instances"),
    ):
        try:
            names |= {f"{prefix}-{identifier}" for identifier in query(layout, column).split()}
        except process.CommandFailed:
            # There is no schema yet, so there is nothing in it.
            continue
    return names
