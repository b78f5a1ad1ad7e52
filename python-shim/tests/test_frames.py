"""The gRPC client against frames that are written octet by octet: what RFC 9113 and gRPC allow a server to send."""

import time

import frames
import hpack
import pytest
from frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    data,
    frame,
    headers,
    message,
    serving,
    trailers,
)
from nova_docker.rpc import Call, CallError, Code
from nova_docker.rpc.http2 import check_h2

STREAM_ENDS = pytest.raises(EOFError)


def ask(address, request=b"question"):
    with Call(address, "/service/Method", request, timeout=600) as call:
        return list(call)


def answers(*sent):
    """A script that takes the request and sends the frames."""

    def script(peer):
        peer.request()
        peer.send(*sent)
        # Until the client has gone: what it has not read must not get lost.
        with STREAM_ENDS:
            peer.until(0xFF)

    return script


def failure(*sent):
    with serving(answers(*sent)) as address, pytest.raises(CallError) as caught:
        ask(address)
    return caught.value


def test_the_client_opens_with_preface_settings_and_one_request():
    def script(peer):
        assert peer.request() == message(b"question")
        kinds = [kind for kind, _, stream, _ in peer.seen if stream == 1]
        assert kinds == [HEADERS, DATA]
        told = dict(hpack.Decoder().decode(next(payload for kind, _, _, payload in peer.seen if kind == HEADERS)))
        assert (told[":method"], told[":scheme"], told[":path"]) == ("POST", "http", "/service/Method")
        assert (told["te"], told["content-type"]) == ("trailers", "application/grpc")
        assert told["grpc-timeout"].endswith("m")
        peer.send(frames.answer(b"one"))

    with serving(script) as address:
        assert ask(address) == [b"one"]


def test_the_servers_settings_are_acknowledged():
    def script(peer):
        peer.request(max_frame_size=20_000)
        peer.until(SETTINGS, ACK)
        peer.send(frames.answer(b"one"))

    with serving(script) as address:
        assert ask(address) == [b"one"]


def test_a_request_stops_at_the_window_of_the_connection():
    request = bytes(frames.WINDOW + 1000)

    def script(peer):
        # The stream's window is large enough, the connection's is not.
        peer.hello(initial_window_size=10 * frames.WINDOW)
        while len(peer.body()) < frames.WINDOW:
            peer.until(DATA)
        assert len(peer.body()) == frames.WINDOW
        peer.send(frames.window_update(5, stream=0))
        assert len(peer.until(DATA)) == 5
        peer.send(frames.window_update(frames.WINDOW, stream=0))
        peer.until(DATA, END_STREAM)
        assert peer.body() == message(request)
        peer.send(frames.answer(b"one"))

    with serving(script) as address:
        assert ask(address, request) == [b"one"]


def test_a_window_that_settings_make_negative_is_waited_for():
    request = bytes(frames.WINDOW + 1000)

    def script(peer):
        peer.hello()
        while len(peer.body()) < frames.WINDOW:
            peer.until(DATA)
        # All is used: the stream's window is -65535 now.
        peer.send(frames.settings(initial_window_size=0), frames.window_update(2 * frames.WINDOW, stream=0))
        peer.until(SETTINGS, ACK)
        peer.send(frames.window_update(frames.WINDOW + 3))
        assert len(peer.until(DATA)) == 3
        peer.send(frames.window_update(frames.WINDOW))
        peer.until(DATA, END_STREAM)
        assert peer.body() == message(request)
        peer.send(frames.answer(b"one"))

    with serving(script) as address:
        assert ask(address, request) == [b"one"]


def test_frames_of_a_request_are_no_longer_than_the_server_takes():
    def script(peer):
        peer.request()
        assert max(len(payload) for kind, _, _, payload in peer.seen if kind == DATA) == 16384
        peer.send(frames.answer(b"one"))

    with serving(script) as address:
        assert ask(address, bytes(40_000)) == [b"one"]


