"""The resource: what Heat calls, and when a container counts as created, changed, stopped and gone."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from typing import Any

from heat.common import exception
from heat.engine import resource, support

from nova_docker_heat import configuration, options, schema
from nova_docker_heat.configuration import Mistake
from nova_docker_heat.endpoint import BadEndpoint, parse
from nova_docker_heat.engine import DockerFailed, Engine, Json, NoAnswer, NotThere
from nova_docker_heat.transport import CERTIFICATE, KEY, context_of

_ASKED = "asked"
"""Of the resource's own data: whether Docker was ever asked for the container."""

_ENDPOINT = "endpoint"
"""Of the same: where the container is. Heat, when it asks for outputs, does not know what the property refers to."""

_ANSWER_POLL = 3
"""Turns of Heat's, of about a second each, between two looks whether Docker answers."""


@dataclasses.dataclass
class _Progress:
    """What Heat hands from one look to the next."""

    since: float = dataclasses.field(default_factory=time.monotonic)
    started: bool = False
    """Whether a container that was stopped has been started."""
    ran: bool = False
    """Whether the last look has found the container running."""
    turn: int = 0
    """Which of several containers is removed next."""


class Container(resource.Resource):
    """A container of a Docker that listens on the network, for example in a server of this cloud.

    It waits until that Docker answers. It is complete when the container still runs a moment after its start, or has
    ended with 0.
    """

    support_status = support.SupportStatus(version="27.0.0")
    properties_schema = schema.PROPERTIES
    attributes_schema = schema.ATTRIBUTES

    def validate(self) -> Any:
        found = super().validate()
        endpoint, certificates = self.properties[schema.DOCKER_ENDPOINT], _certificates(self.properties)
        try:
            # A server that is not there yet has no address.
            if endpoint:
                parse(endpoint, bool(certificates))
            if certificates and all(certificates.values()):
                context_of(certificates)
            configuration.port_bindings(self.properties[schema.PORT_BINDINGS] or {})
            for text in self.properties[schema.PORT_SPECS] or []:
                configuration.port(schema.PORT_SPECS, text)
        except (BadEndpoint, Mistake, ValueError) as error:
            raise exception.StackValidationFailed(message=str(error), resource=self) from error
        if certificates and (CERTIFICATE in certificates) != (KEY in certificates):
            message = f"{schema.DOCKER_TLS}: {CERTIFICATE} and {KEY} belong together"
            raise exception.StackValidationFailed(message=message, resource=self)
        return found

    def _engine(self) -> Engine:
        endpoint = self.data().get(_ENDPOINT) or self.properties[schema.DOCKER_ENDPOINT]
        return Engine(endpoint or "", _certificates(self.properties))

    def _engine_when_it_answers(self, progress: _Progress) -> Engine:
        """Raises PollDelay as long as Docker does not answer, and DockerFailed in the end."""
        try:
            return self._engine()
        except NoAnswer as error:
            waited = time.monotonic() - progress.since
            if waited < options.answer_seconds():
                raise resource.PollDelay(_ANSWER_POLL) from error
            raise DockerFailed(f"{error} (after {waited:.0f} seconds)") from error

    # ------------------------------------------------------------ create

    def handle_create(self) -> _Progress:
        return _Progress()

    def check_create_complete(self, progress: _Progress) -> bool:
        engine = self._engine_when_it_answers(progress)
        if self.resource_id is None:
            self._make(engine)
            return False
        return self._is_up(engine, progress)

    def _make(self, engine: Engine) -> None:
        engine.pull_if_missing(self.properties[schema.IMAGE])
        # From here on there may be a container, also if this engine dies before it has heard of it.
        self.data_set(_ASKED, "1")
        self.data_set(_ENDPOINT, self.properties[schema.DOCKER_ENDPOINT])
        configure = functools.partial(configuration.container, properties=self.properties, resource=self.uuid)
        try:
            made = engine.create(configure, self.properties[schema.NAME])
        except Mistake as error:
            raise DockerFailed(str(error)) from error
        self.resource_id_set(made)
        engine.start(made)

    def _is_up(self, engine: Engine, progress: _Progress) -> bool:
        """Whether the container has run for two looks, or has ended well. Raises DockerFailed when it has not."""
        try:
            state = _part(engine.inspect(self.resource_id), "State")
        except NoAnswer:
            # Once it has answered, the stack's own timeout says how long to ask again.
            return False
        if state.get("Restarting") or state.get("Status") == "created":
            progress.ran = False
            return False
        if state.get("Running"):
            ran, progress.ran = progress.ran, True
            return ran
        code = state.get("ExitCode")
        if code == 0:
            return True
        reason = f"the container has ended with exit code {code}"
        # A log that cannot be had must not hide that.
        with contextlib.suppress(DockerFailed):
            last = engine.logs(self.resource_id, 20).strip()[-1000:]
            reason += f"; the end of its log:\n{last}" if last else "; its log is empty"
        # Not ResourceInError: Heat would try it again.
        raise DockerFailed(reason)

    # ------------------------------------------------------------ update

    def handle_update(self, json_snippet: Any, tmpl_diff: Any, prop_diff: Json) -> None:
        if not prop_diff:
            return
        after = json_snippet.properties(self.properties_schema, self.context)
        limits = configuration.limits(after, prop_diff)
        name = after[schema.NAME]
        if limits is None or (schema.NAME in prop_diff and not name):
            # Docker takes no limit back, and no name.
            raise resource.UpdateReplace(self.name)
        if not limits and schema.NAME not in prop_diff:
            return
        engine = _engine_of(after)
        if limits:
            engine.update(self.resource_id, limits)
        if schema.NAME in prop_diff:
            engine.rename(self.resource_id, name)

    # ------------------------------------------------------------ suspend, resume, check

    def handle_suspend(self) -> None:
        self._engine().stop(self.resource_id)

    def handle_resume(self) -> _Progress:
        return _Progress()

    def check_resume_complete(self, progress: _Progress) -> bool:
        # A server that was resumed before it may have to start its Docker.
        engine = self._engine_when_it_answers(progress)
        if not progress.started:
            engine.start(self.resource_id)
            progress.started = True
            return False
        return self._is_up(engine, progress)

    def handle_check(self) -> None:
        state = _part(self._engine().inspect(self.resource_id), "State")
        ended_well = state.get("Status") == "exited" and state.get("ExitCode") == 0
        expected = {"attr": "status", "expected": "running", "current": state.get("Status")}
        self._verify_check_conditions([] if ended_well else [expected])

    # ------------------------------------------------------------ delete

    def handle_delete(self) -> _Progress | None:
        asked = self.resource_id is not None or self.data().get(_ASKED)
        return _Progress() if asked else None

    def check_delete_complete(self, progress: _Progress | None) -> bool:
        if progress is None:
            return True
        engine = self._engine_when_it_answers(progress)
        left = [self.resource_id] if self.resource_id else engine.containers_of(self.uuid)
        if not left:
            return True
        # One at a look, in turn: Heat looks at its own limit of time in between, and Docker says how long one takes.
        progress.turn += 1
        return _is_gone(engine, left[progress.turn % len(left)]) and len(left) == 1

    # ------------------------------------------------------------ attributes

    def _resolve_attribute(self, name: str) -> Any:
        if self.resource_id is None:
            return None
        engine = self._engine()
        try:
            if name in (schema.LOGS, schema.LOGS_HEAD, schema.LOGS_TAIL):
                return _log(engine, self.resource_id, name)
            return _attribute(engine.inspect(self.resource_id), name)
        except NotThere:
            return None


