"""What the host has, in the forms that Nova's resource tracker and Placement want."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import os_resource_classes as orc
from nova.conf import CONF
from nova.objects import fields

from nova_docker.v1 import host_pb2

# Nova's database has 32 bits for a version; a Docker that counts by dates must not keep the host from being reported.
_LARGEST = 2**31 - 1


def available_resource(host: host_pb2.HostResources, node: str, hypervisor_type: str) -> dict[str, Any]:
    """For get_available_resource. What instances use, the resource tracker counts itself."""
    return {
        "vcpus": host.vcpus,
        "memory_mb": host.memory_mib,
        "local_gb": host.disk_gib,
        "vcpus_used": 0,
        "memory_mb_used": host.memory_used_mib,
        "local_gb_used": host.disk_used_gib,
        "disk_available_least": host.disk_gib - host.disk_used_gib,
        "hypervisor_type": hypervisor_type,
        "hypervisor_version": version_number(host.docker_version),
        "hypervisor_hostname": node,
        "supported_instances": [
            (_architecture(host.architecture), fields.HVType.DOCKER, fields.VMMode.EXE),
        ],
        "cpu_info": "",
        "numa_topology": None,
    }


def inventory(host: host_pb2.HostResources, ratios: dict[str, float], reserved_disk_gb: int) -> dict[str, Any]:
    """For update_provider_tree, without what the host has nothing of."""
    amounts = {
        orc.VCPU: (host.vcpus, CONF.reserved_host_cpus),
        orc.MEMORY_MB: (host.memory_mib, CONF.reserved_host_memory_mb),
        orc.DISK_GB: (host.disk_gib, reserved_disk_gb),
    }
    return {
        name: {
            "total": total,
            # Placement refuses a whole inventory of which more is reserved than there is.
            "reserved": min(reserved, total),
            "min_unit": 1,
            "max_unit": total,
            "step_size": 1,
            "allocation_ratio": ratios[name],
        }
        for name, (total, reserved) in amounts.items()
        if total > 0
    }


def version_number(version: str) -> int:
    """20010024 for "20.10.24+dfsg1"."""
    found = [int(number) for number in re.findall(r"(?:^|\.)(\d+)", version)[:3]]
    major, minor, patch = [*found, 0, 0, 0][:3]
    return min((major * 1000 + minor) * 1000 + patch, _LARGEST)


def uptime(host: host_pb2.HostResources, now: datetime) -> str:
    """A line as uptime(1) prints it, since Nova's API shows it as it is."""
    up = timedelta(seconds=host.uptime.seconds)
    hours, minutes = divmod(up.seconds // 60, 60)
    load = ", ".join(f"{number:.2f}" for number in host.load_average)
    return f" {now:%H:%M:%S} up {up.days} days, {hours:2d}:{minutes:02d},  0 users,  load average: {load}"


def _architecture(name: str) -> str:
    try:
        return str(fields.Architecture.canonicalize(name))
    except Exception:
        # One that Nova does not know; it can still be shown.
        return name
