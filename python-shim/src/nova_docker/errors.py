"""From the agent's errors to the exceptions that Nova's manager understands. This is the only place that knows both.

The manager knows what to do by the class: give up a build (BuildAbortException) or try it on another host (any other),
put the server into an error state or leave it as it was. The text goes into the server's fault, which the user reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from nova import exception

from nova_docker.rpc import AddressRefused, CallError, Code

#: What is special to one kind of operation: the exception for an error and its sentence, or None for the usual one.
Special = Callable[[CallError, str], "Exception | None"]

# The same build would end the same way on every host: the user has to change something.
_USERS_FAULT = frozenset(
    {"UNSUPPORTED", "INVALID_ARGUMENT", "COMMAND_NOT_FOUND", "EXITED_AT_ONCE", "IMAGE_UNACCEPTABLE", "IMAGE_NOT_FOUND"}
)
# The host cannot do anything just now.
_AWAY = frozenset({"DOCKER_UNAVAILABLE", "STOPPING"})
# Characters of a container's last words that are told.
_TAIL = 110


def is_away(error: CallError | AddressRefused) -> bool:
    """Whether neither the guest nor the request is to blame, but an agent or a Docker that is not there."""
    if isinstance(error, AddressRefused):
        return True
    return error.reason in _AWAY or (error.code == Code.UNAVAILABLE and not error.reason)


def is_missing(error: CallError) -> bool:
    """Whether the guest has no container."""
    return error.reason == "GUEST_NOT_FOUND"


def is_cancelled(error: CallError) -> bool:
    """Whether the agent has ended the call: nobody wants it any more, or the guest is being deleted."""
    return error.reason == "CANCELLED"


def sentence(error: CallError) -> str:
    """What the user is told."""
    if not error.from_server and error.code == Code.UNAVAILABLE:
        return f"nova-docker-agent does not answer: {error.message}"
    tail = error.metadata.get("log_tail", "")
    if len(tail) > _TAIL:
        # A fault has 255 characters, and programs tell at the end what they died of.
        return error.message.replace(tail, f"... {tail[-_TAIL:]}")
    return error.message


@contextmanager
def translated(instance: Any, special: Special | None = None) -> Iterator[None]:
    """Raises what Nova understands instead of what the client raises."""
    try:
        yield
    except CallError as error:
        text = sentence(error)
        found = special(error, text) if special else None
        raise (found or _usual(error, text, instance)) from error
    except AddressRefused as error:
        raise exception.HypervisorUnavailable(message=str(error)) from error


def _usual(error: CallError, text: str, instance: Any) -> Exception:
    if is_missing(error) and instance is not None:
        found: Exception = exception.InstanceNotFound(instance_id=instance.uuid)
    elif is_away(error):
        found = exception.HypervisorUnavailable(message=text)
    elif error.reason == "UNSUPPORTED":
        found = exception.NotSupported(message=text)
    elif error.code == Code.UNIMPLEMENTED:
        found = NotImplementedError(text)
    else:
        found = exception.NovaException(message=text)
    return found


def spawning(instance: Any) -> Special:
    """For spawn: the user's faults end the build, everything else may be tried on another host."""

    def special(error: CallError, text: str) -> Exception | None:
        if error.reason in _USERS_FAULT:
            # Images too: the manager would make ImageUnacceptable this, with so many words around the reason that the
            # fault has no room for it, and would try ImageNotFound on another host.
            return _exception(exception.BuildAbortException(instance_uuid=instance.uuid, reason=text))
        if error.reason == "PLUG_FAILED":
            return _exception(exception.VirtualInterfacePlugException(message=text))
        if is_missing(error):
            # InstanceNotFound would mean that the user has deleted the server meanwhile.
            return _exception(exception.NovaException(message=text))
        return None

    return special


def opening_console(error: CallError, text: str) -> Exception | None:
    """For get_serial_console: of all classes, this one reaches the user with its words."""
    if error.reason == "NO_CONSOLE":
        return _exception(exception.ConsoleTypeUnavailable(message=text, console_type="serial"))
    if error.code == Code.UNIMPLEMENTED:
        text = "nova-docker-agent is too old for serial consoles; upgrade it"
        return _exception(exception.ConsoleTypeUnavailable(message=text, console_type="serial"))
    return None


def plugging(error: CallError, text: str) -> Exception | None:
    """For plug_vifs: this class makes the manager mark one server, every other ends the start of nova-compute."""
    if is_away(error) or error.code == Code.UNIMPLEMENTED:
        return None
    return _exception(exception.VirtualInterfacePlugException(message=text))


def powering_off(error: CallError, text: str) -> Exception | None:
    """For power_off."""
    return None if is_missing(error) else _exception(exception.InstancePowerOffFailure(reason=text))


def powering_on(error: CallError, text: str) -> Exception | None:
    """For power_on."""
    return None if is_missing(error) else _exception(exception.InstancePowerOnFailure(reason=text))


def rebooting(error: CallError, text: str) -> Exception | None:
    """For reboot."""
    return None if is_missing(error) else _exception(exception.InstanceRebootFailure(reason=text))


def suspending(error: CallError, text: str) -> Exception | None:
    """For suspend and resume: the manager puts the server into an error state unless nothing has changed."""
    if error.code == Code.UNIMPLEMENTED:
        return NotImplementedError("nova-docker-agent is older than its driver and cannot suspend servers: upgrade it")
    if error.reason == "UNSUPPORTED":
        refusal = exception.NotSupported(message=text)
        return _exception(exception.InstanceFaultRollback(inner_exception=refusal))
    return None


def setting_password(error: CallError, text: str) -> Exception | None:
    """For set_admin_password: of this class alone the user is told the text."""
    return _exception(exception.SetAdminPasswdNotSupported(message=text)) if error.reason == "UNSUPPORTED" else None


def snapshotting(instance: Any, image_id: str) -> Special:
    """For snapshot: the manager removes the image silently when the guest is not there."""

    def special(error: CallError, text: str) -> Exception | None:
        if is_missing(error):
            return _exception(exception.InstanceNotRunning(instance_id=instance.uuid))
        if error.reason == "IMAGE_NOT_FOUND":
            return _exception(exception.ImageNotFound(image_id=image_id))
        return None

    return special


def attaching(instance: Any) -> Special:
    """For attach_interface."""

    def special(error: CallError, text: str) -> Exception | None:
        if is_missing(error):
            return None
        return _exception(exception.InterfaceAttachFailed(message=text, instance_uuid=instance.uuid))

    return special


def detaching(instance: Any) -> Special:
    """For detach_interface."""

    def special(error: CallError, text: str) -> Exception | None:
        if is_missing(error):
            return None
        return _exception(exception.InterfaceDetachFailed(message=text, instance_uuid=instance.uuid))

    return special


def _exception(found: Any) -> Exception:
    # Nova has no types, and what has none must not spread.
    return cast(Exception, found)
