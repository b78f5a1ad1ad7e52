"""One Docker as the resource uses it. Every error says what was asked of which Docker, and what it answered."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import docker
import requests
from docker import utils
from heat.common import exception

from nova_docker_heat import options
from nova_docker_heat.endpoint import BadEndpoint, parse, resolve
from nova_docker_heat.transport import SILENCE_SECONDS, Bounded, context_of

Json = dict[str, Any]

_VERSION = re.compile(r"1\.\d{1,4}")
_OLDEST = "1.24"
_LONGEST_MESSAGE = 1000
_LOG_BYTES = 64 * 1024
_PULL_BYTES = 256 << 20
"""Of a pull's progress, which is read and forgotten."""
_MOST_CONTAINERS = 16
"""Of one resource, which makes one at a time; more is a Docker that lies."""

LABEL = "org.openstack.heat.resource"
"""Of a container: the resource that it is. By it one is found that was made while Heat died."""


class DockerFailed(exception.Error):
    """What becomes a resource's status_reason."""


class NoAnswer(DockerFailed):
    """Docker cannot be reached, now."""


class NotThere(DockerFailed):
    """There is no such container or image."""


class Engine:
    """Raises DockerFailed."""

    def __init__(self, endpoint: str, certificates: Mapping[str, str] | None) -> None:
        try:
            where = parse(endpoint, bool(certificates))
            address = resolve(where, options.endpoint_networks())
            context = context_of(certificates) if certificates else None
        except (BadEndpoint, ValueError) as error:
            raise DockerFailed(str(error)) from error
        self._name = str(where)
        self._transport = Bounded(context, where.host)
        host = f"[{address}]" if ":" in address else address
        self._url = f"{'https' if where.tls else 'http'}://{host}:{where.port}"
        self._client = self._new(_OLDEST)
        with self._telling("tell its version"):
            version = str(_map(self._client.version(api_version=False)).get("ApiVersion"))
        if not _VERSION.fullmatch(version):
            raise DockerFailed(f"{self._name} is no Docker: it tells of no version of Docker's API")
        self._client = self._new(version)

    def _new(self, version: str) -> Any:
        client = docker.APIClient(base_url=self._url, version=version, timeout=SILENCE_SECONDS)
        # What Heat's own environment says of proxies and passwords is nobody's business, and a redirection leads where
        # nobody has looked.
        client.trust_env = False
        client.max_redirects = 0
        client.mount(self._url, self._transport)
        return client

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except docker.errors.NotFound as error:
            raise NotThere(self._message(what, error.explanation or error)) from error
        except docker.errors.APIError as error:
            raise DockerFailed(self._message(what, error.explanation or error)) from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            # A wrong certificate is wrong in a minute too.
            kind = DockerFailed if isinstance(error, requests.exceptions.SSLError) else NoAnswer
            raise kind(self._message(what, error)) from error
        except (docker.errors.DockerException, requests.exceptions.RequestException, ValueError, TypeError) as error:
            raise DockerFailed(self._message(what, error)) from error
        except (LookupError, AttributeError, RecursionError) as error:
            # docker takes it for granted that an answer has the form that Docker's have.
            raise DockerFailed(self._message(what, "its answer is none of Docker's")) from error

    def _message(self, what: str, reason: object) -> str:
        return f"the Docker at {self._name} does not {what}: {_plain(str(reason))}"

    # ------------------------------------------------------------ images

    def pull_if_missing(self, image: str) -> None:
        try:
            with self._telling(f"look for the image {image}"):
                self._client.inspect_image(image)
        except NotThere:
            self._pull(image)

    def _pull(self, image: str) -> None:
        repository, tag = utils.parse_repository_tag(image)
        words = {"fromImage": repository, "tag": tag or "latest"}
        what, seconds = f"pull the image {image}", options.pull_seconds()
        with self._telling(what), self._transport.bounds(_PULL_BYTES, seconds):
            # Not with docker's own `pull`: that sends the passwords of Heat's host for the registry.
            answer = self._client.post(f"{self._base}/images/create", params=words, stream=True, timeout=seconds)
            with contextlib.closing(answer):
                self._client._raise_for_status(answer)
                failure = _failure_in(answer)
        if failure:
            raise DockerFailed(self._message(what, failure))

    @property
    def _base(self) -> str:
        return f"{self._url}/v{self._client.api_version}"

    # ------------------------------------------------------------ containers

    def create(self, configure: Any, name: str | None) -> str:
        """Make a container of what `configure` makes for the client, and return its id."""
        with self._telling("create the container"):
            made = _map(self._client.create_container_from_config(configure(self._client), name))
        return self._id_of(made, "create the container")

    def _id_of(self, container: object, what: str) -> str:
        told = _map(container).get("Id")
        if not (isinstance(told, str) and re.fullmatch(r"[0-9a-f]{64}", told)):
            raise DockerFailed(self._message(what, "it answers without an id"))
        return told

    def start(self, container: str) -> None:
        with self._telling("start the container"):
            self._client.start(container)

    def stop(self, container: str) -> None:
        with self._telling("stop the container"):
            self._client.stop(container)

    def remove(self, container: str) -> None:
        """With the volumes that are its own."""
        with self._telling("remove the container"):
            self._client.remove_container(container, v=True, force=True)

    def rename(self, container: str, name: str) -> None:
        with self._telling(f"rename the container to {name}"):
            self._client.rename(container, name)

    def update(self, container: str, limits: Json) -> None:
        with self._telling("change the container"):
            self._client.update_container(container, **limits)

    def inspect(self, container: str) -> Json:
        with self._telling("show the container"):
            return _map(self._client.inspect_container(container))

    def containers_of(self, resource: str) -> list[str]:
        """The ids of the containers that a resource of Heat is."""
        what = "list containers"
        with self._telling(what):
            found = list(self._client.containers(all=True, filters={"label": f"{LABEL}={resource}"}))
        if len(found) > _MOST_CONTAINERS:
            raise DockerFailed(self._message(what, f"it says that one resource has {len(found)} of them"))
        return [self._id_of(each, what) for each in found]

    def logs(self, container: str, lines: int | None = None) -> str:
        """The beginning of the log, or of its last `lines`, at most 64 KiB."""
        tty = bool(_map(self.inspect(container).get("Config")).get("Tty"))
        words = {"stdout": 1, "stderr": 1, "tail": lines or "all"}
        with self._telling("show the container's log"):
            # Not with docker's own `logs`: that takes as many bytes as the other side says.
            answer = self._client.get(f"{self._base}/containers/{container}/logs", params=words, stream=True)
            with contextlib.closing(answer):
                self._client._raise_for_status(answer)
                written = b""
                for chunk in answer.iter_content(8192):
                    written += chunk
                    if len(written) > _LOG_BYTES:
                        break
        return (written if tty else _without_headers(written))[:_LOG_BYTES].decode(errors="replace")


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _plain(text: str) -> str:
    """A message that fits in a status_reason, without what a terminal would obey."""
    shown = "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return shown if len(shown) <= _LONGEST_MESSAGE else f"{shown[:_LONGEST_MESSAGE]}..."


def _failure_in(answer: Any) -> str | None:
    """What a pull has failed of: Docker says it in the last line of an answer that has begun well."""
    line = b""
    for chunk in answer.iter_content(8192):
        lines = (line + chunk).split(b"\n")
        for each in lines[:-1]:
            if failure := _error_of(each):
                return failure
        # A line that is longer than any of Docker's is none.
        line = lines[-1][-_LOG_BYTES:]
    return _error_of(line)


def _error_of(line: bytes) -> str | None:
    try:
        error = _map(json.loads(line)).get("error")
    except (ValueError, RecursionError):
        return None
    return str(error) if error else None


def _without_headers(written: bytes) -> bytes:
    """What a container without a terminal has written: each piece has eight bytes before it, with its length."""
    made, at = b"", 0
    while at + 8 <= len(written):
        length = int.from_bytes(written[at + 4 : at + 8], "big")
        made += written[at + 8 : at + 8 + length]
        at += 8 + length
    return made