def test_what_was_read_is_given_back_to_both_windows_with_its_padding():
    chunk = bytes(10_000)

    def script(peer):
        peer.request()
        peer.send(headers(frames.RESPONSE))
        left, sent = {0: frames.WINDOW, 1: frames.WINDOW}, 0
        whole = message(chunk * 30)
        while sent < len(whole):
            part = whole[sent : sent + len(chunk)]
            payload = frames.padded(part, 255)
            while min(left.values()) < len(payload):
                kind, _, stream, update = peer.frame()
                if kind == WINDOW_UPDATE:
                    left[stream] += int.from_bytes(update, "big")
            peer.send(data(payload, PADDED))
            sent += len(part)
            left = {stream: octets - len(payload) for stream, octets in left.items()}
        peer.send(trailers())

    with serving(script) as address:
        assert ask(address) == [chunk * 30]


def test_padded_and_continued_headers_are_put_together():
    reply, end = frames.RESPONSE, frames.block(("grpc-status", "5"), ("grpc-message", "not%20here"))
    error = failure(
        headers(frames.padded(reply[:3], 17), PADDED),
        frame(CONTINUATION, 0, 1, reply[3:9]),
        frame(CONTINUATION, END_HEADERS, 1, reply[9:]),
        headers(frames.padded(end[:1], 1), PADDED | END_STREAM),
        frame(CONTINUATION, 0, 1),
        frame(CONTINUATION, END_HEADERS, 1, end[1:]),
    )
    assert (error.code, str(error), error.from_server) == (Code.NOT_FOUND, "not here", True)


def test_an_answer_that_is_trailers_only_is_an_error_with_its_sentence():
    error = failure(trailers(frames.RESPONSE + frames.block(("grpc-status", "14"), ("grpc-message", "later"))))
    assert (error.code, str(error), error.from_server, error.begun) == (Code.UNAVAILABLE, "later", True, True)


def test_trailers_only_may_say_that_all_went_well():
    with serving(answers(trailers(frames.RESPONSE + frames.OK))) as address:
        assert ask(address) == []


def test_messages_come_in_whatever_pieces_the_server_makes():
    octets = message(b"one") + message() + message(b"three")
    pieces = [data(octets[at : at + 1]) for at in range(len(octets))]
    with serving(answers(headers(frames.RESPONSE), *pieces, trailers())) as address:
        assert ask(address) == [b"one", b"", b"three"]
    with serving(answers(headers(frames.RESPONSE), data(octets), data(b""), trailers())) as address:
        assert ask(address) == [b"one", b"", b"three"]


def test_headers_before_the_answer_and_frames_of_unknown_kinds_are_passed_over():
    early = headers(frames.block((":status", "103")))
    with serving(answers(frame(0x40, 0xFF, 1, b"?"), early, frame(0x41), frames.answer(b"one"))) as address:
        assert ask(address) == [b"one"]


def test_a_ping_is_answered():
    def script(peer):
        peer.request()
        peer.send(frame(PING, payload=b"12345678"))
        assert peer.until(PING, ACK) == b"12345678"
        peer.send(frames.answer(b"one"))

    with serving(script) as address:
        assert ask(address) == [b"one"]


@pytest.mark.parametrize("last", [1, 2**31 - 1])
def test_a_server_that_is_stopping_finishes_the_call_it_has_taken(last):
    before, after = headers(frames.RESPONSE) + data(message(b"one")), data(message(b"two")) + trailers()
    # A server says it twice: first that it will stop, then which call was its last.
    with serving(answers(before, frames.goaway(last), frames.goaway(1), after)) as address:
        assert ask(address) == [b"one", b"two"]


def test_a_call_that_came_too_late_to_a_stopping_server_has_not_begun():
    error = failure(frames.goaway(0))
    assert (error.code, error.begun, error.from_server) == (Code.UNAVAILABLE, False, False)


def test_a_server_that_ends_the_connection_with_an_error_is_lost():
    error = failure(headers(frames.RESPONSE), frames.goaway(1, frames.INTERNAL_ERROR))
    assert (error.code, error.begun, error.from_server) == (Code.UNAVAILABLE, True, False)


@pytest.mark.parametrize(
    ("error", "code", "begun"),
    [
        (frames.REFUSED_STREAM, Code.UNAVAILABLE, False),
        (frames.CANCEL, Code.CANCELLED, True),
        (frames.INTERNAL_ERROR, Code.INTERNAL, True),
        (frames.NO_ERROR, Code.INTERNAL, True),
    ],
)
def test_each_reset_of_the_stream_has_its_meaning(error, code, begun):
    caught = failure(headers(frames.RESPONSE), frames.reset(error))
    assert (caught.code, caught.begun) == (code, begun)


