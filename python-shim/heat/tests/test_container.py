"""The resource in Heat's own stacks, with a real Docker."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from certificates import Authority
from conftest import IMAGE, TYPE, Docker, free_port
from heat.common import template_format
from heat.common.exception import StackValidationFailed
from heat.engine import resource, scheduler
from heat.engine.stack import Stack
from heat.engine.template import Template
from heat.tests import utils
from nova_docker_heat import options

pytestmark = pytest.mark.usefixtures("heat")
Json = dict[str, Any]
Properties = dict[str, Any]


class Stacks:
    """Stacks of one container."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"127.0.0.1:{port}"
        self._made: list[Stack] = []

    def template(self, **properties: Any) -> Template:
        all_of_it = {"docker_endpoint": self.endpoint, "image": IMAGE, **properties}
        given = {name: value for name, value in all_of_it.items() if value is not None}
        text = {
            "heat_template_version": "2013-05-23",
            "resources": {"box": {"type": TYPE, "properties": given}},
        }
        return Template(template_format.parse(json.dumps(text)))

    def of(self, **properties: Any) -> Stack:
        stack = Stack(utils.dummy_context(), f"s{secrets.token_hex(4)}", self.template(**properties))
        stack.store()
        self._made.append(stack)
        return stack

    def created(self, **properties: Any) -> Stack:
        stack = self.of(**properties)
        stack.create()
        assert stack.state == (stack.CREATE, stack.COMPLETE), stack.status_reason
        return stack

    def failed(self, **properties: Any) -> str:
        """Why a stack cannot be created."""
        stack = self.of(**properties)
        stack.create()
        assert stack.state == (stack.CREATE, stack.FAILED)
        return str(stack.status_reason)

    def update(self, stack: Stack, **properties: Any) -> None:
        stack.update(Stack(stack.context, stack.name, self.template(**properties)))
        assert stack.state == (stack.UPDATE, stack.COMPLETE), stack.status_reason

    def delete(self) -> None:
        while self._made:
            stack = self._made.pop()
            stack.delete()
            assert stack.state == (stack.DELETE, stack.COMPLETE), stack.status_reason


@pytest.fixture
def stacks(docker: Docker, port: int) -> Iterator[Stacks]:
    made = Stacks(port)
    yield made
    made.delete()
    assert docker("ps", "--all", "--quiet") == "", "no container is left"


def container_of(stack: Stack, docker: Docker) -> Json:
    found: list[Json] = json.loads(docker("inspect", stack["box"].resource_id))
    return found[0]


def test_a_container_runs_with_what_the_template_says(stacks: Stacks, docker: Docker) -> None:
    stack = stacks.created(
        name="box",
        hostname="inside",
        user="1000",
        env=["A=b", "C=d e"],
        memory=64 << 20,
        cpu_shares=100,
        cpu_set="0",
        cap_add=["NET_ADMIN"],
        cap_drop=["MKNOD"],
        dns=["192.0.2.53"],
        port_specs=["80", "53/udp"],
        volumes={"data": "/data", "/usr": {"bind": "/host-usr", "ro": True}},
        devices=[{"path_on_host": "/dev/null", "path_in_container": "/dev/nothing", "permissions": "r"}],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
        read_only=True,
        open_stdin=True,
        stdin_once=True,
    )
    made = container_of(stack, docker)
    config, host = made["Config"], made["HostConfig"]
    assert made["Name"] == "/box"
    assert (config["Hostname"], config["User"], config["Image"]) == ("inside", "1000", IMAGE)
    assert {"A=b", "C=d e"} < set(config["Env"])
    assert set(config["ExposedPorts"]) >= {"80/tcp", "53/udp"}
    assert (config["OpenStdin"], config["StdinOnce"], config["Tty"]) == (True, True, False)
    assert (host["Memory"], host["CpuShares"], host["CpusetCpus"]) == (64 << 20, 100, "0")
    assert (host["CapAdd"], host["CapDrop"], host["Dns"]) == (["NET_ADMIN"], ["MKNOD"], ["192.0.2.53"])
    assert sorted(host["Binds"]) == ["/usr:/host-usr:ro", "data:/data:rw"]
    assert host["Devices"] == [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "r"}]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host["ReadonlyRootfs"] is True
    docker("exec", "box", "test", "-d", "/host-usr/bin")


