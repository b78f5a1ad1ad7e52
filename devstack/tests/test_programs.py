import shlex
from pathlib import Path

import pytest
from minicloud import agent_build, host
from minicloud import passwords as passwords_module
from minicloud.config import clients, neutron, nova
from minicloud.config.ini import render
from minicloud.layout import EXTRA_SPEC_VALIDATORS, Layout
from minicloud.options import Options, change
from minicloud.passwords import Passwords
from minicloud.programs import environment, programs, uwsgi_files
from minicloud.supervisor import configuration
from minicloud.up import LEFTOVERS

LAYOUT = Layout.at("/srv/cloud/one")
EVERYTHING = Options(extras=("cinder", "heat"), fake_compute=True, agent=True, host="node")


@pytest.fixture
def secrets(tmp_path: Path) -> Passwords:
    return passwords_module.load_or_create(tmp_path / "passwords.json")


def test_no_secret_is_in_any_command_line_or_environment(secrets: Passwords) -> None:
    text = render(configuration(LAYOUT, programs(LAYOUT, EVERYTHING).values()))
    text += "".join(render(ini) for ini in uwsgi_files(LAYOUT, EVERYTHING).values())
    assert not [name for name, value in secrets.items() if value in text]


def test_ovn_takes_the_place_of_neutrons_agents() -> None:
    ovs, ovn = (set(programs(LAYOUT, Options(network=network))) for network in ("ovs", "ovn"))
    assert ovs - ovn == {
        "neutron-rpc",
        "neutron-ovs",
        "neutron-dhcp",
        "neutron-dhcp-watch",
        "neutron-l3",
        "neutron-metadata",
    }
    assert ovn - ovs == {
        "ovn-nb",
        "ovn-sb",
        "ovn-northd",
        "ovn-controller",
        "neutron-ovn-maintenance",
        "neutron-ovn-metadata",
    }


def test_neutron_and_its_metadata_agent_know_the_databases_of_ovn(secrets: Passwords) -> None:
    options = Options(network="ovn")
    commands = {name: " ".join(program.command) for name, program in programs(LAYOUT, options).items()}
    ml2 = neutron.ml2(LAYOUT, options)
    served = {name: ml2["ovn"][f"ovn_{name}_connection"] for name in ("nb", "sb")}
    for name, connection in served.items():
        assert str(connection).removeprefix("unix:") in commands[f"ovn-{name}"]
    assert neutron.ovn_metadata_agent(LAYOUT, secrets)["ovn"]["ovn_sb_connection"] == served["sb"]
    assert (ml2["ml2"]["mechanism_drivers"], ml2["ml2"]["project_network_types"]) == ("ovn", "geneve")
    assert neutron.neutron(LAYOUT, secrets, options)["DEFAULT"]["service_plugins"] == "ovn-router,port_forwarding"
    assert "ovn" not in neutron.ml2(LAYOUT, Options())


def test_each_start_of_neutron_s_api_is_one_of_its_own_to_the_driver_of_ovn(tmp_path: Path) -> None:
    layout, options = Layout(tmp_path), Options(network="ovn")
    uwsgi = uwsgi_files(layout, options)["uwsgi-neutron-api.ini"]["uwsgi"]
    # The parent of the process that loads Neutron names the file with the time of the start.
    assert uwsgi["master"] and uwsgi["lazy-apps"]
    assert "start-time" not in uwsgi
    layout.create()
    kept = Path(environment(layout, programs(layout, options)["neutron-api"])["TMPDIR"])
    assert kept.is_dir()
    # `down` removes it, and so does an `up` after a reboot, when ids of processes begin anew.
    assert kept.parent == layout.run
    assert kept.name in LEFTOVERS


def test_a_cloud_keeps_the_network_that_it_was_made_with(tmp_path: Path) -> None:
    layout, ovs, ovn = Layout(tmp_path), Options(), Options(network="ovn")
    host.check_network(layout, ovs, ovn)
    layout.passwords_file.touch()
    host.check_network(layout, ovn, ovn)
    for before, after in ((ovs, ovn), (ovn, ovs)):
        with pytest.raises(host.UnfitHost, match="down --wipe --keep-cache"):
            host.check_network(layout, before, after)
    with pytest.raises(host.UnfitHost, match="--no-fake-compute"):
        host.check_network(layout, ovn, Options(network="ovn", fake_compute=True))


