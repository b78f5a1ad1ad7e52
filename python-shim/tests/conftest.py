"""What the tests share. Nova decides here, as at its own start, whether threads are green."""

# isort: off
from nova import monkey_patch

if hasattr(monkey_patch, "patch"):  # In older releases the import has done it.
    monkey_patch.patch()
# isort: on

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from nova import context as nova_context
from nova import objects
from nova.conf import CONF
from nova.image import glance
from nova.network import model
from nova.tests.unit import fake_instance
from nova.virt import fake
from nova_docker import config
from nova_docker.agent import Agent
from nova_docker.driver import DockerDriver
from nova_docker.rpc import Address, Call

HERE = Path(__file__).parent
INSTANCE = "7c4e9ee5-5c3a-4c40-a9a1-6a4f6a3c2e11"
IMAGE = "155d900f-4e14-4e4c-a73d-069cbf4541e6"
PORT = "ed1b6eff-a11f-4712-9f82-433985507b9b"
TOKEN = "gAAAA-secret"  # noqa: S105
REQUEST_ID = "req-0bd3a0ca-9b3c-4f2e-8d3a-3c1b0e2f4a5d"

objects.register_all()


class FakeAgentProcess:
    """fake_agent.py under way."""

    def __init__(self, listen, *tls):
        self.listen = listen
        self.tls = [str(path) for path in tls]
        self.process = None
        self.port = None

    def start(self):
        command = [sys.executable, str(HERE / "fake_agent.py"), self.listen, *self.tls]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=_plain_environment())
        self.port = int(self.process.stdout.readline())

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    @property
    def path(self):
        return self.listen[len("unix:") :]

    @property
    def address(self):
        return Address(f"unix://{self.path}")

    def control(self, address=None, **order):
        with Call(address or self.address, "/test.Control/Do", json.dumps(order).encode(), timeout=600) as call:
            return json.loads(b"".join(call))

    def plan(self, method, **plan):
        self.control(plan={method: plan})

    def hold(self, *methods):
        """From now on calls of these methods wait: before their answer, or after each message of it."""
        self.control(held=methods)

    def release(self):
        """Lets every call go on."""
        self.control(held=[])

    def fail(self, method, code, reason, message="that went wrong", **metadata):
        self.plan(method, fail={"code": code, "reason": reason, "message": message, "metadata": metadata})

    def calls(self, *methods):
        """What the driver has asked for, without the questions that belong to listening."""
        calls = self.control()["calls"]
        return [call for call in calls if not methods or call["method"] in methods]

    def methods(self):
        quiet = ("GetServerInfo", "WatchEvents", "ListGuests", "GetGuest")
        return [call["method"] for call in self.calls() if call["method"] not in quiet]

    def request(self, method):
        (call,) = self.calls(method)
        return call["request"]


def _plain_environment():
    return {name: value for name, value in os.environ.items() if name not in ("http_proxy", "https_proxy")}


def eventually(check, timeout=600):
    """What check returns, once that is true; the last thing it returned if that never happens."""
    deadline = time.monotonic() + timeout
    while True:
        result = check()
        if result or time.monotonic() > deadline:
            return result
        time.sleep(0.02)


def settle(background):
    """Waits until no job of it is left, however slow the machine is."""
    assert eventually(lambda: not background._running)


@pytest.fixture(scope="session")
def shared_agent():
    # Paths of Unix sockets are short, those of pytest are not.
    with tempfile.TemporaryDirectory() as directory:
        agent = FakeAgentProcess(f"unix:{directory}/driver.sock")
        agent.start()
        yield agent
        agent.stop()


@pytest.fixture
def fake_agent(shared_agent):
    """A fake agent that knows nothing yet."""
    shared_agent.control(reset=True)
    return shared_agent


@pytest.fixture
def mortal_agent():
    """A fake agent of the test's own, to be killed and started again."""
    with tempfile.TemporaryDirectory() as directory:
        agent = FakeAgentProcess(f"unix:{directory}/driver.sock")
        agent.start()
        yield agent
        agent.stop()


