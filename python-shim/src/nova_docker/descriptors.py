"""Builds the classes of the contract's messages from the descriptors that were packed with this package.

The descriptors live in a pool of their own: what anybody else registers in protobuf's global pool does not matter.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper


def _load() -> tuple[descriptor_pool.DescriptorPool, list[str]]:
    """The pool, and its files: each behind those that it needs."""
    data = pkgutil.get_data("nova_docker", "descriptors.binpb")
    if data is None:
        raise ImportError("nova_docker/descriptors.binpb is missing: this package has to be installed from its wheel")
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(data).file
    for proto in files:
        pool.AddSerializedFile(proto.SerializeToString())
    return pool, [proto.name for proto in files]


_POOL, _FILES = _load()

# The name in protobuf before 4.22, which is what Debian 12 and 13 have, and the name since.
_factory: Any = message_factory
_message_class = getattr(_factory, "GetMessageClass", None) or _factory.MessageFactory(_POOL).GetPrototype


def _classes(messages: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for message in messages:
        yield message.full_name, _message_class(message)
        yield from _classes(message.nested_types)


# All of them, also those that nobody names: protobuf 4.22 to 4.24 crashes where it needs a class that was collected as
# garbage.
_CLASSES = dict(
    _classes(chain.from_iterable(_POOL.FindFileByName(name).message_types_by_name.values() for name in _FILES))
)


def publish(proto: str, module: dict[str, Any]) -> None:
    """Puts the messages and enumerations of a .proto file into a module's namespace, as protoc's own code would."""
    file = _POOL.FindFileByName(proto)
    for name, message in file.message_types_by_name.items():
        module[name] = _CLASSES[message.full_name]
    for name, enum in file.enum_types_by_name.items():
        module[name] = enum_type_wrapper.EnumTypeWrapper(enum)
        module.update({value.name: value.number for value in enum.values})
