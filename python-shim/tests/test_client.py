"""The gRPC client against grpcio's server."""

import base64
import logging
import os
import socket
import threading
import time
from types import SimpleNamespace

import h2.events
import pytest
from conftest import INSTANCE, PORT, REQUEST_ID, TOKEN, eventually
from nova_docker import agent as service
from nova_docker.agent import Agent
from nova_docker.rpc import Address, AddressRefused, Call, CallError, Code
from nova_docker.v1 import driver_pb2 as api
from nova_docker.v1 import network_pb2

GET_GUEST = api.GetGuestRequest(guest_id=INSTANCE)


def test_a_call_brings_back_one_message(client):
    answer = client.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest())
    assert (answer.resources.vcpus, answer.resources.docker_version) == (8, "20.10.24+dfsg1")


def test_an_error_has_code_sentence_reason_and_metadata(client, fake_agent):
    fake_agent.fail("GetGuest", "ABORTED", "EXITED_AT_ONCE", "es ging schief: 100 % Größe", exit_code="3")
    with pytest.raises(CallError) as caught:
        client.call(service.GET_GUEST, GET_GUEST)
    error = caught.value
    assert (error.code, error.reason) == (Code.ABORTED, "EXITED_AT_ONCE")
    assert str(error) == "es ging schief: 100 % Größe"
    assert error.metadata == {"exit_code": "3"}
    assert error.from_server


def test_an_error_without_details_still_has_its_code(client, fake_agent):
    with pytest.raises(CallError) as caught:
        client.call(service.Method("NoSuchMethod", api.GetGuestResponse.FromString), GET_GUEST)
    assert (caught.value.code, caught.value.reason) == (Code.UNIMPLEMENTED, "")


def test_an_error_after_messages_comes_after_them(client, fake_agent):
    fake_agent.plan(
        "GetConsoleOutput",
        answer=[{"chunk": "YQ=="}],
        fail_late={"code": "UNAVAILABLE", "reason": "DOCKER_UNAVAILABLE", "message": "Docker is down"},
    )
    fake_agent.control(guests={INSTANCE: "RUNNING"})
    with client.stream(service.GET_CONSOLE_OUTPUT, api.GetConsoleOutputRequest(guest_id=INSTANCE)) as answers:
        assert next(answers).chunk == b"a"
        with pytest.raises(CallError, match="Docker is down") as caught:
            next(answers)
    assert caught.value.reason == "DOCKER_UNAVAILABLE"


def test_messages_of_a_stream_come_when_they_are_sent(client, fake_agent):
    fake_agent.plan("GetConsoleOutput", answer=[{"chunk": "YQ=="}, {"chunk": "Yg=="}])
    fake_agent.control(guests={INSTANCE: "RUNNING"})
    fake_agent.hold("GetConsoleOutput")
    with client.stream(service.GET_CONSOLE_OUTPUT, api.GetConsoleOutputRequest(guest_id=INSTANCE)) as answers:
        first = next(answers)
        fake_agent.release()
        assert [first.chunk, *(answer.chunk for answer in answers)] == [b"a", b"b"]


def test_a_large_answer_passes_the_flow_control(client, fake_agent):
    chunk = os.urandom(3_000_000)
    fake_agent.plan("GetConsoleOutput", answer=[{"chunk": base64.b64encode(chunk).decode()}] * 2)
    fake_agent.control(guests={INSTANCE: "RUNNING"})
    with client.stream(service.GET_CONSOLE_OUTPUT, api.GetConsoleOutputRequest(guest_id=INSTANCE)) as answers:
        assert [answer.chunk == chunk for answer in answers] == [True, True]


def test_a_large_request_passes_the_flow_control(client, fake_agent):
    addresses = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(150_000)]
    interface = network_pb2.Interface(port_id=PORT, subnets=[network_pb2.Subnet(addresses=addresses)])
    fake_agent.control(guests={INSTANCE: "RUNNING"})
    client.call(service.PLUG_GUEST, api.PlugGuestRequest(guest_id=INSTANCE, interfaces=[interface]))
    assert fake_agent.request("PlugGuest")["interfaces"][0]["subnets"][0]["addresses"] == addresses


def test_a_server_that_refuses_a_large_request_unread_is_understood(client, fake_agent):
    # The server answers with an error while the rest is on its way.
    interface = network_pb2.Interface(port_id="x" * 20_000_000)
    with pytest.raises(CallError) as caught:
        client.call(service.PLUG_GUEST, api.PlugGuestRequest(guest_id=INSTANCE, interfaces=[interface]))
    assert caught.value.code == Code.RESOURCE_EXHAUSTED


def test_the_deadline_is_told_to_the_server(fake_agent):
    Agent(fake_agent.address, 3600, 60).call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest())
    (call,) = fake_agent.calls("GetHostResources")
    assert 3000 < call["time_remaining"] <= 3600