@pytest.fixture
def silent_socket():
    """A socket where somebody listens and never says a word."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = f"{directory}/silent.sock"
        listener.bind(path)
        listener.listen()
        os.chmod(path, 0o600)
        yield path


@pytest.fixture
def client(fake_agent):
    return Agent(fake_agent.address, call_timeout=600, operation_timeout=600)


@pytest.fixture
def conf(tmp_path):
    """Nova's configuration, as it was before when the test is over."""
    CONF([], project="nova", default_config_files=[], default_config_dirs=[])
    config.register(CONF)
    CONF.set_override("host", "compute1")
    CONF.set_override("my_ip", "192.0.2.10")
    CONF.set_override("state_path", str(tmp_path))
    CONF.set_override("restart_timeout", 0, group="docker_grpc")
    yield CONF
    CONF.reset()


@pytest.fixture
def running(fake_agent):
    """The instance has a container that runs."""
    fake_agent.control(guests={INSTANCE: "RUNNING"})


@pytest.fixture
def driver(conf, fake_agent, monkeypatch):
    """The driver, talking to the fake agent, but not listening to it."""
    conf.set_override("address", fake_agent.address.text, group="docker_grpc")
    monkeypatch.setattr("nova_docker.guest.owner", lambda: "8f8d1d2f-2f6c-4c8b-9a7a-54a0cbb3b0a0")
    monkeypatch.setattr(glance.API, "get", lambda *arguments, **options: {"properties": {}})
    monkeypatch.setattr(objects.VirtualInterfaceList, "get_by_instance_uuid", lambda *arguments: [])
    return DockerDriver(fake.FakeVirtAPI())


@pytest.fixture
def context():
    return nova_context.RequestContext("alice", "red", is_admin=False, auth_token=TOKEN, request_id=REQUEST_ID)


@pytest.fixture
def instance(context):
    flavor = objects.Flavor(
        id=1,
        flavorid="c1",
        name="c1",
        vcpus=2,
        memory_mb=512,
        root_gb=3,
        ephemeral_gb=0,
        swap=64,
        extra_specs={"docker:runtime": "runsc"},
    )
    made = fake_instance.fake_instance_obj(
        context,
        uuid=INSTANCE,
        display_name="web 1",
        hostname="web-1",
        project_id="red",
        user_id="alice",
        image_ref=IMAGE,
        key_name="laptop",
        key_data="ssh-ed25519 AAAA alice\n",
        flavor=flavor,
        metadata={"docker:env:GREETING": "hello"},
        user_data="I2NvbnRhaW5lci1jb25maWcK",
        system_metadata={"image_min_ram": "0", "image_docker:volumes": "/data"},
        expected_attrs=["metadata", "system_metadata", "flavor"],
    )
    # Unset, it would be looked for in a database.
    made.device_metadata = None
    return made


@pytest.fixture
def image_meta():
    return objects.ImageMeta.from_dict(
        {
            "id": IMAGE,
            "name": "nginx",
            "status": "active",
            "size": 4096,
            "container_format": "docker",
            "disk_format": "raw",
            "properties": {"os_command_line": "nginx -g 'daemon off;'", "unknown": "kept"},
        }
    )


@pytest.fixture
def network_info():
    subnet = model.Subnet(
        cidr="10.0.0.0/24",
        gateway=model.IP(address="10.0.0.1", type="gateway"),
        dns=[model.IP(address="10.0.0.53", type="dns")],
        ips=[model.FixedIP(address="10.0.0.5")],
        routes=[model.Route(cidr="192.0.2.0/24", gateway=model.IP(address="10.0.0.9", type="gateway"))],
        dhcp_server="10.0.0.2",
    )
    network = model.Network(id="9e25f37b-91f4-4438-b681-7c14f776f1e8", bridge="br-int", subnets=[subnet], mtu=1450)
    vif = model.VIF(
        id=PORT,
        address="fa:16:3e:be:a0:c7",
        network=network,
        type="ovs",
        devname="taped1b6eff-a1",
        details={"ovs_hybrid_plug": False},
        active=False,
    )
    return model.NetworkInfo([vif])