def _certificates(properties: Any) -> dict[str, str]:
    said = properties[schema.DOCKER_TLS] or {}
    return {name: text for name, text in said.items() if text is not None}


def _engine_of(properties: Any) -> Engine:
    return Engine(properties[schema.DOCKER_ENDPOINT] or "", _certificates(properties))


def _is_gone(engine: Engine, container: str) -> bool:
    """Whether a container is gone; otherwise it is asked to end, and removed."""
    try:
        state = _part(engine.inspect(container), "State")
        if state.get("Status") == "removing":
            return False
        if state.get("Running"):
            engine.stop(container)
        engine.remove(container)
        engine.inspect(container)
    except NotThere:
        return True
    return False


def _log(engine: Engine, container: str, name: str) -> str:
    lines = {schema.LOGS: 1000, schema.LOGS_HEAD: None, schema.LOGS_TAIL: 1}[name]
    text = engine.logs(container, lines)
    return text.partition("\n")[0] if name == schema.LOGS_HEAD else text.removesuffix("\n") if lines == 1 else text


def _attribute(info: Json, name: str) -> Any:
    network = _part(info, "NetworkSettings")
    # Docker 29 tells it of each network alone.
    first = next((each for each in _part(network, "Networks").values() if isinstance(each, dict)), {})
    ports = [key.split("/") for key in _part(network, "Ports") if key.count("/") == 1]
    found: Json = {
        schema.INFO: info,
        schema.NETWORK_INFO: network,
        schema.NETWORK_IP: network.get("IPAddress") or first.get("IPAddress"),
        schema.NETWORK_GATEWAY: network.get("Gateway") or first.get("Gateway"),
        schema.TCP_PORTS: ",".join(port for port, protocol in ports if protocol == "tcp"),
        schema.UDP_PORTS: ",".join(port for port, protocol in ports if protocol == "udp"),
    }
    return found[name]


def _part(info: Json, key: str) -> Json:
    found = info.get(key)
    return found if isinstance(found, dict) else {}