def test_a_call_ends_at_its_deadline(fake_agent):
    fake_agent.hold("GetHostResources")
    with pytest.raises(CallError) as caught:
        Agent(fake_agent.address, 0.3, 60).call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest())
    assert caught.value.code == Code.DEADLINE_EXCEEDED


def test_a_reader_that_is_slower_than_the_deadline_is_told_so(fake_agent):
    # More than the first message comes with, so that there is something to read when it is too late.
    chunk = base64.b64encode(bytes(60_000)).decode()
    fake_agent.plan("GetConsoleOutput", answer=[{"chunk": chunk}] * 20)
    fake_agent.control(guests={INSTANCE: "RUNNING"})
    request = api.GetConsoleOutputRequest(guest_id=INSTANCE).SerializeToString()
    method = "/nova_docker.v1.DriverService/GetConsoleOutput"
    with Call(fake_agent.address, method, request, timeout=600) as call:
        messages = iter(call)
        next(messages)
        call._deadline = time.monotonic()
        with pytest.raises(CallError) as caught:
            list(messages)
    assert caught.value.code == Code.DEADLINE_EXCEEDED


def test_a_server_that_says_nothing_is_given_up_at_the_deadline(silent_socket):
    with pytest.raises(CallError, match=silent_socket) as caught:
        Agent(Address(f"unix://{silent_socket}"), 0.3, 60).call(
            service.GET_HOST_RESOURCES, api.GetHostResourcesRequest()
        )
    assert caught.value.code == Code.DEADLINE_EXCEEDED


def test_a_server_that_says_nothing_for_long_is_asked_and_given_up(silent_socket, monkeypatch):
    monkeypatch.setattr("nova_docker.rpc.call.SILENCE", 0.2)
    with (
        Agent(Address(f"unix://{silent_socket}"), 5, 60).watch() as call,
        pytest.raises(CallError, match="no sign of life") as caught,
    ):
        list(call)
    assert caught.value.code == Code.UNAVAILABLE


def test_a_quiet_stream_lives_on_when_the_server_answers_pings(client, fake_agent, monkeypatch):
    def be_patient_for(seconds):
        monkeypatch.setattr("nova_docker.rpc.call.SILENCE", seconds)

    with client.watch() as call:
        ping, handle = call._after_silence, call._handle
        pings = []

        def ping_and_wait():
            ping()
            pings.append("ping")
            be_patient_for(60)
            if len(pings) == 2:
                fake_agent.control(events=[{"host": {"message": "still here"}}])

        def handle_and_be_impatient(event):
            handle(event)
            if isinstance(event, h2.events.PingAckReceived):
                be_patient_for(0.2)

        call._after_silence, call._handle = ping_and_wait, handle_and_be_impatient
        messages = iter(call)
        next(messages)
        be_patient_for(0.2)
        assert service.WATCH_EVENTS.parse(next(messages)).host.message == "still here"


def test_leaving_a_stream_cancels_it_at_the_server(client, fake_agent):
    fake_agent.hold("CreateGuest")
    with client.stream(service.CREATE_GUEST, api.CreateGuestRequest(guest={"guest_id": INSTANCE})) as answers:
        next(answers)
    assert eventually(lambda: "CreateGuest" in fake_agent.control()["cancelled"])
    assert fake_agent.control()["guests"] == {}


def test_another_thread_can_cancel_a_call(client):
    call = client.watch()
    messages = iter(call)
    next(messages)
    timer = threading.Timer(0.2, call.cancel)
    timer.start()
    with pytest.raises(CallError) as caught:
        next(messages)
    assert caught.value.code == Code.CANCELLED
    timer.join()
    call.close()


def test_a_server_that_dies_in_the_middle_of_a_call_is_told_as_such(mortal_agent):
    client = Agent(mortal_agent.address, 600, 600)
    mortal_agent.plan("GetHostResources", die=True)
    with pytest.raises(CallError, match="lost the connection") as caught:
        client.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest())
    assert (caught.value.code, caught.value.from_server) == (Code.UNAVAILABLE, False)
    mortal_agent.stop()
    mortal_agent.start()
    assert client.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest()).resources.vcpus == 8


def test_a_call_waits_for_a_server_that_is_being_restarted(mortal_agent, monkeypatch):
    mortal_agent.stop()
    sleep = time.sleep

    def pause(seconds):
        if mortal_agent.process is None:
            mortal_agent.start()
        sleep(seconds)

    monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    client = Agent(mortal_agent.address, 600, 600, restart_timeout=600)
    client.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest())
    mortal_agent.stop()
    with pytest.raises(CallError):
        client.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest(), patient=False)