def test_a_server_that_has_answered_may_reset_what_it_did_not_read():
    def script(peer):
        peer.hello(initial_window_size=0)
        peer.until(HEADERS)
        peer.send(trailers(frames.RESPONSE + frames.block(("grpc-status", "8"), ("grpc-message", "too%20long"))))
        peer.send(frames.reset(frames.NO_ERROR))
        with STREAM_ENDS:
            peer.until(0xFF)

    with serving(script) as address, pytest.raises(CallError) as caught:
        ask(address, bytes(1_000_000))
    assert (caught.value.code, str(caught.value)) == (Code.RESOURCE_EXHAUSTED, "too long")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([headers(frames.RESPONSE), data(message(b"one"), END_STREAM)], Code.INTERNAL),
        ([headers(frames.RESPONSE), data(message(b"one")[:-1]), trailers()], Code.INTERNAL),
        ([headers(frames.RESPONSE), data(b"\1" + message(b"one")[1:]), trailers()], Code.INTERNAL),
        ([headers(frames.RESPONSE), data(b"\0\xff\xff\xff\xff"), trailers()], Code.INTERNAL),
        ([headers(frames.block((":status", "503")), END_HEADERS | END_STREAM)], Code.UNAVAILABLE),
        ([headers(frames.block((":status", "404")), END_HEADERS | END_STREAM)], Code.UNIMPLEMENTED),
        ([headers(frames.RESPONSE), trailers(frames.block(("grpc-status", "none")))], Code.UNKNOWN),
        ([frame(DATA, 0, 0, b"of no stream")], Code.INTERNAL),
    ],
    ids=["no trailers", "half a message", "compressed", "4 GiB", "HTTP 503", "HTTP 404", "no code", "no HTTP/2"],
)
def test_an_answer_that_is_none_is_an_error(sent, code):
    assert failure(*sent).code == code


def test_a_connection_that_ends_in_the_middle_is_lost():
    def script(peer):
        peer.request()
        peer.send(headers(frames.RESPONSE), data(message(b"one")[:4]))

    with serving(script) as address, pytest.raises(CallError, match="lost the connection") as caught:
        ask(address)
    assert (caught.value.code, caught.value.begun) == (Code.UNAVAILABLE, True)


def test_an_answer_counts_though_its_server_goes_before_it_has_read_everything():
    def script(peer):
        peer.hello(initial_window_size=0)
        peer.until(HEADERS)
        error = frames.block(("grpc-status", "8"), ("grpc-message", "too%20long"))
        # Closed with the client's acknowledgement unread.
        peer.send(frame(PING, payload=b"12345678") * 100, trailers(frames.RESPONSE + error))

    with serving(script) as address, pytest.raises(CallError, match="too long"):
        ask(address, bytes(1_000_000))


def test_a_server_that_sends_only_half_a_frame_is_given_up_at_the_deadline():
    def script(peer):
        peer.request()
        peer.send(headers(frames.RESPONSE)[:5])
        with STREAM_ENDS:
            peer.until(0xFF)

    with serving(script) as address, Call(address, "/service/Method", b"", timeout=600) as call:
        call._deadline = time.monotonic() + 0.2
        with pytest.raises(CallError) as caught:
            list(call)
    assert caught.value.code == Code.DEADLINE_EXCEEDED


class WithoutInside:
    """A connection of an h2 that keeps its state in another way."""

    def __init__(self, config):
        pass


class WithoutMethod(WithoutInside):
    def __init__(self, config):
        self.state_machine = type("Machine", (), {"state": 1})()


@pytest.mark.parametrize(
    ("connection", "lacking"),
    [
        (WithoutInside, "_receive_goaway_frame and state_machine.state"),
        (WithoutMethod, "_receive_goaway_frame"),
    ],
)
def test_an_h2_with_another_inside_is_refused_at_import_with_advice(connection, lacking):
    with pytest.raises(ImportError, match=rf"lacks {lacking}\. Install h2<5,>=4\.1 into"):
        check_h2(connection)
