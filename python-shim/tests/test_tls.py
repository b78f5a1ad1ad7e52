"""The client across a network: TLS with certificates on both sides."""

import datetime
import ipaddress
import os
import shutil
import ssl
import threading
import time
from types import SimpleNamespace

import pytest
from conftest import FakeAgentProcess
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nova_docker import agent as service
from nova_docker import config
from nova_docker.agent import Agent
from nova_docker.rpc import Address, AddressRefused, CallError, Code, Tls
from nova_docker.v1 import driver_pb2 as api

RESOURCES = api.GetHostResourcesRequest()


def certificate(directory, name, authority=None):
    """Files of a key and of a certificate that the authority has signed, or, without one, itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2020, 1, 1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    if authority is None:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
             "decipher_only"), False,
        )  # fmt: skip
        builder = builder.add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True
        )
    signed = builder.sign(authority.key if authority else key, hashes.SHA256())
    files = SimpleNamespace(key=key, subject=subject, pem=directory / f"{name}.pem", key_pem=directory / f"{name}.key")
    files.pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    files.key_pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """A fake agent on loopback, and the files that a client needs."""
    directory = tmp_path_factory.mktemp("tls")
    authority = certificate(directory, "authority")
    server = certificate(directory, "server", authority)
    client = certificate(directory, "client", authority)
    agent = FakeAgentProcess("127.0.0.1:0", authority.pem, server.pem, server.key_pem)
    agent.start()
    tls = Tls(str(authority.pem), str(client.pem), str(client.key_pem))
    yield SimpleNamespace(
        agent=agent, tls=tls, text=f"https://127.0.0.1:{agent.port}", directory=directory, client=client
    )
    agent.stop()


def at(remote, tls=None, host="127.0.0.1"):
    return Address(remote.text.replace("127.0.0.1", host), connect_timeout=600, tls=tls or remote.tls)


def call(address):
    return Agent(address, 600, 600).call(service.GET_HOST_RESOURCES, RESOURCES).resources.vcpus


def test_a_client_with_a_certificate_is_served(remote):
    assert call(at(remote)) == 8


def test_many_threads_call_at_once_through_tls(remote):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(call(at(remote)))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [8] * 10


def test_a_call_through_tls_ends_at_its_deadline_too(remote):
    with Agent(at(remote), 600, 600).watch() as watching:
        messages = iter(watching)
        next(messages)
        # Not before: a handshake must not fall into it.
        watching._deadline = time.monotonic() + 0.5
        with pytest.raises(CallError) as caught:
            next(messages)
    assert caught.value.code == Code.DEADLINE_EXCEEDED


def test_a_large_answer_comes_through_tls(remote):
    address = at(remote)
    remote.agent.control(
        address,
        plan={"GetConsoleOutput": {"answer": [{"chunk": "YWJj" * 500_000}]}},
        guests={"a": "RUNNING"},
    )
    request = api.GetConsoleOutputRequest(guest_id="a")
    with Agent(address, 600, 600).stream(service.GET_CONSOLE_OUTPUT, request) as answers:
        assert [answer.chunk for answer in answers] == [b"abc" * 500_000]


def test_another_thread_can_cancel_a_call_through_tls(remote):
    watching = Agent(at(remote), 600, 600).watch()
    messages = iter(watching)
    next(messages)
    timer = threading.Timer(0.2, watching.cancel)
    timer.start()
    with pytest.raises(CallError) as caught:
        next(messages)
    assert caught.value.code == Code.CANCELLED
    timer.join()
    watching.close()


def test_a_client_of_another_authority_is_not_served(remote):
    stranger = certificate(remote.directory, "stranger")
    tls = Tls(remote.tls.ca, str(stranger.pem), str(stranger.key_pem))
    with pytest.raises(CallError) as caught:
        call(at(remote, tls))
    assert caught.value.code == Code.UNAVAILABLE


def test_a_server_of_another_authority_is_not_trusted(remote):
    other = certificate(remote.directory, "other")
    tls = Tls(str(other.pem), remote.tls.certificate, remote.tls.key)
    with pytest.raises(CallError, match="certificate verify failed"):
        call(at(remote, tls))


def test_a_server_of_another_name_is_not_trusted(remote):
    with pytest.raises(CallError, match="certificate verify failed"):
        call(at(remote, host="localhost"))


def test_a_missing_file_is_refused_by_its_name(remote):
    tls = Tls(remote.tls.ca, "/nonexistent/client.pem", remote.tls.key)
    with pytest.raises(AddressRefused, match=r"/nonexistent/client\.pem"):
        call(at(remote, tls))


@pytest.fixture
def renewable(remote, tmp_path):
    """The same files as copies of the test's own."""
    copies = [str(shutil.copy(path, tmp_path)) for path in (remote.tls.ca, remote.tls.certificate, remote.tls.key)]
    return Tls(*copies)


def renew(tls, files):
    """Replaces certificate and key, each at once, as programs do that renew certificates."""
    for path, new in ((tls.certificate, files.pem), (tls.key, files.key_pem)):
        os.replace(shutil.copy(new, f"{path}.new"), path)


def test_the_files_are_read_once_for_many_calls(remote, renewable, monkeypatch):
    made = []
    create = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda **options: made.append(1) or create(**options))
    assert [call(at(remote, renewable)) for _ in range(3)] == [8] * 3
    assert made == [1]


def test_renewed_files_are_used_without_a_restart(remote, renewable):
    stranger = certificate(remote.directory, "renewed")
    assert call(at(remote, renewable)) == 8
    renew(renewable, stranger)
    with pytest.raises(CallError):
        call(at(remote, renewable))
    renew(renewable, remote.client)
    assert call(at(remote, renewable)) == 8


def test_files_that_are_renewed_one_after_the_other_disturb_no_call(remote, renewable, caplog):
    other = certificate(remote.directory, "half")
    assert call(at(remote, renewable)) == 8
    os.replace(shutil.copy(other.key_pem, f"{renewable.key}.new"), renewable.key)
    assert call(at(remote, renewable)) == 8
    os.remove(renewable.certificate)
    assert call(at(remote, renewable)) == 8
    assert "going on with those that were read before" in caplog.text


def test_the_files_come_from_nova_conf(remote, tmp_path):
    from nova.conf import CONF

    path = tmp_path / "nova.conf"
    path.write_text(
        f"""
        [docker_grpc]
        address = {remote.text}
        connect_timeout = 600
        tls_ca = {remote.tls.ca}
        tls_client_certificate = {remote.tls.certificate}
        tls_client_key = {remote.tls.key}
        # The agent's own, in the same file.
        listen = unix:///run/nova-docker-agent/driver.sock
        socket_user = nova
        max_concurrent_requests = 64
        """.replace("        ", ""),
    )
    CONF([], project="nova", default_config_files=[str(path)], default_config_dirs=[])
    try:
        assert call(config.address(config.register(CONF))) == 8
    finally:
        CONF.reset()


def test_nobody_listening_is_told_with_the_address(remote):
    with pytest.raises(CallError, match=r"https://127\.0\.0\.1:1"):
        call(Address("https://127.0.0.1:1", tls=remote.tls))
