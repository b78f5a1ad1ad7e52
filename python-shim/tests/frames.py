"""A server of HTTP/2 that is nothing but bytes: each test writes the frames itself, so that no library hides them."""

import os
import socket
import struct
import tempfile
import threading
from contextlib import contextmanager

from nova_docker.rpc import Address

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 4, 5
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 2, 7, 8
WINDOW = 65535
"""Octets of every window at first."""


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(**values):
    names = {"initial_window_size": INITIAL_WINDOW_SIZE, "max_frame_size": MAX_FRAME_SIZE}
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", names[name], value) for name, value in values.items()))


def number(*values):
    return struct.pack(f">{len(values)}I", *values)


def window_update(octets, stream=1):
    return frame(WINDOW_UPDATE, stream=stream, payload=number(octets))


def goaway(last, error=NO_ERROR):
    return frame(GOAWAY, payload=number(last, error))


def reset(error):
    return frame(RST_STREAM, stream=1, payload=number(error))


def block(*pairs):
    """Headers as literals that no table holds (RFC 7541, 6.2.2)."""
    texts = [text.encode() for pair in pairs for text in pair]
    strings = [_length(len(text)) + text for text in texts]
    return b"".join(b"\0" + name + value for name, value in zip(strings[::2], strings[1::2], strict=True))


def _length(octets):
    """With a prefix of seven bits (RFC 7541, 5.1); of 254 at most, which is enough here."""
    return bytes([octets]) if octets < 127 else bytes([127, octets - 127])


RESPONSE = block((":status", "200"), ("content-type", "application/grpc"))
OK = block(("grpc-status", "0"))


def headers(payload, flags=END_HEADERS):
    return frame(HEADERS, flags, 1, payload)


def data(payload, flags=0):
    return frame(DATA, flags, 1, payload)


def trailers(payload=OK):
    return headers(payload, END_HEADERS | END_STREAM)


def padded(payload, padding):
    return bytes([padding]) + payload + bytes(padding)


def message(payload=b""):
    """What gRPC puts before each message."""
    return struct.pack(">BI", 0, len(payload)) + payload


def answer(*payloads):
    """A whole answer that went well."""
    return headers(RESPONSE) + b"".join(data(message(payload)) for payload in payloads) + trailers()


class Peer:
    """The server's end of a connection."""

    def __init__(self, connection):
        self.connection = connection
        self.seen = []

    def octets(self, count):
        found = b""
        while len(found) < count:
            more = self.connection.recv(count - len(found))
            if not more:
                raise EOFError
            found += more
        return found

    def send(self, *frames):
        self.connection.sendall(b"".join(frames))

    def frame(self):
        """The next frame of the client: kind, flags, stream, payload."""
        head = self.octets(9)
        length = int.from_bytes(head[:3], "big")
        self.seen.append((head[3], head[4], int.from_bytes(head[5:9], "big"), self.octets(length)))
        return self.seen[-1]

    def until(self, kind, flags=0):
        """The payload of the next frame of that kind which has the flags."""
        while True:
            found, given, _, payload = self.frame()
            if found == kind and given & flags == flags:
                return payload

    def hello(self, **values):
        """Both sides' settings."""
        assert self.octets(len(PREFACE)) == PREFACE
        assert self.frame()[0] == SETTINGS
        self.send(settings(**values), frame(SETTINGS, ACK))

    def request(self, **values):
        """The settings, and the request to its end; its message."""
        self.hello(**values)
        self.until(DATA, END_STREAM)
        return self.body()

    def body(self):
        return b"".join(payload for kind, _, _, payload in self.seen if kind == DATA)


@contextmanager
def serving(*scripts):
    """A socket where each connection is served by the next script; its errors are those of the test."""
    errors = []
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = f"{directory}/raw.sock"
        listener.bind(path)
        listener.listen()
        os.chmod(path, 0o600)

        def serve():
            for script in scripts:
                connection, _ = listener.accept()
                with connection:
                    try:
                        script(Peer(connection))
                    except Exception as error:
                        errors.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address(f"unix://{path}", connect_timeout=600)
        finally:
            # A test that failed may have left scripts waiting for their connection.
            while thread.is_alive():
                with socket.socket(socket.AF_UNIX) as late:
                    late.settimeout(1)
                    try:
                        late.connect(path)
                    except OSError:
                        break
                thread.join(0.1)
            thread.join(600)
    assert errors == []
