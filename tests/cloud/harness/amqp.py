"""A small oslo.messaging client: what nova-api does to the queue of a compute host, and what it never would."""

from __future__ import annotations

import configparser
import contextlib
import json
import uuid
from typing import Any

import kombu
from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError

from harness.lab import Lab
from harness.waiting import eventually

Json = dict[str, Any]


class RpcFailure(Exception):
    """The failure that came back, as a remote exception's class and message."""

    def __init__(self, failure: Json) -> None:
        super().__init__(f"{failure['module']}.{failure['class']}: {failure['message']}")
        self.cls = failure["class"]
        self.module = failure["module"]


class Amqp:
    """One connection to the cloud's RabbitMQ."""

    def __init__(self, lab: Lab) -> None:
        configuration = configparser.ConfigParser(interpolation=None, strict=False)
        configuration.read(lab.state / "etc" / "nova.conf")
        url = configuration["DEFAULT"]["transport_url"].replace("rabbit://", "amqp://")
        self._connection = kombu.Connection(url, connect_timeout=60)
        self._channel = self._connection.channel()
        self.reply_queue = f"reply_{uuid.uuid4().hex}"
        self.collected: list[Json] = []
        """Every answer that came so far, whoever it was for."""
        queue = kombu.Queue(self.reply_queue, channel=self._channel, durable=False, auto_delete=True)
        # For as long as the connection is there: the broker deletes the queue with its last consumer.
        self._consumer = kombu.Consumer(self._channel, queues=[queue], callbacks=[self._received], accept=["json"])
        self._consumer.consume()

    def close(self) -> None:
        with contextlib.suppress(AMQPError):
            self._consumer.cancel()
        self._connection.release()

    def consumers(self, queue: str) -> int:
        """How many take messages from a queue, which must be there."""
        return int(kombu.Queue(queue, channel=self._channel).queue_declare(passive=True).consumer_count)

    def waiting(self, queue: str) -> int:
        """How many messages of a queue, which must be there, nobody has taken."""
        return int(kombu.Queue(queue, channel=self._channel).queue_declare(passive=True).message_count)

    def purge(self, queue: str) -> None:
        """Drop all messages that nobody has taken, as a broker that ends does."""
        kombu.Queue(queue, channel=self._channel).purge()

    def publish(self, routing_key: str, body: bytes, content_type: str = "application/json") -> None:
        """Anything at all to the exchange `nova`."""
        producer = kombu.Producer(self._channel, exchange=kombu.Exchange("nova", "topic", durable=False, passive=True))
        producer.publish(body, routing_key=routing_key, content_type=content_type, content_encoding="utf-8")

    def send(self, routing_key: str, message: Json) -> None:
        """A message in oslo's envelope."""
        envelope = {"oslo.version": "2.0", "oslo.message": json.dumps(message)}
        self.publish(routing_key, json.dumps(envelope).encode())

    def call(self, topic: str, host: str, method: str, arguments: Json, *, seconds: float = 300, **fields: Any) -> Any:
        """Call `method` as an admin and return its result. Raises RpcFailure or TimeoutError.

        `fields` replace or add keys of the message: `version`, `namespace`.
        """
        message_id = uuid.uuid4().hex
        message = {
            "method": method,
            "args": arguments,
            "version": "6.0",
            "_unique_id": uuid.uuid4().hex,
            "_msg_id": message_id,
            "_reply_q": self.reply_queue,
            "_timeout": None,
            **_CONTEXT,
            "_context_request_id": f"req-{uuid.uuid4()}",
            **fields,
        }
        self.send(f"{topic}.{host}", message)
        return self.answer(message_id, seconds)

    def answer(self, message_id: str, seconds: float = 300) -> Any:
        """The result that comes for the message of that id. Raises RpcFailure or TimeoutError."""

        def final() -> Json | None:
            mine = (answer for answer in self.collected if answer["_msg_id"] == message_id and answer.get("ending"))
            return next(mine, None)

        while (answer := final()) is None:
            try:
                self._connection.drain_events(timeout=seconds)
            except TimeoutError:
                raise TimeoutError(f"no answer in {seconds:.0f} s") from None
        if answer["failure"]:
            raise RpcFailure(json.loads(answer["failure"]))
        return answer["result"]

    def _received(self, body: Any, message: Any) -> None:
        message.ack()
        payload = body if isinstance(body, dict) else json.loads(body)
        self.collected.append(json.loads(payload["oslo.message"]))


def instance(server_id: str, **fields: Any) -> Json:
    """As little of an Instance as a message may carry."""
    return {
        "nova_object.name": "Instance",
        "nova_object.namespace": "nova",
        "nova_object.version": "2.8",
        "nova_object.data": {"uuid": server_id, **fields},
        "nova_object.changes": [],
    }


def wait_consumers(lab: Lab, *queues: str) -> None:
    """Wait until the cloud's RabbitMQ has somebody at each of the queues."""

    def attended() -> bool:
        try:
            client = Amqp(lab)
            try:
                return all(client.consumers(queue) for queue in queues)
            finally:
                client.close()
        except (OSError, AMQPError, KombuError):
            # It does not run, or has no such queue yet; that ends the channel.
            return False

    eventually(attended, f"somebody at the queues {', '.join(queues)}")


_CONTEXT = {
    "_context_user": None,
    "_context_project_id": None,
    "_context_is_admin": True,
    "_context_roles": ["admin"],
    "_context_auth_token": None,
    "_context_read_only": False,
    "_context_show_deleted": False,
    "_context_global_request_id": None,
    "_context_user_id": None,
    "_context_read_deleted": "no",
    "_context_remote_address": None,
    "_context_timestamp": "2026-01-01T00:00:00.000000",
    "_context_quota_class": None,
    "_context_service_catalog": [],
}
