"""What nova-api says of a flavor's `docker:` keys, beside what the agent says (extra_specs.json, which it wrote)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nova import exception
from nova.api.validation.extra_specs import validators
from nova_docker import extra_specs

AGENT = json.loads(Path(__file__).with_name("extra_specs.json").read_text(encoding="utf-8"))
SPECS = {spec["key"]: spec for spec in json.loads(extra_specs._FILE.read_text(encoding="utf-8"))}
# What only the agent sees, and so only the launch refuses: the insides of JSON and addresses, what is said twice, in
# the wrong order, or is too much.
HUGE = {"9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "9" * 41}
IDS = {"2147483648", "4294967295", *HUGE}
LET_THROUGH = {
    "allow": {"cap_add:", "cap_add:NOTHING"},
    "command": {"[]", "[1]"},
    "device_cgroup_rules": {"c 1:99999999 r"},
    "dns": {"a:b:c", "256.1.1.1", "1:2:3"},
    "entrypoint": {"'' a", "[1]"},
    "group_add": IDS,
    "healthcheck": {'{"test": 1}'},
    "host:TZ": {"a:b:c", "256.1.1.1", "1:2:3"},
    "logging:max-size": {" 7 ", "+1", "+5", "007", "064", "1", "1000", "1001", "1kb", "500", "65", "\xa05\xa0"},
    "security_opt": {"label=nothing"},
    "shm_size": HUGE,
    "stop_grace_period": {"2147483647", *IDS, "256m", "2h"},
    "ulimit:nofile": {"4294967296:1", "4096:1024"},
    "user": {*IDS, "4294967296:1"},
    "volumes": {"18446744073709551616", "9" * 41},
}


def refusal(key, value):
    """Nova's words; none when it takes the value."""
    try:
        validators.validate(f"docker:{key}", value)
    except exception.ValidationError as error:
        assert error.code == 400
        return error.format_message()
    return None


def asked():
    """Each key, with a good name if it takes one, and the values that the agent takes."""
    return {key: set(taken) for key, taken in AGENT.items() if key not in ("values", "names") and not key.endswith(":")}


def test_what_the_agent_takes_is_never_refused():
    wrong = [(key, value) for key, taken in asked().items() for value in taken if refusal(key, value) is not None]
    wrong += [(key, name) for key in AGENT if key.endswith(":") for name in AGENT[key] if wrongly_named(key, name)]
    assert wrong == []


def wrongly_named(key, name):
    [example] = [full for full in asked() if full.startswith(key)]
    value = next(iter(asked()[example]))
    # Nova takes no newline in a name.
    return "\n" not in name and "a wrong name" in (refusal(key + name, value) or "")


def test_the_names_that_the_agent_refuses_are_refused():
    for key in (key for key in AGENT if key.endswith(":")):
        for name in set(AGENT["names"]) - set(AGENT[key]):
            assert refusal(key + name, "1") is not None or len(name) > 63, key + name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pids_limit", "abc"),
        ("pids_limit", "0"),
        ("oom_score_adj", "1001"),
        ("oom_score_adj", "-1"),
        ("init", "perhaps"),
        ("cap_add", "NET_RAW NOTHING"),
        ("stop_signal", "SIGNOPE"),
        ("restart", "on-failure:0"),
        ("shm_size", "1t"),
        ("stop_grace_period", "1d"),
        ("user", "a b"),
        ("volume:data", "/proc"),
        ("volume:data", "/data/../etc"),
        ("volumes", "-1"),
        ("ulimit:nofile", "infinity"),
        ("command", "sh -c 'a"),
        ("console_shell", "zsh"),
        ("dns", "1.2.3"),
        ("group_add", "audio;44"),
        ("sysctl:net.core.somaxconn", ""),
        ("working_dir", "srv"),
        ("allow", "cap_add, cap_drop"),
        ("devices", "/etc/shadow"),
        ("device_cgroup_rules", "d 1:1 r"),
        ("gpus", "some"),
        ("host_mount:data", "/proc"),
        ("logging:max-size", "0"),
        ("privileged", "perhaps"),
        ("runtime", "../crun"),
        ("security_opt", "no-new-privileges:false"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed_and_never_repeated(key, value):
    name = key if key in SPECS else key.partition(":")[0] + ":"
    assert refusal(key, value) == (
        f"Validation failed; docker:{key} has a wrong value (allowed: {SPECS[name]['allowed']})."
    )


def test_a_wrong_name_after_the_colon_is_refused_with_what_is_allowed():
    for key in ("ulimit:files", "sysctl:kernel.hostname", "label:com.docker.x", "env:", "host:-a", "volume:_a"):
        said = refusal(key, "1")
        assert said.startswith(f"Validation failed; docker:{key} has a wrong name after its colon (allowed: "), said


def test_a_key_that_nobody_knows_or_that_is_not_for_flavors_is_refused():
    assert refusal("pid_limit", "1") == (
        "Validation failed; extra spec 'docker:pid_limit' does not appear to be a valid extra spec."
    )
    assert refusal("remove_volumes", "true") == (
        "Validation failed; docker:remove_volumes: only server metadata can set it."
    )
    assert refusal("secret:a", "x") == "Validation failed; docker:secret:a: only a service in user data can set it."


def test_a_number_is_refused_where_it_is_too_small_or_great_and_only_there():
    for value in ("0", "+1000", " 500 "):
        assert refusal("oom_score_adj", value) is None, value


def test_everything_that_the_agent_refuses_is_refused_but_what_only_it_can_see():
    assert sum(len(asked()[key]) for key in asked()) > 500
    let_through = {}
    for key, taken in asked().items():
        name = key if key in SPECS else key.partition(":")[0] + ":"
        found = {value for value in AGENT["values"] if value not in taken and refusal(key, value) is None}
        if key == "tmpfs":
            # Words with quotes, and lists, are not looked into.
            found = {value for value in found if not re.search(r"['\"\\#\[]", value)} - {"/run /run"}
        if found and "value" in SPECS[name]:
            let_through[key] = found
    assert let_through == LET_THROUGH


def test_nova_api_loads_nothing_of_the_driver_with_it():
    script = """
import sys
from nova.api.validation.extra_specs import validators
assert "docker:pids_limit" in validators.VALIDATORS
print(*sorted(name for name in sys.modules if name.split(".")[0] in ("nova_docker", "h2", "hpack", "google", "grpc")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["nova_docker", "nova_docker._finder", "nova_docker.extra_specs"], done.stderr


@pytest.mark.parametrize("kind", ["image", "flavor", "server"])
def test_the_definitions_for_glance_come_with_the_package(kind):
    definitions = json.loads((extra_specs._FILE.parent / "metadefs" / f"{kind}.json").read_text(encoding="utf-8"))
    assert definitions["visibility"] == "public"
    for name, shown in definitions["properties"].items():
        assert {"title", "description", "type"} <= shown.keys(), name
        assert len(shown["title"]) <= 80, name
        assert shown["type"] in ("string", "integer"), name
