"""What a guest has used, in Nova's two forms.

The form of API 2.48 has a list of drivers with none for Docker: it says libvirt, and that the hypervisor is docker.
"""

from __future__ import annotations

from typing import Any

from nova import objects
from nova.virt import configdrive

from nova_docker.tags import HEALTH
from nova_docker.v1 import inside_pb2

_KIB = 1024
_MIB = 1024 * _KIB
_DISK = {"read": "read_bytes", "read_req": "read_requests", "write": "write_bytes", "write_req": "write_requests"}


def free(found: inside_pb2.GuestDiagnostics) -> dict[str, int | str]:
    """The form before API 2.48, with the names of libvirt's driver, and health. Memory is in KiB."""
    told: dict[str, int | str] = {
        "cpu0_time": found.cpu_time_ns,
        "memory": found.memory_limit // _KIB,
        "memory-actual": found.memory_limit // _KIB,
        "memory-rss": found.memory_used // _KIB,
    }
    told.update({f"disk_{name}": getattr(found, field) for name, field in _DISK.items() if found.HasField(field)})
    for interface in found.interfaces:
        for direction, traffic in (("rx", interface.received), ("tx", interface.sent)):
            name = f"{interface.name}_{direction}"
            told[name] = traffic.bytes
            told[f"{name}_packets"] = traffic.packets
            told[f"{name}_errors"] = traffic.errors
            told[f"{name}_drop"] = traffic.dropped
    if found.health in HEALTH:
        told["health"] = HEALTH[found.health]
    return told


def standard(found: inside_pb2.GuestDiagnostics, instance: Any) -> Any:
    """The form of API 2.48. Memory is in MiB. The kernel counts a container's processors as one, and so its disks."""
    told = objects.Diagnostics(
        state="running",
        driver="libvirt",
        hypervisor="docker",
        hypervisor_os="linux",
        uptime=found.uptime.seconds if found.HasField("uptime") else None,
        config_drive=bool(configdrive.required_by(instance)),
    )
    used = -(-found.memory_used // _MIB)
    told.memory_details = objects.MemoryDiagnostics(maximum=found.memory_limit // _MIB, used=used)
    told.add_cpu(id=0, time=found.cpu_time_ns)
    told.num_cpus = instance.flavor.vcpus
    told.add_disk(**{field: getattr(found, field) if found.HasField(field) else None for field in _DISK.values()})
    for interface in found.interfaces:
        received, sent = interface.received, interface.sent
        told.add_nic(
            mac_address=interface.mac_address or None,
            rx_octets=received.bytes,
            rx_packets=received.packets,
            rx_errors=received.errors,
            rx_drop=received.dropped,
            tx_octets=sent.bytes,
            tx_packets=sent.packets,
            tx_errors=sent.errors,
            tx_drop=sent.dropped,
        )
    return told
