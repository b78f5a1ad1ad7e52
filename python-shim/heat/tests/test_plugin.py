"""Heat finds the resource by itself, in a directory of its configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from heat.engine.plugin_manager import PluginManager, PluginMapping
from heat.engine.resource import Resource

PLUGINS = Path(__file__).parent.parent / "plugins"

OF_THE_OLD_PLUGIN = (
    "docker_endpoint hostname user memory port_specs privileged tty open_stdin stdin_once env cmd dns image volumes"
    " volumes_from port_bindings links name restart_policy cap_add cap_drop read_only cpu_shares devices cpu_set"
)
ITS_ATTRIBUTES = (
    "info network_info network_ip network_gateway network_tcp_ports network_udp_ports logs logs_head logs_tail"
)


def test_heat_loads_it_from_plugin_dirs(conf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    conf.set_override("plugin_dirs", [str(PLUGINS)])
    monkeypatch.delitem(sys.modules, "heat.engine.plugins", raising=False)
    monkeypatch.delitem(sys.modules, "heat.engine.plugins.docker_container", raising=False)
    found = dict(PluginMapping(["available_resource", "resource"]).load_all(PluginManager()))
    assert list(found) == ["DockerInc::Docker::Container"]
    assert issubclass(found["DockerInc::Docker::Container"], Resource)


def test_it_has_all_that_templates_of_the_old_plugin_say() -> None:
    from nova_docker_heat.container import Container

    assert set(Container.properties_schema) == {*OF_THE_OLD_PLUGIN.split(), "docker_tls"}
    assert set(Container.attributes_schema) == {*ITS_ATTRIBUTES.split(), "show"}, "Heat adds show"
