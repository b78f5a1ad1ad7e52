"""Reports an Open vSwitch agent to Neutron for the host of the fake nova-compute.

ML2 binds a port only on a host with a live agent. The fake driver plugs nothing, so a second real agent would
only fight with the first over the same bridges. This loop is the one part of an agent that counts here.
Runs in the virtual environment.
"""

from __future__ import annotations

import sys
import time

from neutron.agent import rpc
from neutron.common import config
from neutron.conf.agent import common as agent_options
from neutron_lib import constants, context
from neutron_lib.agent import topics
from oslo_config import cfg
from oslo_log import log

LOG = log.getLogger(__name__)


def main() -> None:
    config.register_common_config_options()
    agent_options.register_agent_state_opts_helper(cfg.CONF)
    config.init(sys.argv[1:])
    config.setup_logging()
    reporter = rpc.PluginReportStateAPI(topics.REPORTS)
    state = {
        "binary": "neutron-openvswitch-agent",
        "host": cfg.CONF.host,
        "topic": constants.L2_AGENT_TOPIC,
        "agent_type": constants.AGENT_TYPE_OVS,
        "configurations": {
            "bridge_mappings": {"public": "br-ex"},
            "tunnel_types": ["vxlan"],
            "tunneling_ip": "127.0.0.2",
            "datapath_type": "system",
            "ovs_hybrid_plug": False,
            "vhostuser_socket_dir": "",
            "integration_bridge": "br-int",
            "extensions": [],
        },
        "start_flag": True,
    }
    while True:
        try:
            reporter.report_state(context.get_admin_context_without_session(), state, use_call=True)
            state.pop("start_flag", None)
        except Exception:
            LOG.exception("Reporting the stand-in agent of host %s failed; trying again", cfg.CONF.host)
        time.sleep(cfg.CONF.AGENT.report_interval)


if __name__ == "__main__":
    main()
