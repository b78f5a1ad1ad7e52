"""Where Heat finds DockerInc::Docker::Container: it loads every module of its `plugin_dirs`."""

from __future__ import annotations

from nova_docker_heat.container import Container


def resource_mapping() -> dict[str, type[Container]]:
    return {"DockerInc::Docker::Container": Container}