def test_options_select_programs() -> None:
    plain = set(programs(LAYOUT, Options(agent=False)))
    assert set(programs(LAYOUT, Options(agent=True))) - plain == {"nova-docker-agent", "registry"}
    assert set(programs(LAYOUT, Options(agent=False, fake_compute=True))) - plain == {
        "nova-compute-fake",
        "neutron-ovs-fake",
    }
    assert set(programs(LAYOUT, Options(door="grpc"))) - plain == {"nova-docker-agent", "registry", "nova-compute"}
    extra = set(programs(LAYOUT, Options(agent=False, extras=("cinder", "heat")))) - plain
    assert extra == {"heat-api", "heat-api-cfn", "heat-engine", "cinder-api", "cinder-scheduler", "cinder-volume"}


@pytest.mark.parametrize("door", ["amqp", "grpc"])
def test_what_runs_from_the_directory_of_programs_is_built_and_restarts_when_it_is_new(door: str) -> None:
    runs = {name: Path(program.command[0]) for name, program in programs(LAYOUT, Options(door=door)).items()}
    ours = {name: path for name, path in runs.items() if path.parent == LAYOUT.bin}
    assert {name: path.name for name, path in ours.items()} == {
        "nova-docker-agent": "nova-docker-agent",
        "registry": "nova-docker-registry",
    }
    for name, path in ours.items():
        assert path.name in agent_build.BINARIES
        assert path in programs(LAYOUT, Options(door=door))[name].files


def test_every_program_is_supervised_and_none_starts_by_itself() -> None:
    wanted = programs(LAYOUT, EVERYTHING)
    conf = configuration(LAYOUT, wanted.values())
    sections = {name.partition(":")[2]: section for name, section in conf.items() if name.startswith("program:")}
    assert sections.keys() == wanted.keys()
    assert not [name for name, section in sections.items() if section["autostart"]]


def test_a_changed_file_changes_the_environment_and_so_restarts_the_program(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.etc.mkdir()
    config = layout.etc / "docker-daemon.json"
    config.write_text("{}")
    program = programs(layout, Options())["dockerd"]
    before = environment(layout, program)
    assert environment(layout, program) == before
    config.write_text('{"debug": true}')
    assert environment(layout, program) != before


def test_nova_api_restarts_when_what_it_knows_of_flavors_has_changed() -> None:
    files = programs(LAYOUT, Options())["nova-api"].files
    assert all(path.exists() and path in files for path in EXTRA_SPEC_VALIDATORS)
    assert not {*EXTRA_SPEC_VALIDATORS} & {*programs(LAYOUT, Options(agent=False))["nova-api"].files}


def test_everything_listens_on_loopback() -> None:
    for name, ini in uwsgi_files(LAYOUT, EVERYTHING).items():
        said = ini["uwsgi"]["http-socket"]
        addresses = [str(socket).partition(":")[0] for socket in (said if isinstance(said, tuple) else [said])]
        # Servers signal to Heat, and to nothing else of the control plane.
        assert addresses == ["127.0.0.1", *(["172.24.4.1"] if "heat" in name else [])], name


def test_percent_signs_survive_supervisor_s_own_expansion() -> None:
    wanted = programs(LAYOUT, EVERYTHING)["rabbitmq"]
    conf = configuration(LAYOUT, [wanted])["program:rabbitmq"]
    assert shlex.split(str(conf["command"])) == list(wanted.command)


def test_the_agent_gets_nova_s_section_and_option_names(secrets: Passwords) -> None:
    conf = nova.agent(LAYOUT, secrets, EVERYTHING, 4096)
    assert conf["DEFAULT"]["host"] == "node"
    assert conf["DEFAULT"]["transport_url"] == f"rabbit://openstack:{secrets['rabbitmq']}@127.0.0.1:5672/"
    for section, user in (("service_user", "nova"), ("placement", "placement"), ("neutron", "neutron")):
        assert conf[section]["username"] == user
        assert conf[section]["password"] == secrets["service"]
    assert conf["docker"]["host_url"] == "unix:///srv/cloud/one/run/docker.sock"


def test_what_is_not_given_on_the_command_line_stays_as_it_was() -> None:
    before = Options(extras=("heat",), fake_compute=True, agent=False, host="node")
    assert change(before, extras=None, fake_compute=None, agent=None, door=None, network=None) == before
    after = change(before, extras=(), fake_compute=False, agent=True, door="grpc")
    assert after == Options(extras=(), fake_compute=False, agent=True, door="grpc", host="node")


def test_openrc_exports_one_user_s_credentials(secrets: Passwords) -> None:
    text = clients.openrc(LAYOUT, secrets, "demo")
    assert f"export OS_PASSWORD={secrets['demo']}\n" in text
    assert secrets["admin"] not in text
