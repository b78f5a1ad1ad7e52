"""What loosens the hold on a container: what a service asks for, what a flavor gives, and what it lets users choose.

As the agent reads it of extra specifications `docker:KEY` and `docker:allow`.
"""

from __future__ import annotations

import re
from typing import Any

Asked = dict[str, list[str]]
"""What is asked for by the agent's keys, each thing in one spelling."""

Specs = dict[str, Any]

_LISTS = ("cap_add", "device_cgroup_rules", "devices", "security_opt")
_SINGLE = ("gpus", "no_new_privileges", "privileged", "runtime")
KEYS = (*_LISTS, *_SINGLE)
_EVERY_CAPABILITY = "ALL"
_CAPABILITIES = 41
"""How many Linux has."""
_WORDS = {**dict.fromkeys(("yes", "on", "1"), "true"), **dict.fromkeys(("no", "off", "0"), "false")}
_WITHOUT = {"no_new_privileges": "true", "privileged": "false"}
"""What a flavor gives that says nothing of it: the tight side."""
_PERMISSIONS = re.compile("r?w?m?")
_OPTION = re.compile(
    r"(seccomp|systempaths)=unconfined|apparmor=[^=]+|label=(disable|(user|role|type|level|filetype):.+)"
)


def asked_of(service: dict[str, Any], problems: list[str]) -> Asked:
    """What a service asks for; what no flavor could give is added to the problems."""
    made: Asked = {
        "cap_add": [_spelled("cap_add", each) for each in service.get("cap_add", [])],
        "device_cgroup_rules": [
            _spelled("device_cgroup_rules", each) for each in service.get("device_cgroup_rules", [])
        ],
        "devices": _devices(service, problems),
        "gpus": _gpus(service, problems),
        "privileged": ["true"] if service.get("privileged") else [],
        "runtime": [service["runtime"]] if service.get("runtime") else [],
    }
    for option in service.get("security_opt", []):
        spelled = _spelled("security_opt", option)
        name, _, value = spelled.partition("=")
        if name == "no-new-privileges":
            made["no_new_privileges"] = [_spelled("no_new_privileges", value or "true")]
        elif _OPTION.fullmatch(spelled):
            made.setdefault("security_opt", []).append(spelled)
        else:
            problems.append(f"security_opt: {option} cannot be had: the agent does not take it")
    return {key: items for key, items in made.items() if items}


def _devices(service: dict[str, Any], problems: list[str]) -> list[str]:
    made = []
    for each in service.get("devices", []):
        source = each["source"]
        path = each.get("target") or source
        access = "".join(sorted(set(each.get("permissions") or "rwm"), key="rwm".find))
        if ":" in source + path or not (source.startswith("/dev/") and path.startswith("/dev/")):
            problems.append(
                f"devices: {source}:{path} cannot be had: a device is below /dev, without a colon in its name"
            )
        elif not _PERMISSIONS.fullmatch(access):
            problems.append(f"devices: {source}: permissions are of r, w and m, and not {each['permissions']}")
        else:
            made.append(f"{source}:{path}:{access}")
    return made


def _gpus(service: dict[str, Any], problems: list[str]) -> list[str]:
    reserved = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices") or []
    where = "gpus" if service.get("gpus") else "deploy.resources.reservations.devices"
    said = service.get("gpus") or []
    wanted = [*([{}] if said == "all" else said), *reserved]
    if not wanted:
        return []
    one = wanted[0]
    if len(wanted) > 1 or one.get("options") or one.get("driver") not in (None, "", "nvidia"):
        problems.append(f"{where}: it cannot be had: only one entry, of the driver nvidia, without options, can")
        return []
    if set(one.get("capabilities") or ["gpu"]) != {"gpu"}:
        problems.append(f"{where}: it cannot be had: only the capability gpu can")
        return []
    if one.get("device_ids"):
        if "count" in one:
            problems.append(f"{where}: a count and device_ids exclude each other")
        return [f"device={','.join(one['device_ids'])}"]
    count = one.get("count", "all")
    return ["all" if count in ("all", -1) else str(count)]


def choices(asked: Asked, specs: Specs) -> dict[str, Any]:
    """What a server has to say of it, as the agent reads it: what the flavor does not give by itself."""
    left = {key: [item for item in items if not _gives(specs, key, item)] for key, items in asked.items()}
    return {key: items if key in _LISTS else _plain(items[0]) for key, items in left.items() if items}


def not_had(asked: Asked, specs: Specs) -> list[str]:
    """What a flavor neither gives nor lets users choose, for an error."""
    allowed = _allowed(str(specs.get("docker:allow", "")))
    return [
        f"{key} {item}"
        for key, items in asked.items()
        for item in items
        if not _gives(specs, key, item) and not any(_covers(key, each, item) for each in allowed.get(key, []))
    ]


def unasked(asked: Asked, specs: Specs) -> int:
    """How many privileges a flavor gives that nobody has asked for; every capability is one."""
    mounts = sum(key.startswith("docker:host_mount:") for key in specs)
    return mounts + sum(_more(key, given, asked.get(key, [])) for key in KEYS for given in _given(specs, key))


def _more(key: str, given: str, asked: list[str]) -> int:
    if given in asked or given == _WITHOUT.get(key):
        return 0
    if key == "cap_add" and given == _EVERY_CAPABILITY:
        return _CAPABILITIES
    return 0 if any(_covers(key, given, item) for item in asked) else 1


def _plain(item: str) -> Any:
    return {"true": True, "false": False}.get(item, item)


def _gives(specs: Specs, key: str, item: str) -> bool:
    for given in _given(specs, key):
        same_place = key != "devices" or given.split(":")[1] == item.split(":")[1]
        if same_place and _covers(key, given, item):
            return True
    return False


def _allowed(text: str) -> dict[str, list[str | None]]:
    """What users may choose of each key; None is all that it takes."""
    made: dict[str, list[str | None]] = {}
    for written in filter(None, (each.strip() for each in text.split(","))):
        key, colon, value = written.partition(":")
        made.setdefault(key, []).append(_spelled(key, value) if colon else None)
    return made


def _covers(key: str, allowed: str | None, item: str) -> bool:
    if allowed is None or allowed == item:
        return True
    if key == "cap_add":
        return allowed == _EVERY_CAPABILITY
    if key == "devices":
        (host, _, most), (wanted, _, access) = allowed.split(":"), item.split(":")
        return host == wanted and set(access) <= set(most)
    return False


def _given(specs: Specs, key: str) -> list[str]:
    """What a flavor's extra specification gives."""
    text = str(specs.get(f"docker:{key}", _WITHOUT.get(key, "")))
    separators = "," if key == "device_cgroup_rules" else "[, ]"
    words = re.split(separators, text) if key in _LISTS else [text]
    return [_spelled(key, each) for each in words if each.strip()]


def _spelled(key: str, word: str) -> str:
    """The one spelling of a thing."""
    word = word.strip()
    if key == "cap_add":
        return word.upper().removeprefix("CAP_")
    if key == "device_cgroup_rules":
        return " ".join(word.split())
    if key == "security_opt":
        return re.sub("[=:]", "=", word, count=1)
    if key == "devices":
        host, *rest = word.split(":")
        path = rest.pop(0) if rest and rest[0].startswith("/") else host
        return ":".join([host, path, rest[0] if rest else "rwm"])
    if key in _WITHOUT:
        return _WORDS.get(word.lower(), word.lower())
    if key == "gpus" and word.isdecimal():
        return str(int(word))
    return word
