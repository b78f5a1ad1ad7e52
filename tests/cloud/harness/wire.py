"""What a compute service tells the conductor of an operation, one line a step: as recorded, and as it happens."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu

from harness.servers import Json
from harness.waiting import eventually

_RECORDED = Path(__file__).parents[2] / "wire"

_STATES = ("vm_state", "task_state")
_NOTED = ("power_state", "launched_at", "terminated_at")
"""Fields of an instance that are written; what they say is another driver's, or another day's."""
_CASTS = ("resize_instance", "finish_resize", "finish_revert_resize")
"""What compute services ask one another for."""
_RECORDS = ("Instance", "VirtualInterface")
"""What is made and taken away."""


def recorded(operation: str) -> list[str]:
    """The steps of a stock nova-compute with Nova's fake driver."""
    lines = (_RECORDED / f"{operation}.jsonl").read_text().splitlines()
    messages = [json.loads(line) for line in lines]
    sent = [each["message"] for each in messages if each["sender"].startswith("nova-compute")]
    return [each for each in map(_step, sent) if each]


class Wire:
    """Copies of all that goes through Nova's exchange, from now on."""

    def __init__(self, transport_url: str) -> None:
        self._connection = kombu.Connection(transport_url, connect_timeout=60)
        channel = self._connection.channel()
        exchange = kombu.Exchange("nova", "topic", durable=False, passive=True)
        self._name = f"wire_{uuid.uuid4().hex}"
        queue = kombu.Queue(self._name, exchange, routing_key="#", channel=channel, exclusive=True, durable=False)
        self._producer = kombu.Producer(channel, exchange)
        self._messages: list[Json] = []
        self._consumer = kombu.Consumer(channel, queues=[queue], callbacks=[self._received], accept=["json"])
        self._consumer.consume()

    def close(self) -> None:
        self._connection.release()

    def steps(self, request: str) -> list[str]:
        """Those of one request, when all events of it that have begun are over."""

        def are_over() -> bool:
            self._catch_up()
            begun, over = (sum(each.startswith(word) for each in self._of(request)) for word in ("begin ", "end "))
            return begun == over

        eventually(are_over, f"the ends of the events of {request}")
        return list(self._of(request))

    def _catch_up(self) -> None:
        """Reads what was said until now: a message of our own comes behind it."""
        mark = uuid.uuid4().hex
        self._producer.publish({"oslo.message": json.dumps({"mark": mark})}, routing_key=self._name)
        while not any(each.get("mark") == mark for each in self._messages):
            self._connection.drain_events(timeout=300)

    def _of(self, request: str) -> Iterator[str]:
        for message in self._messages:
            if message.get("_context_request_id") == request and (step := _step(message)):
                yield step

    def _received(self, body: Any, message: Any) -> None:
        message.ack()
        payload = body if isinstance(body, dict) else json.loads(body)
        self._messages.append(json.loads(payload["oslo.message"]))


def _step(message: Json) -> str | None:
    """What changes something; the questions of a compute service are its own."""
    method, arguments = message.get("method"), message.get("args", {})
    if method in _CASTS:
        return f"ask for {method}"
    if method == "object_class_action_versions":
        return _class_step(arguments)
    if method == "object_action":
        return _object_step(arguments)
    return None


def _class_step(arguments: Json) -> str | None:
    name, method = arguments["objname"], arguments["objmethod"]
    if method == "event_start":
        return f"begin {arguments['args'][1]}"
    if method == "event_finish_with_failure":
        return f"end {arguments['args'][1]}" + (" in error" if arguments["kwargs"]["exc_tb"] else "")
    return f"{name}: {method}" if method.startswith(("delete_", "clean_")) else None


def _object_step(arguments: Json) -> str | None:
    made, method = arguments["objinst"], arguments["objmethod"]
    name, values = made["nova_object.name"], made["nova_object.data"]
    changes = made.get("nova_object.changes", [])
    if name == "Migration" and method == "save" and "status" in changes:
        return f"migration {values['status']}"
    if name == "Instance" and method == "save":
        written = [f"{field}={values[field]}" for field in _STATES if field in changes]
        written += ["host=None" if values["host"] is None else "host=own"] if "host" in changes else []
        written += [field for field in _NOTED if field in changes]
        step = " ".join(["save", *written, *_expected(arguments["kwargs"])])
        # The second asks whether the task is still there, and changes nothing.
        return (
            step
            if written and step != f"save task_state={values.get('task_state')} if {values.get('task_state')}"
            else None
        )
    return f"{name}: {method}" if name in _RECORDS and method in ("create", "destroy") else None


def _expected(options: Json) -> list[str]:
    if "expected_task_state" not in options:
        return []
    expected = options["expected_task_state"]
    several = expected if isinstance(expected, list) else [expected]
    return ["if", "or".join(f" {state} " for state in sorted(map(str, several))).strip()]
