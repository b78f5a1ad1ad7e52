"""neutron: server, ML2 with Open vSwitch or OVN, and the agents of the one node."""

from __future__ import annotations

from minicloud import ovn
from minicloud.config import common
from minicloud.config.ini import Ini, merge
from minicloud.layout import ADDRESS, PORTS, Layout
from minicloud.options import Options
from minicloud.passwords import Passwords

_PRIVSEP_CONTEXTS = (
    "privsep",
    "privsep_dhcp_release",
    "privsep_ovs_vsctl",
    "privsep_namespace",
    "privsep_conntrack",
    "privsep_link",
)


def neutron(layout: Layout, passwords: Passwords, options: Options) -> Ini:
    return merge(
        {
            "DEFAULT": {
                "host": options.host,
                "use_stderr": True,
                "state_path": f"{layout.root}/neutron",
                "core_plugin": "ml2",
                "service_plugins": f"{'ovn-router' if options.network == 'ovn' else 'router'},port_forwarding",
                "api_paste_config": f"{layout.venv}/etc/neutron/api-paste.ini",
                "auth_strategy": "keystone",
                "transport_url": common.transport_url(passwords),
                "api_workers": 1,
                "rpc_workers": 1,
                "rpc_state_report_workers": 0,
                "notify_nova_on_port_status_changes": True,
                "notify_nova_on_port_data_changes": True,
                # The pause after each batch of events to Nova, in seconds; a launch waits for one of them.
                # The default is 2, and neutron 29 refuses less than 1.
                "send_events_interval": 1,
                # Anything but the default, with which neutron gives ports no names.
                "dns_domain": "mini.internal.",
                "dhcp_agents_per_network": 1,
                "global_physnet_mtu": 1500,
            },
            "agent": {"root_helper": "", "root_helper_daemon": "", "report_interval": 30},
            "database": common.database(passwords, "neutron"),
            "nova": common.password_auth(passwords, "nova"),
            "placement": common.password_auth(passwords, "placement"),
        },
        common.locks(f"{layout.root}/neutron/lock"),
        common.token_check(passwords, "neutron"),
        common.privsep(layout, "neutron.conf", _PRIVSEP_CONTEXTS),
    )


def ml2(layout: Layout, options: Options) -> Ini:
    return _ml2_ovn(layout) if options.network == "ovn" else _ml2_ovs()


def _ml2_ovn(layout: Layout) -> Ini:
    return {
        "ml2": {
            "type_drivers": "local,flat,vlan,geneve",
            "project_network_types": "geneve",
            "mechanism_drivers": "ovn",
            # With `dns` ports carry the names of their servers, for which OVN itself answers.
            "extension_drivers": "port_security,dns",
        },
        "ml2_type_flat": {"flat_networks": "public"},
        # OVN's header needs 38 bytes.
        "ml2_type_geneve": {"vni_ranges": "1:65536", "max_header_size": 38},
        "securitygroup": {"enable_security_group": True},
        "ovn": {
            "ovn_nb_connection": ovn.connection(layout, "nb"),
            "ovn_sb_connection": ovn.connection(layout, "sb"),
            # Makes the port of the metadata service in every network.
            "ovn_metadata_enabled": True,
        },
    }


def _ml2_ovs() -> Ini:
    return {
        "ml2": {
            "type_drivers": "local,flat,vlan,vxlan",
            "project_network_types": "vxlan",
            "mechanism_drivers": "openvswitch",
            # With `dns` ports carry the names of their servers, which the network's dnsmasq answers.
            "extension_drivers": "port_security,dns",
        },
        "ml2_type_flat": {"flat_networks": "public"},
        "ml2_type_vxlan": {"vni_ranges": "1:1000"},
        "securitygroup": {"enable_ipset": False, "firewall_driver": "openvswitch"},
    }


def _ovs(datapath: str) -> Ini:
    return {"ovs": {"datapath_type": datapath, "ovsdb_connection": f"tcp:{ADDRESS}:{PORTS['ovsdb']}"}}


def ovs_agent(datapath: str) -> Ini:
    return merge(
        _ovs(datapath),
        {
            "ovs": {
                "bridge_mappings": "public:br-ex",
                "local_ip": ADDRESS,
                "of_listen_address": ADDRESS,
            },
            "agent": {"tunnel_types": "vxlan", "l2_population": False},
            "securitygroup": {
                "enable_security_group": True,
                "enable_ipset": False,
                "firewall_driver": "openvswitch",
            },
        },
    )


def dhcp_agent(datapath: str) -> Ini:
    return merge(
        {
            "DEFAULT": {
                "interface_driver": "openvswitch",
                "dhcp_driver": "neutron.agent.linux.dhcp.Dnsmasq",
                "enable_isolated_metadata": True,
                "force_metadata": False,
            }
        },
        # This agent and the next plug interfaces themselves, so they must know the datapath as well.
        _ovs(datapath),
    )


def l3_agent(datapath: str) -> Ini:
    return merge(
        {
            "DEFAULT": {"interface_driver": "openvswitch", "agent_mode": "legacy"},
            "agent": {"extensions": "port_forwarding"},
        },
        _ovs(datapath),
    )


def metadata_agent(passwords: Passwords) -> Ini:
    return {
        "DEFAULT": {
            "nova_metadata_host": ADDRESS,
            "metadata_proxy_shared_secret": passwords["metadata"],
            "metadata_workers": 0,
        }
    }


def ovn_metadata_agent(layout: Layout, passwords: Passwords) -> Ini:
    return merge(
        metadata_agent(passwords),
        {
            "ovs": {"ovsdb_connection": f"unix:{layout.ovs_db_socket}"},
            "ovn": {"ovn_sb_connection": ovn.connection(layout, "sb")},
        },
    )


def fake_agent(layout: Layout, passwords: Passwords, options: Options) -> Ini:
    """The stand-in for an Open vSwitch agent beside the fake nova-compute (see standin_agent)."""
    return merge(neutron(layout, passwords, options), {"DEFAULT": {"host": options.fake_host}})
