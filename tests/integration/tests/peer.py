"""The other end of the bus, as the Python services have it: oslo.messaging itself.

peer.py server URL EXCHANGE TOPIC   serves the topic until its input ends; prints "ready"
peer.py client URL EXCHANGE TOPIC   calls the server "host" of the topic; prints what it got as JSON
"""

import json
import logging
import sys

import nova.exception
import oslo_messaging
from oslo_config import cfg
from oslo_messaging._drivers import common


class Endpoint:
    target = oslo_messaging.Target(version="3.1")

    def echo(self, context, **arguments):
        return {"arguments": arguments, "request_id": context.get("request_id"), "odd": context.get("odd")}

    def fail(self, context, uuid):
        raise nova.exception.InstanceNotFound(instance_id=uuid)


def serve(transport, topic):
    target = oslo_messaging.Target(topic=topic, server="peer")
    server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor="threading")
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop()
    server.wait()


def outcome(call):
    try:
        return {"result": call()}
    except oslo_messaging.RemoteError as error:
        return {"remote_error": error.exc_type}
    except Exception as error:
        return {"raised": [base.__name__ for base in type(error).__mro__], "text": str(error)}


class Unhurried(common.DecayingTimer):
    """A busy machine may be late with a sign of life; what is asked for is that they come."""

    def __init__(self, duration=None):
        super().__init__(duration=duration and 600)


class Signs(logging.Handler):
    """Tells the server of each sign of life that the caller has got of it."""

    def __init__(self, tell):
        super().__init__(logging.DEBUG)
        self._tell = tell

    def emit(self, record):
        if "heartbeat received" in record.getMessage():
            self._tell()


def ask(transport, topic):
    target = oslo_messaging.Target(topic=topic, server="host", version="6.0")
    client = oslo_messaging.get_rpc_client(transport, target, timeout=120)
    monitored = client.prepare(timeout=120, call_monitor_timeout=2)
    context = {"request_id": "req-1", "odd": {"kept": True}}
    common.DecayingTimer = Unhurried
    log = logging.getLogger("oslo_messaging._drivers.amqpdriver")
    log.setLevel(logging.DEBUG)
    log.addHandler(Signs(lambda: client.cast(context, "alive")))
    client.cast(context, "remember", value=7)
    answers = {
        "echo": outcome(lambda: client.call(context, "echo", value=[1, None, "ä"])),
        "fail": outcome(lambda: client.call(context, "fail")),
        "refuse": outcome(lambda: client.call(context, "refuse")),
        "unknown": outcome(lambda: client.call(context, "unknown")),
        "newer": outcome(lambda: client.prepare(version="6.9").call(context, "echo")),
        # Answered after the third sign of life.
        "slow": outcome(lambda: monitored.call(context, "slow")),
        "remembered": outcome(lambda: client.call(context, "recall")),
    }
    print(json.dumps(answers), flush=True)


def main():
    mode, url, exchange, topic = sys.argv[1:]
    # The global one: oslo.messaging reads some of its options nowhere else.
    conf = cfg.CONF
    conf([], project="peer")
    oslo_messaging.set_transport_defaults(exchange)
    transport = oslo_messaging.get_rpc_transport(conf, url=url, allowed_remote_exmods=["nova.exception"])
    {"server": serve, "client": ask}[mode](transport, topic)


main()
