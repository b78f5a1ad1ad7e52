"""What becomes of Compose files before any cloud is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from nova_docker_compose.errors import ComposeError
from nova_docker_compose.loader import Request, load
from nova_docker_compose.project import Project

FILES = Path(__file__).parent / "files"
Loaded = Callable[..., Project]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """Loads compose.yaml of this content, with these files beside it."""

    def load_text(
        text: str | bytes, environment: dict[str, str] | None = None, beside: dict[str, str] | None = None, **more: Any
    ) -> Project:
        for name, content in {"compose.yaml": text, **(beside or {})}.items():
            data = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        return load(Request(project_name="p", environment=environment or {}, here=tmp_path, **more))

    return load_text


def refusal(loaded: Loaded, *arguments: Any, **more: Any) -> str:
    with pytest.raises(ComposeError) as caught:
        loaded(*arguments, **more)
    return str(caught.value)


def _without_nothing(model: Any) -> Any:
    """docker-compose prints some keys that nobody has set."""
    if isinstance(model, dict):
        inner = {key: _without_nothing(value) for key, value in model.items()}
        return {key: value for key, value in inner.items() if (key, value) not in NOTHING}
    return [_without_nothing(item) for item in model] if isinstance(model, list) else model


NOTHING = [("command", None), ("entrypoint", None), ("ipam", {})]


@pytest.mark.parametrize("folder", ["keys", "merged", "included", "more"])
def test_config_is_what_docker_compose_makes_of_the_same_files(folder: str) -> None:
    project = load(Request(environment={"HOME": "/nowhere"}, here=FILES / folder))
    expected = json.loads((FILES / folder / "expected.json").read_text().replace("@HERE@", str(FILES / folder)))
    assert _without_nothing(json.loads(project.as_json())) == _without_nothing(expected)


@pytest.mark.parametrize("folder", ["keys", "merged", "included", "more"])
def test_what_config_prints_is_read_again_as_the_same(folder: str, tmp_path: Path) -> None:
    project = load(Request(environment={}, here=FILES / folder))
    printed = tmp_path / "printed.yaml"
    for text in (project.as_yaml(), project.as_json()):
        printed.write_text(text)
        again = load(Request(files=[str(printed)], environment={}, here=tmp_path))
        assert again.canonical() == project.canonical()


def test_a_fig_yml_of_2014_is_read_as_todays_file(tmp_path: Path) -> None:
    (tmp_path / "fig.yml").write_text(
        "web:\n  build: .\n  image: app\n  command: python app.py\n  links:\n   - db\n  ports:\n   - '8000:8000'\n"
        "  net: bridge\n  volumes: [data:/d]\ndb:\n  image: orchardup/postgresql\n  environment: [A=b]\n"
    )
    project = load(Request(project_name="p", environment={}, here=tmp_path))
    web = project.services["web"]
    assert (web["command"], web["links"], web["network_mode"]) == (["python", "app.py"], ["db"], "bridge")
    assert web["ports"] == [{"mode": "ingress", "protocol": "tcp", "target": 8000, "published": "8000"}]
    assert project.order() == ["db", "web"]
    assert project.networks == {"default": {"name": "p_default"}}
    assert project.volumes == {"data": {"name": "data"}}


def test_a_mistake_in_a_fig_yml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "fig.yml").write_text("web:\n  image: app\n  portz: [80]\n")
    with pytest.raises(ComposeError, match=r"fig.yml:3: services.web.portz: there is no such key; is ports meant\?"):
        load(Request(project_name="p", environment={}, here=tmp_path))


def test_every_mistake_of_a_file_is_told_with_file_line_service_and_key(loaded: Loaded) -> None:
    told = refusal(
        loaded,
        "services:\n  web:\n    image: [a]\n  db:\n    image: x\n    ports: ['99999:1']\n  c:\n    privileged: maybe\n"
        "    image: y\nnetworks:\n  n: {subnet: 1}\nservice: {}\n",
    )
    assert [line.partition("compose.yaml")[2] for line in told.splitlines()] == [
        ":3: services.web.image: it is a list, and must be a text",
        ":6: services.db.ports.0: a port is a number from 1 to 65535",
        ":8: services.c.privileged: it is a text, and must be true or false",
        ":11: networks.n.subnet: there is no such key",
        ":12: service: there is no such key at the top of a Compose file; is services meant?",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${V}", "v"),
        ("a$V-b", "av-b"),
        ("$$V", "$V"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NONE-d}", "d"),
        ("${NONE:-${ALSO:-$V}}", "v"),
        ("${V:+there}", "there"),
        ("${EMPTY:+there}", ""),
        ("${EMPTY+there}", "there"),
        ("${V?must}", "v"),
        ("${EMPTY?must}", ""),
        ("${V:-${NONE?must}}", "v"),
        ("5$ and $1", "5$ and $1"),
    ],
)
def test_variables_are_filled_in_as_the_specification_says(loaded: Loaded, text: str, value: str) -> None:
    project = loaded(f"services: {{a: {{image: x, user: '{text}'}}}}", {"V": "v", "EMPTY": ""})
    assert project.services["a"]["user"] == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${NONE:?give it}", "the variable NONE must be set: give it"),
        ("${EMPTY:?}", "the variable EMPTY must be set"),
        ("${V", "V has no closing brace"),
        ("${}", "not followed by a name"),
        ("${V/a/b}", "no operator of Compose"),
        ("${V:-" * 30 + "}" * 30, "more than 20 levels"),
    ],
)
def test_a_variable_that_cannot_be_filled_in_is_a_mistake(loaded: Loaded, text: str, problem: str) -> None:
    told = refusal(loaded, f"services: {{a: {{image: x, user: '{text}'}}}}", {"V": "v", "EMPTY": ""})
    assert "services.a.user" in told
    assert problem in told


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("services:\n\tweb: {image: x}\n", ":2: the line is indented by a tab; YAML wants spaces"),
        ("services:\n  web:\n \t  image: x\n", ":3: the line is indented by a tab; YAML wants spaces"),
        ("services:\n  web:\n    image: x\n     ports: [80]\n", ":4: mapping values are not allowed in this context:"),
        ("services:\n  web:\n    image: x\n    command: echo a: b\n", "A text that has ': ' needs quotes"),
    ],
)
def test_the_usual_mistakes_of_yaml_are_told_in_plain_words(loaded: Loaded, text: str, problem: str) -> None:
    assert problem in refusal(loaded, text)


def test_keys_are_not_interpolated_and_unset_variables_are_warned_about(loaded: Loaded) -> None:
    project = loaded("services: {a: {image: x, labels: {$V: '$W'}}}", {"V": "v"})
    assert project.services["a"]["labels"] == {"$V": ""}
    assert "the variable W is not set" in project.warnings[0]


ENV = r"""
# a comment
PLAIN=VAL # comment
HASH=VAL# not a comment
QUOTED="VAL # not a comment" # comment
SINGLE='$OTHER ${OTHER}'
ESCAPED='Let\'s go!'
JSON="{\"hello\": \"json\"}"
TABS="some\tvalue"
RAW='some\tvalue'
BARE=some\tvalue
EMPTY=
export EXPORTED=yes
USES=${PLAIN}-$OUTSIDE
LINES="one
two"
NAMED
"""


def test_a_file_of_variables_is_read_as_the_specification_says(loaded: Loaded) -> None:
    project = loaded(
        "services: {a: {image: x, env_file: ./v.env, environment: {BARE: mine, ALSO: }}}",
        {"OUTSIDE": "o", "ALSO": "also"},
        {"v.env": ENV},
    )
    assert project.services["a"]["environment"] == {
        "PLAIN": "VAL",
        "HASH": "VAL# not a comment",
        "QUOTED": "VAL # not a comment",
        "SINGLE": "$OTHER ${OTHER}",
        "ESCAPED": "Let's go!",
        "JSON": '{"hello": "json"}',
        "TABS": "some\tvalue",
        "RAW": "some\\tvalue",
        "BARE": "mine",
        "EMPTY": "",
        "EXPORTED": "yes",
        "USES": "VAL-o",
        "LINES": "one\ntwo",
        "NAMED": None,
        "ALSO": "also",
    }


def test_a_raw_file_of_variables_is_taken_as_it_is(loaded: Loaded) -> None:
    project = loaded(
        "services: {a: {image: x, env_file: [{path: v.env, format: raw}, {path: none, required: false}]}}",
        beside={"v.env": "A='b' $C # d\n"},
    )
    assert project.services["a"]["environment"] == {"A": "'b' $C # d"}


@pytest.mark.parametrize("content", ["no value here\n", "A='open\n", 'A="b" c\n', "=x\n", "A=${B?no}\n"])
def test_a_bad_line_in_a_file_of_variables_is_told_with_the_file(loaded: Loaded, content: str) -> None:
    told = refusal(loaded, "services: {a: {image: x, env_file: v.env}}", beside={"v.env": content})
    assert "v.env: line 1: " in told


def test_the_environment_wins_over_the_file_of_variables_beside_the_compose_file(loaded: Loaded) -> None:
    project = loaded("services: {a: {image: '$A$B'}}", {"A": "outer"}, {".env": "A=inner\nB=b\n"})
    assert project.services["a"]["image"] == "outerb"


def test_scalars_are_those_of_yaml_1_2(loaded: Loaded) -> None:
    project = loaded(
        "services: {a: {image: x, ports: [22:22], restart: no, environment: {A: on, B: 1_0, C: !!str 5, D: 0.50},"
        " secrets: [{source: s, mode: 0440}]}}\nsecrets: {s: {file: s}}"
    )
    service = project.services["a"]
    assert service["ports"][0]["published"] == "22"
    assert service["restart"] == "no"
    assert service["environment"] == {"A": "on", "B": "10", "C": "5", "D": "0.5"}
    assert service["secrets"][0]["mode"] == 0o440


def test_anchors_and_merge_keys_work(loaded: Loaded) -> None:
    project = loaded(
        "x-a: &a {image: x, user: u}\nx-b: &b {user: v, tty: true}\n"
        "services: {a: {<<: [*a, *b], init: true}, b: {<<: *a, user: w}}"
    )
    assert {**project.services["a"], "networks": 0} == {
        "image": "x",
        "user": "u",
        "tty": True,
        "init": True,
        "networks": 0,
    }
    assert project.services["b"]["user"] == "w"


BOMB = "x-a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"x-{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB + "services: {a: {image: x}}", "more than 50000 parts"),
        ("a: " * 3 + "&x [*x]", "mapping values"),
        ("x-a: &x [*x]\nservices: {a: {image: x}}", "an alias stands within what it stands for"),
        ("x-a: " + "[" * 100, "more than 64 levels"),
        # Newer releases of PyYAML have a bound of their own.
        ("x-a: " + "[" * 5000, "level"),
        ("services: {a: {image: x, image: y}}", "services.a.image: the key is there twice, again on line 1"),
        ("services: {a: {image: x}}\n---\nservices: {}", "expected a single document in the stream"),
        ("services: {a: {image: !!python/object:os.system x}}", "the tag tag:yaml.org,2002:python/object:os.system"),
        ("services: {a: {? [x] : y}}", "a key is no text"),
        ('services: {a: {image: "\\0"}}', "it has a zero byte"),
        (b"services: {a: {image: \xff}}", "compose.yaml: a character is no UTF-8"),
        ("#" * 1_100_000, "more than 1048576 bytes"),
        ("- a", "it is a list, and must be a map with services"),
        ("", "it is nothing"),
        ("services: {}", "there are no services"),
        ("services: {" + ", ".join(f"s{number}: {{image: x}}" for number in range(1001)) + "}", "more than 1000"),
        ("services: {a/b: {image: x}}", "services.a/b: a name has 1 to 63 letters"),
        ("services: {a: {image: x, ports: ['1-60000:1-60000']}}", "more than 1000 ports"),
        ("services: {a: {image: x, cpu_quota: 1e400}}", "services.a.cpu_quota: it is larger than any number"),
        ("services: {a: {image: x, ports: ['90-10:80']}}", "90-10 ends before it begins"),
        ("services: {a: {image: x, post_start: [{command: ''}]}}", "services.a.post_start.0.command: it is empty"),
        ("services: {a: {image: x, cpus: " + "9" * 5000 + "}}", "services.a.cpus: it is a text, and must be a number"),
    ],
)
def test_hostile_files_are_refused(loaded: Loaded, text: str | bytes, problem: str) -> None:
    assert problem in refusal(loaded, text)


def test_a_long_chain_of_services_is_put_in_order(loaded: Loaded) -> None:
    chain = [f"s{number}: {{image: x, depends_on: [s{number + 1}]}}" for number in range(999)]
    project = loaded("services: {" + ", ".join([*chain, "s999: {image: x}"]) + "}")
    assert project.order() == [f"s{number}" for number in range(999, -1, -1)]


def test_a_thousand_mistakes_are_told_in_bounds(loaded: Loaded) -> None:
    told = refusal(loaded, "services:\n" + "".join(f"  s{number}: {{imag: x}}\n" for number in range(1000)))
    assert len(told.splitlines()) == 51
    assert told.endswith("and 950 more")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("services: {a: {image: x, extends: b}, b: {image: x, extends: a}}", "in a circle"),
        ("services: {a: {image: x, extends: c}}", "services.a.extends: there is no service c in "),
        ("services: {a: {image: x, depends_on: [b]}, b: {image: x, links: [a]}}", "in a circle: a, b"),
        ("services: {a: {image: x, depends_on: [b]}}", "services.a.depends_on: there is no service b"),
        ("services: {a: {image: x, networks: [n]}}", "services.a.networks: there is no n below networks"),
        ("services: {a: {image: x, volumes: ['v:/v']}}", "services.a.volumes: there is no v below volumes"),
        ("services: {a: {image: x, secrets: [s]}}", "services.a.secrets: there is no s below secrets"),
        ("services: {a: {image: x, configs: [c]}}\nconfigs: {c: {}}", "configs.c: it needs one of file"),
        ("services: {a: {tty: true}}", "services.a: it has neither image nor build"),
        ("services: {a: {image: x, scale: 2, deploy: {replicas: 3}}}", "scale and deploy.replicas"),
        ("services: {a: {image: x, scale: 2, container_name: c}}", "several replicas cannot have one name"),
        ("services: {a: {image: x, env_file: none.env}}", "none.env: there is no such file"),
        ("include: [compose.yaml]\nservices: {a: {image: x}}", "included by itself"),
    ],
)
def test_what_does_not_fit_together_is_refused(loaded: Loaded, text: str, problem: str) -> None:
    assert problem in refusal(loaded, text)


PROFILES = """
services:
  foo: {image: foo}
  bar: {image: bar, profiles: [test]}
  baz: {image: baz, depends_on: [bar], profiles: [test]}
  zot: {image: zot, depends_on: [bar], profiles: [debug]}