def test_its_attributes_tell_of_it(stacks: Stacks) -> None:
    talks = ["sh", "-c", "echo first; seq 2000; echo last; trap 'exit 0' TERM; sleep 1000 & wait"]
    stack = stacks.created(cmd=talks, port_specs=["80", "443", "53/udp"])
    box = stack["box"]
    assert box.FnGetAtt("info")["Id"] == box.resource_id
    assert box.FnGetAtt("network_info") == box.FnGetAtt("info")["NetworkSettings"]
    assert box.FnGetAtt("logs_head") == "first"
    assert box.FnGetAtt("logs_tail") == "last"
    assert box.FnGetAtt("logs").splitlines()[0] == "1002", "of the last 1000 lines"
    # This Docker has no network: a container of it has no address and publishes nothing.
    assert box.FnGetAtt("network_ip") in (None, "")


def test_a_terminal_s_log_is_taken_as_it_is(stacks: Stacks) -> None:
    stack = stacks.created(tty=True)
    assert stack["box"].FnGetAtt("logs_head").strip() == "ready"


def test_a_container_that_fails_tells_its_exit_code_and_its_log(stacks: Stacks) -> None:
    reason = stacks.failed(cmd=["sh", "-c", "echo cannot find my keys >&2; exit 7"])
    assert "exit code 7" in reason
    assert "cannot find my keys" in reason


def test_a_job_that_ends_well_is_complete(stacks: Stacks) -> None:
    stack = stacks.created(cmd=["true"])
    stack.check()
    assert stack.state == (stack.CHECK, stack.COMPLETE)


def test_what_docker_refuses_is_the_reason(stacks: Stacks) -> None:
    reason = stacks.failed(memory=1000)
    assert f"the Docker at tcp://{stacks.endpoint} does not create the container" in reason
    assert "Minimum memory limit" in reason


def test_an_image_that_cannot_be_pulled_is_the_reason(stacks: Stacks) -> None:
    # Nothing listens there.
    reason = stacks.failed(image="127.0.0.1:1/nothing:2")
    assert "does not pull the image 127.0.0.1:1/nothing:2" in reason
    assert "connection refused" in reason


def test_limits_restarts_and_name_change_in_place(stacks: Stacks, docker: Docker) -> None:
    before: Properties = {"memory": 32 << 20, "cpu_shares": 100, "name": "one"}
    stack = stacks.created(**before)
    container = stack["box"].resource_id
    after: Properties = {
        "memory": 128 << 20,
        "cpu_shares": 200,
        "cpu_set": "1",
        "restart_policy": {"Name": "always"},
        "name": "two",
    }
    stacks.update(stack, **after)
    made = container_of(stack, docker)
    host = made["HostConfig"]
    assert (stack["box"].resource_id, made["Name"]) == (container, "/two")
    assert (host["Memory"], host["CpuShares"], host["CpusetCpus"]) == (128 << 20, 200, "1")
    assert host["RestartPolicy"]["Name"] == "always"
    stacks.update(stack, **{**after, "memory": 16 << 20, "restart_policy": None})
    host = container_of(stack, docker)["HostConfig"]
    assert (stack["box"].resource_id, host["Memory"], host["RestartPolicy"]["Name"]) == (container, 16 << 20, "no")


@pytest.mark.parametrize("change", [{"env": ["A=c"]}, {"memory": None}, {"image": "small"}])
def test_all_else_makes_another_container(stacks: Stacks, docker: Docker, change: Properties) -> None:
    docker("tag", IMAGE, "small")
    before: Properties = {"env": ["A=b"], "memory": 64 << 20}
    stack = stacks.created(**before)
    first = stack["box"].resource_id
    stacks.update(stack, **{**before, **change})
    assert stack["box"].resource_id != first
    assert docker("ps", "--all", "--quiet", "--no-trunc") == stack["box"].resource_id, "the first one is gone"


def test_suspend_stops_it_and_resume_starts_it(stacks: Stacks, docker: Docker) -> None:
    stack = stacks.created()
    stack.suspend()
    assert stack.state == (stack.SUSPEND, stack.COMPLETE)
    assert container_of(stack, docker)["State"]["Status"] == "exited"
    stack.resume()
    assert stack.state == (stack.RESUME, stack.COMPLETE)
    assert container_of(stack, docker)["State"]["Running"]


def test_check_tells_of_a_container_that_does_not_run_and_of_one_that_is_gone(stacks: Stacks, docker: Docker) -> None:
    stack = stacks.created()
    stack.check()
    assert stack.state == (stack.CHECK, stack.COMPLETE)
    docker("kill", stack["box"].resource_id)
    stack.check()
    assert stack.state == (stack.CHECK, stack.FAILED)
    assert "exited" in stack.status_reason
    docker("rm", "--volumes", stack["box"].resource_id)
    stack.check()
    assert "No such container" in stack.status_reason


