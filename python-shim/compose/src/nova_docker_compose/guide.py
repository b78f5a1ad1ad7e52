"""The page of all keys.

    python -m nova_docker_compose.guide

prints it.
"""

from __future__ import annotations

from nova_docker_compose import nested
from nova_docker_compose.keys import CONFIG, DEPLOY, NETWORK, SECRET, SERVICE, TOP, VOLUME, X_OPENSTACK, Fate, Key

_TABLES: list[tuple[str, dict[str, Key]]] = [
    ("Networks", NETWORK),
    ("Volumes", VOLUME),
    ("Secrets", SECRET),
    ("Configs", CONFIG),
    ("Top level", TOP),
]
_NESTED: list[tuple[str, nested.Table]] = [
    ("Deploy", DEPLOY),
    ("update_config", nested.UPDATE),
    ("Build", nested.BUILD),
    ("Healthcheck", nested.HEALTHCHECK),
    ("Dependencies of a service", nested.DEPENDS_ON),
    ("Hooks of a service", nested.HOOK),
    ("Logging of a service", nested.LOGGING),
    ("Ports of a service", nested.PORTS),
    ("Networks of a service", nested.NETWORKS),
    ("Volumes of a service", nested.VOLUMES),
    ("x-openstack", {name: (Fate.TAKEN, note) for name, (_, note) in X_OPENSTACK.items()}),
]


def guide() -> str:
    """The page."""
    parts = [_rows("Services", _of_keys(SERVICE))]
    parts += [_rows(title, table) for title, table in _NESTED]
    parts += [_rows(title, _of_keys(keys)) for title, keys in _TABLES]
    parts.append(_rows("ipam of a network", nested.IPAM))
    return "\n".join(
        [
            "# Every key of Compose\n",
            "Made by `python -m nova_docker_compose.guide`. *Taken*: it has its effect. *Left alone*: it changes"
            " nothing that matters on a cloud.\n*Warning*: it is left out, and you hear so. *Refused*: nothing is made."
            " `config` takes them all, and tells of these two.\n",
            *parts,
        ]
    ).rstrip("\n")


def _of_keys(keys: dict[str, Key]) -> nested.Table:
    return {name: (key.fate, key.note) for name, key in keys.items()}


def _rows(title: str, table: nested.Table) -> str:
    lines = [f"## {title}", "", "| key | | what becomes of it |", "|---|---|---|"]
    rows = sorted((name, fate.value, note) for name, (fate, note) in table.items())
    return "\n".join([*lines, *(f"| `{name}` | {fate} | {note} |" for name, fate, note in rows), ""])


if __name__ == "__main__":
    print(guide())