def test_a_server_that_is_stopping_lets_a_call_come_to_its_end(mortal_agent):
    mortal_agent.hold("GetHostResources")

    def stop():
        eventually(lambda: mortal_agent.calls("GetHostResources"))
        mortal_agent.control(stop=True, held=[])

    thread = threading.Thread(target=stop)
    thread.start()
    client = Agent(mortal_agent.address, 600, 600)
    assert client.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest()).resources.vcpus == 8
    thread.join()


def test_a_server_that_is_absent_is_told_with_its_address(tmp_path):
    with pytest.raises(CallError, match=f"{tmp_path}/nobody.sock") as caught:
        Agent(Address(f"unix://{tmp_path}/nobody.sock"), 600, 600).call(service.GET_GUEST, GET_GUEST)
    assert caught.value.code == Code.UNAVAILABLE


def test_something_else_than_http2_is_an_error_at_once(tmp_path):
    path = f"{tmp_path}/web.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.chmod(path, 0o600)

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CallError) as caught:
            Agent(Address(f"unix://{path}"), 600, 600).call(service.GET_GUEST, GET_GUEST)
        thread.join()
    assert caught.value.code in (Code.INTERNAL, Code.UNAVAILABLE)
    assert path in str(caught.value)


def test_forty_threads_call_at_once(client, fake_agent):
    fake_agent.hold("GetHostResources")
    answers = []

    def ask():
        answers.append(client.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest()).resources.vcpus)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: len(fake_agent.calls("GetHostResources")) == 40)
    fake_agent.release()
    for thread in threads:
        thread.join()
    assert answers == [8] * 40


def test_other_threads_run_while_a_call_waits(client, fake_agent):
    """The reason for this client: under eventlet, threads are green, and grpcio would stop them all."""
    fake_agent.hold("GetHostResources")
    seen = []

    def let_it_be_answered():
        seen.extend(eventually(lambda: fake_agent.calls("GetHostResources")))
        fake_agent.release()

    thread = threading.Thread(target=let_it_be_answered)
    thread.start()
    client.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest())
    thread.join()
    assert len(seen) == 1


def test_the_token_goes_only_where_images_are_read_or_written(client, fake_agent, context):
    client.call(service.GET_HOST_RESOURCES, api.GetHostResourcesRequest())
    with client.stream(service.CREATE_GUEST, api.CreateGuestRequest(guest={"guest_id": INSTANCE}), context) as answers:
        list(answers)
    (resources,) = fake_agent.calls("GetHostResources")
    (create,) = fake_agent.calls("CreateGuest")
    assert "x-auth-token" not in resources["metadata"]
    assert create["metadata"]["x-auth-token"] == TOKEN
    assert resources["metadata"]["x-openstack-request-id"] == create["metadata"]["x-openstack-request-id"] == REQUEST_ID


def test_a_token_that_cannot_be_a_header_is_left_out(client, fake_agent, context):
    context.auth_token = "two\r\nlines"  # noqa: S105
    with client.stream(service.CREATE_GUEST, api.CreateGuestRequest(guest={"guest_id": INSTANCE}), context) as answers:
        list(answers)
    (create,) = fake_agent.calls("CreateGuest")
    assert "x-auth-token" not in create["metadata"]


def test_a_token_is_never_logged(client, context, caplog):
    logging.getLogger("nova_docker").setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG):
        with client.stream(
            service.CREATE_GUEST, api.CreateGuestRequest(guest={"guest_id": INSTANCE}), context
        ) as answers:
            list(answers)
        logging.getLogger().debug("this is logged")
    assert "this is logged" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("mode", "refused"), [(0o777, True), (0o666, True), (0o662, True), (0o660, False), (0o600, False), (0o755, False)]
)
def test_a_socket_that_everybody_may_write_to_is_refused(silent_socket, mode, refused):
    os.chmod(silent_socket, mode)
    address = Address(f"unix://{silent_socket}")
    if refused:
        with pytest.raises(AddressRefused, match=f"{silent_socket} has mode {mode:04o}"):
            address.connect(1)
    else:
        address.connect(1).close()


def test_a_socket_of_another_user_is_refused(silent_socket, monkeypatch):
    owner = os.stat(silent_socket).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    os.chown(silent_socket, 4242, -1) if owner == 0 else None
    with pytest.raises(AddressRefused, match="belongs to user"):
        Address(f"unix://{silent_socket}").connect(1)


def test_a_file_that_is_not_a_socket_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AddressRefused, match="is not a socket"):
        Address(f"unix://{tmp_path}/file").connect(1)


@pytest.mark.parametrize(
    "text",
    [
        "/run/agent.sock",
        "unix:run/agent.sock",
        "unix://run/agent.sock",
        "http://host:1",
        "https://host",
        "https://host:x",
        "https://host:1",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_at_once(text):
    with pytest.raises(AddressRefused, match=text.split(":")[0]):
        Address(text)