def test_a_container_whose_making_heat_did_not_see_is_deleted_too(
    stacks: Stacks, docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise RuntimeError("the engine is killed")

    with monkeypatch.context() as patched:
        patched.setattr(resource.Resource, "resource_id_set", dies)
        stacks.failed()
    assert docker("ps", "--all", "--quiet") != ""
    # `stacks` deletes the stack, and asks whether a container is left.


def test_nothing_that_was_never_asked_for_is_looked_for(stacks: Stacks, docker: Docker, conf: Any) -> None:
    # Nobody answers there, neither at the create nor at the delete.
    conf.set_override("answer_seconds", 1, options.GROUP)
    assert "Connection refused" in stacks.failed(docker_endpoint="127.0.0.1:1")


def test_a_docker_that_comes_later_is_waited_for(stacks: Stacks, docker: Docker) -> None:
    later = free_port()
    stack = stacks.of(docker_endpoint=f"127.0.0.1:{later}")
    turns = iter(scheduler.TaskRunner(stack["box"].create).as_task())
    for _ in range(20):
        next(turns)
    assert stack["box"].state == (stack.CREATE, stack.IN_PROGRESS)
    with docker.listening(later):
        for _ in turns:
            pass
        assert stack["box"].state == (stack.CREATE, stack.COMPLETE)
        stacks.delete()


def certificates(authority: Authority, **other: str | None) -> Properties:
    names = {"ca_cert": "ca.pem", "client_cert": "client.pem", "client_key": "client.key"}
    found: Properties = {name: authority.text(file) for name, file in names.items()}
    return {name: text for name, text in {**found, **other}.items() if text is not None}


def test_tls_with_the_template_s_certificates(stacks: Stacks, docker: Docker, authority: Authority) -> None:
    stack = stacks.created(docker_endpoint=f"https://127.0.0.1:{docker.tls_port}", docker_tls=certificates(authority))
    assert stack["box"].FnGetAtt("info")["Id"] == stack["box"].resource_id


def test_a_docker_of_another_authority_is_refused(
    stacks: Stacks, docker: Docker, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    given = certificates(authority, ca_cert=other.text("ca.pem"))
    reason = stacks.failed(docker_endpoint=f"127.0.0.1:{docker.tls_port}", docker_tls=given)
    assert "certificate verify failed" in reason


def test_a_client_without_certificate_is_refused(
    stacks: Stacks, docker: Docker, authority: Authority, conf: Any
) -> None:
    conf.set_override("answer_seconds", 1, options.GROUP)
    given = certificates(authority, client_cert=None, client_key=None)
    reason = stacks.failed(docker_endpoint=f"127.0.0.1:{docker.tls_port}", docker_tls=given)
    assert f"https://127.0.0.1:{docker.tls_port}" in reason


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ({"docker_endpoint": "unix:///var/run/docker.sock"}, "no address of a Docker that Heat can reach"),
        ({"docker_endpoint": "ssh://root@127.0.0.1"}, "no address of a Docker that Heat can reach"),
        ({"docker_endpoint": "127.0.0.1:99999"}, "'99999' is no port"),
        ({"docker_endpoint": "https://127.0.0.1"}, "https goes with docker_tls"),
        ({"docker_endpoint": "user@host"}, "neither an address nor a host name"),
        ({"docker_tls": {"ca_cert": "nothing"}}, "ca_cert holds no certificate in PEM"),
        ({"port_specs": ["80:80"]}, "port_bindings says which port of the host it gets"),
        ({"port_bindings": {"80": "x"}}, "neither a port of the host nor ADDRESS:PORT"),
        ({"devices": [{"path_on_host": "/etc/passwd"}]}, "does not match pattern"),
        ({"devices": [{"path_on_host": "/dev/null", "permissions": "rr"}]}, "does not match pattern"),
        ({"restart_policy": {"Name": "sometimes"}}, "not an allowed value"),
        ({"cap_add": ["net admin"]}, "does not match pattern"),
        ({"image": None}, "image"),
        ({"volumez": {}}, "Unknown Property volumez"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(stacks: Stacks, properties: Properties, why: str) -> None:
    with pytest.raises(StackValidationFailed, match=why):
        Stack(utils.dummy_context(), "s", stacks.template(**properties)).validate()
