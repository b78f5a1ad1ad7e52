//! Neutron's resources. Attributes without a field stay in `rest`, so nothing is lost.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A port. What only administrators see (`binding:*`) is empty in a user's view.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Port {
    pub id: Uuid,
    pub network_id: Uuid,
    pub mac_address: String,
    /// `ACTIVE`, `DOWN`, `BUILD`, `ERROR`.
    pub status: String,
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    #[serde(default)]
    pub tenant_id: String,
    #[serde(default)]
    pub device_id: String,
    #[serde(default)]
    pub device_owner: String,
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
    #[serde(default)]
    pub security_groups: Vec<String>,
    #[serde(default)]
    pub dns_name: Option<String>,
    #[serde(default)]
    pub port_security_enabled: Option<bool>,
    #[serde(rename = "binding:host_id", default)]
    pub host_id: Option<String>,
    /// `ovs`, `unbound`, `binding_failed`, ...
    #[serde(rename = "binding:vif_type", default)]
    pub vif_type: Option<String>,
    #[serde(rename = "binding:vif_details", default)]
    pub vif_details: Option<Map<String, Value>>,
    #[serde(rename = "binding:profile", default)]
    pub profile: Option<Map<String, Value>>,
    #[serde(rename = "binding:vnic_type", default)]
    pub vnic_type: Option<String>,
    /// What the port asks of placement (QoS); null or absent for none.
    #[serde(default)]
    pub resource_request: Option<Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn yes() -> bool {
    true
}

impl Port {
    /// Whether traffic flows, as far as nova is concerned: bound and up, or deliberately down.
    pub fn is_active(&self) -> bool {
        self.status == "ACTIVE" || !self.admin_state_up
    }
}

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FixedIp {
    pub subnet_id: Uuid,
    pub ip_address: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Network {
    pub id: Uuid,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub tenant_id: String,
    #[serde(default)]
    pub mtu: Option<u32>,
    #[serde(default)]
    pub subnets: Vec<Uuid>,
    #[serde(default)]
    pub shared: bool,
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    #[serde(rename = "router:external", default)]
    pub external: bool,
    #[serde(default)]
    pub port_security_enabled: Option<bool>,
    #[serde(default)]
    pub dns_domain: Option<String>,
    #[serde(rename = "provider:physical_network", default)]
    pub physical_network: Option<String>,
    /// `flat`, `vlan`, `vxlan`, `gre`, `geneve`, `local`.
    #[serde(rename = "provider:network_type", default)]
    pub network_type: Option<String>,
    /// Segments of a multi-segment network (multi-provider extension).
    #[serde(default)]
    pub segments: Vec<Map<String, Value>>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Subnet {
    pub id: Uuid,
    pub network_id: Uuid,
    pub cidr: String,
    #[serde(default)]
    pub ip_version: u8,
    #[serde(default)]
    pub gateway_ip: Option<String>,
    #[serde(default)]
    pub enable_dhcp: bool,
    #[serde(default)]
    pub dns_nameservers: Vec<String>,
    #[serde(default)]
    pub host_routes: Vec<HostRoute>,
    /// `slaac`, `dhcpv6-stateful`, `dhcpv6-stateless`.
    #[serde(default)]
    pub ipv6_address_mode: Option<String>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HostRoute {
    pub destination: String,
    pub nexthop: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FloatingIp {
    pub id: Uuid,
    pub floating_ip_address: String,
    #[serde(default)]
    pub fixed_ip_address: Option<String>,
    #[serde(default)]
    pub port_id: Option<Uuid>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecurityGroup {
    pub id: String,
    #[serde(default)]
    pub name: String,
}

/// Body of a port creation; `None` leaves an attribute to neutron.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NewPort {
    pub network_id: Uuid,
    pub tenant_id: String,
    pub device_id: String,
    pub admin_state_up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_owner: Option<String>,
    #[serde(rename = "binding:host_id", skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// Wanted addresses, each in whatever subnet it belongs to.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "addresses")]
    pub fixed_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<String>,
}

fn addresses<S: serde::Serializer>(addresses: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(addresses.iter().map(|address| serde_json::json!({ "ip_address": address })))
}

/// Attributes of a port update, by neutron's names; null values are sent as null.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct PortUpdate(Map<String, Value>);

impl PortUpdate {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn set(mut self, attribute: &str, value: impl Into<Value>) -> Self {
        self.0.insert(attribute.to_owned(), value.into());
        self
    }
}
