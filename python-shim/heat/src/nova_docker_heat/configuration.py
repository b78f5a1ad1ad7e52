"""The properties of the resource, as Docker's API takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nova_docker_heat import schema
from nova_docker_heat.engine import LABEL

Json = dict[str, Any]
Properties = Mapping[str, Any]

_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?", re.IGNORECASE)


class Mistake(Exception):
    """A value that is wrong; the message names the property."""


def container(client: Any, properties: Properties, resource: str) -> Json:
    """What makes the container. Raises Mistake."""
    bindings = port_bindings(properties[schema.PORT_BINDINGS] or {})
    ports = [*(port(schema.PORT_SPECS, text) for text in properties[schema.PORT_SPECS] or []), *bindings]
    made: Json = client.create_container_config(
        image=properties[schema.IMAGE],
        command=properties[schema.CMD] or None,
        hostname=properties[schema.HOSTNAME],
        user=properties[schema.USER] or None,
        detach=True,
        stdin_open=properties[schema.OPEN_STDIN],
        tty=properties[schema.TTY],
        ports=[tuple(each.split("/")) for each in dict.fromkeys(ports)],
        environment=properties[schema.ENV] or [],
        labels={LABEL: resource},
        host_config=_host(client, properties, bindings),
    )
    # docker derives it from whether somebody is attached.
    made["StdinOnce"] = properties[schema.STDIN_ONCE]
    return made


def _host(client: Any, properties: Properties, bindings: Json) -> Json:
    devices = [] if properties[schema.PRIVILEGED] else properties[schema.DEVICES] or []
    made: Json = client.create_host_config(
        privileged=properties[schema.PRIVILEGED],
        binds=_binds(properties[schema.VOLUMES] or {}),
        volumes_from=[each for each in (properties[schema.VOLUMES_FROM] or "").split(",") if each] or None,
        port_bindings=bindings,
        links=[(str(name), str(alias)) for name, alias in (properties[schema.LINKS] or {}).items()],
        dns=properties[schema.DNS] or None,
        cap_add=properties[schema.CAP_ADD] or None,
        cap_drop=properties[schema.CAP_DROP] or None,
        read_only=properties[schema.READ_ONLY],
        cpu_shares=properties[schema.CPU_SHARES] or None,
        cpuset_cpus=properties[schema.CPU_SET],
        mem_limit=properties[schema.MEMORY] or None,
        restart_policy=restart_policy(properties),
        devices=[_device(each) for each in devices],
    )
    return made


def restart_policy(properties: Properties) -> Json | None:
    said = properties[schema.RESTART_POLICY] or {}
    name = said.get(schema.POLICY_NAME)
    if not name:
        return None
    most = said.get(schema.POLICY_COUNT) or 0
    return {"Name": name, "MaximumRetryCount": most if name == "on-failure" else 0}


def port(where: str, text: object) -> str:
    """`80` or `80/udp` as Docker writes it. Raises Mistake."""
    match = _PORT.fullmatch(str(text))
    if match is None or not 0 < int(match[1]) < 65536:
        more = f"; {schema.PORT_BINDINGS} says which port of the host it gets" if ":" in str(text) else ""
        raise Mistake(f"{where}: {str(text)[:100]!r} is no port of the container, as 80 or 53/udp{more}")
    return f"{int(match[1])}/{(match[2] or 'tcp').lower()}"


def port_bindings(said: Mapping[Any, Any]) -> Json:
    """Where the host listens for each port: `8080`, `192.0.2.1:8080`, nothing for any, or a list. Raises Mistake."""
    made: Json = {}
    for inside, outside in said.items():
        places = outside if isinstance(outside, list) else [outside]
        made[port(schema.PORT_BINDINGS, inside)] = [_place(inside, each) for each in places]
    return made


def _place(inside: object, text: object) -> Any:
    if text in (None, ""):
        return None
    address, _, number = str(text).rpartition(":")
    if not (number.isascii() and number.isdigit() and int(number) < 65536):
        raise Mistake(
            f"{schema.PORT_BINDINGS}: {inside}: {str(text)[:100]!r} is neither a port of the host nor ADDRESS:PORT"
        )
    return (address.strip("[]"), int(number)) if address else int(number)


def _binds(said: Mapping[str, Any]) -> Json:
    """`{SOURCE: PATH}`, or `{SOURCE: {bind: PATH, ro: true}}`, as Docker's library takes it. Raises Mistake."""
    made: Json = {}
    for source, target in said.items():
        bind = target if isinstance(target, Mapping) else {"bind": target}
        path = bind.get("bind")
        if not (isinstance(path, str) and path.startswith("/")):
            raise Mistake(f"{schema.VOLUMES}: {source}: say the path in the container, or bind: PATH and ro: true")
        mode = bind.get("mode") or ("ro" if str(bind.get("ro", "false")).lower() == "true" else "rw")
        made[source] = {"bind": path, "mode": str(mode)}
    return made


def _device(said: Mapping[str, str]) -> str:
    on_host = said[schema.DEVICE_ON_HOST]
    inside = said.get(schema.DEVICE_IN_CONTAINER) or on_host
    return f"{on_host}:{inside}:{said.get(schema.DEVICE_PERMISSIONS) or 'rwm'}"


def limits(properties: Properties, changed: Mapping[str, Any]) -> Json | None:
    """What Docker's update takes for properties that have changed; None where it cannot take one back."""
    made: Json = {}
    for name, word in ((schema.CPU_SHARES, "cpu_shares"), (schema.CPU_SET, "cpuset_cpus")):
        if name in changed:
            made[word] = properties[name]
    if schema.MEMORY in changed:
        made["mem_limit"] = properties[schema.MEMORY]
        # As Docker has it for a new container; without, it refuses more memory than memory and swap of before.
        made["memswap_limit"] = (properties[schema.MEMORY] or 0) * 2
    if schema.RESTART_POLICY in changed:
        made["restart_policy"] = restart_policy(properties) or {"Name": "no", "MaximumRetryCount": 0}
    return made if all(made.values()) else None