"""


@pytest.mark.parametrize(
    ("profiles", "services", "enabled"),
    [
        ([], [], ["foo"]),
        (["test"], [], ["foo", "bar", "baz"]),
        (["test", "debug"], [], ["foo", "bar", "baz", "zot"]),
        ([], ["bar"], ["foo", "bar", "baz"]),
        (["test"], ["zot"], ["foo", "bar", "baz", "zot"]),
    ],
)
def test_profiles_enable_what_the_specification_s_example_says(
    loaded: Loaded, profiles: list[str], services: list[str], enabled: list[str]
) -> None:
    assert list(loaded(PROFILES, profiles=profiles, services=services).services) == enabled


def test_a_profile_whose_services_need_another_s_is_refused(loaded: Loaded) -> None:
    assert "no active profile has the service bar" in refusal(loaded, PROFILES, profiles=["debug"])


def test_the_project_s_name_is_the_option_s_the_environment_s_the_file_s_or_the_directory_s(tmp_path: Path) -> None:
    folder = tmp_path / "My App_1"
    folder.mkdir()
    file = folder / "compose.yaml"
    file.write_text("services: {a: {image: '$COMPOSE_PROJECT_NAME'}}")

    def name(environment: dict[str, str], option: str | None = None) -> str:
        project = load(Request(project_name=option, environment=environment, here=folder))
        assert project.services["a"]["image"] == project.name
        return project.name

    assert name({}) == "myapp_1"
    file.write_text("name: $N\nservices: {a: {image: '$COMPOSE_PROJECT_NAME'}}")
    assert name({"N": "from-file"}) == "from-file"
    assert name({"N": "x", "COMPOSE_PROJECT_NAME": "outer"}) == "outer"
    assert name({"N": "x", "COMPOSE_PROJECT_NAME": "outer"}, "given") == "given"
    with pytest.raises(ComposeError, match="must have at most 41 small letters"):
        name({}, "Not So")


def test_files_are_found_above_and_named_by_the_environment(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "compose.yaml").write_text("services: {a: {image: x}}")
    (tmp_path / "other.yaml").write_text("services: {a: {user: u}}")
    assert load(Request(environment={}, here=below)).directory == tmp_path
    both = load(Request(environment={"COMPOSE_FILE": "compose.yaml:other.yaml"}, here=tmp_path))
    assert (both.services["a"]["image"], both.services["a"]["user"]) == ("x", "u")
    with pytest.raises(ComposeError, match=r"nothere.yaml: there is no such file"):
        load(Request(files=["nothere.yaml"], environment={}, here=tmp_path))


def test_yaml_that_config_prints_reads_the_same_with_yaml_1_1(loaded: Loaded) -> None:
    environment = {"A": "no", "B": "1e3", "C": "22:22", "D": "0x1f", "E": "two\nlines", "F": "~", "G": "", "H": "y"}
    project = loaded(f"services: {{a: {{image: x, environment: {json.dumps(environment)}}}}}")
    assert yaml.safe_load(project.as_yaml())["services"]["a"]["environment"] == environment
