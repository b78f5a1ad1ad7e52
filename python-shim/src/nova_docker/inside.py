"""What a guest finds inside besides its image: files, a password, a config drive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nova import exception
from nova.api.metadata import base as metadata
from nova.virt import configdrive

from nova_docker.v1 import inside_pb2

#: The revision of the contract that knows all of it. An older agent would leave it out without a word.
SINCE = 4


def inside(
    instance: Any, files: Iterable[tuple[str, bytes | str]] | None, password: str | None, network_info: Any
) -> inside_pb2.Inside:
    """What is put into the guest of an instance; Nova has decoded the files."""
    injected = [inside_pb2.InjectedFile(path=path, content=_bytes(content)) for path, content in files or ()]
    drive = None
    if configdrive.required_by(instance):
        drive = _config_drive(instance, injected, password, network_info)
    return inside_pb2.Inside(
        files=injected, admin_password=password or None, admin_user=admin_user(instance), config_drive=drive
    )


def admin_user(instance: Any) -> str:
    """Whose password is the server's: image property os_admin_user, or root."""
    return str((instance.system_metadata or {}).get("image_os_admin_user") or "root")


def refuse_of_old_agent(revision: int, wanted: inside_pb2.Inside, instance: Any) -> None:
    """Ends a launch whose wishes the agent does not know."""
    if revision < SINCE and (wanted.files or wanted.HasField("config_drive")):
        raise exception.BuildAbortException(
            instance_uuid=instance.uuid,
            reason="nova-docker-agent on this host is too old for injected files and config drives; upgrade it",
        )


def _config_drive(
    instance: Any, files: list[inside_pb2.InjectedFile], password: str | None, network_info: Any
) -> inside_pb2.ConfigDrive:
    """As every driver of Nova's makes it."""
    more: Mapping[str, str] = {"admin_pass": password} if password else {}
    content = [(file.path, file.content) for file in files]
    told = metadata.InstanceMetadata(instance, content=content, extra_md=more, network_info=network_info)
    return inside_pb2.ConfigDrive(
        files=[
            inside_pb2.InjectedFile(path=path, content=_bytes(data)) for path, data in told.metadata_for_config_drive()
        ]
    )


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content
