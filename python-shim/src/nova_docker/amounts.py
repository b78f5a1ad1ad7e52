"""Numbers and texts that tenants and other services set, made fit for the contract's messages.

protobuf raises ValueError for a number that its field cannot hold and for a text that is not Unicode. That would be a
server that nobody can stop, or a nova-compute that never starts. So whatever comes from a flavor, an image or a port
goes through here: it is kept within bounds, or refused with a sentence.
"""

from __future__ import annotations

from typing import Any

from nova.conf import CONF
from oslo_log import log as logging

from nova_docker.rpc import CallError, Code

LOG = logging.getLogger(__name__)

LONGEST_SHUTDOWN = 3600
"""Seconds that a guest may have to end by itself: an hour."""

UINT32 = 2**32 - 1
UINT64 = 2**64 - 1
# Digits of the longest number that is looked at; Python takes quadratic time for more, and refuses 4300.
_DIGITS = 100


def shutdown_timeout(value: Any, instance: Any) -> int:
    """Whole seconds from 0 to LONGEST_SHUTDOWN. What is no such number means [DEFAULT] shutdown_timeout."""
    number = _whole(value)
    if number is None or number < 0:
        number = min(int(CONF.shutdown_timeout), LONGEST_SHUTDOWN)
        LOG.warning("A shutdown timeout of %s means nothing: taking %d s", _shown(value), number, instance=instance)
    elif number > LONGEST_SHUTDOWN:
        number = LONGEST_SHUTDOWN
        LOG.warning("A shutdown timeout of %s is too long: taking %d s", _shown(value), number, instance=instance)
    return number


def amount(name: str, value: Any, most: int, least: int = 0) -> int:
    """A number of a flavor that has to be kept as it is; None means 0. Raises CallError (INVALID_ARGUMENT)."""
    number = _whole(0 if value is None else value)
    if number is None or not least <= number <= most:
        raise _refused(
            "INVALID_ARGUMENT", f"{name} is {_shown(value)}; it must be a whole number from {least} to {most}"
        )
    return number


def size(value: Any) -> int:
    """The size of an image in bytes as far as it is known; only told, so that nonsense is 0."""
    number = _whole(value)
    return number if number is not None and 0 <= number <= UINT64 else 0


def mtu(port: Any, value: Any) -> int | None:
    """The MTU of a port's network; None and 0 mean the kernel's default. Raises CallError (PLUG_FAILED)."""
    number = _whole(0 if value is None else value)
    if number is None or not 0 <= number <= UINT32:
        raise _refused("PLUG_FAILED", f"the network of port {_shown(port)} has an MTU of {_shown(value)}")
    return number or None


def text(value: Any) -> str:
    """A text that a message can hold: what is not Unicode becomes question marks, None is empty."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")


def unusable_port(port: Any, why: str) -> CallError:
    """The error of a port that Nova tells in a form that cannot be plugged."""
    return _refused("PLUG_FAILED", f"port {_shown(port)} cannot be plugged: {why}")


def _refused(reason: str, message: str) -> CallError:
    return CallError(Code.INVALID_ARGUMENT, message, reason=reason, begun=False)


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and len(value) > _DIGITS:
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _shown(value: Any) -> str:
    """The beginning of a value, on one line, for a sentence."""
    try:
        return repr(value)[:40]
    except ValueError:  # A number with more digits than Python writes.
        return "a very long number"
