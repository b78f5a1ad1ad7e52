//! The network information cache of an instance: what is stored as `instance_info_cache.network_info`.
//!
//! The structs are exactly that JSON (Nova's `nova/network/model.py`); keys without a field stay in `rest`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// All interfaces of an instance, in their order.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct NetworkInfo(pub Vec<Vif>);

impl NetworkInfo {
    /// There are interfaces, and none is bound to a host.
    pub fn is_unbound(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|vif| vif.vif_type.as_deref() == Some("unbound"))
    }
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Vif {
    /// The port.
    pub id: Uuid,
    /// MAC address.
    pub address: String,
    pub network: VifNetwork,
    /// `binding:vif_type`.
    #[serde(rename = "type", default)]
    pub vif_type: Option<String>,
    /// `binding:vif_details`.
    #[serde(default)]
    pub details: Option<Map<String, Value>>,
    /// `tap` and the start of the port id: the host's side, at most 14 characters.
    #[serde(default)]
    pub devname: Option<String>,
    #[serde(default)]
    pub ovs_interfaceid: Option<String>,
    #[serde(default)]
    pub active: bool,
    #[serde(default)]
    pub vnic_type: Option<String>,
    /// `binding:profile`.
    #[serde(default)]
    pub profile: Option<Map<String, Value>>,
    /// The port is the user's: it is unbound, never deleted. This cache is the only place that knows.
    #[serde(default)]
    pub preserve_on_delete: bool,
    /// `qbh_params`, `qbg_params`, `delegate_create`, `meta`, and whatever comes.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct VifNetwork {
    pub id: Uuid,
    #[serde(default)]
    pub bridge: Option<String>,
    /// The network's name.
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub subnets: Vec<VifSubnet>,
    #[serde(default)]
    pub meta: VifNetworkMeta,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct VifNetworkMeta {
    #[serde(default)]
    pub injected: bool,
    #[serde(default)]
    pub tenant_id: Option<String>,
    #[serde(default)]
    pub mtu: Option<u32>,
    #[serde(default)]
    pub physical_network: Option<String>,
    #[serde(default)]
    pub tunneled: bool,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct VifSubnet {
    pub cidr: String,
    /// 4 or 6.
    pub version: u8,
    pub gateway: GatewayAddress,
    #[serde(default)]
    pub dns: Vec<VifAddress>,
    #[serde(default)]
    pub routes: Vec<VifRoute>,
    #[serde(default)]
    pub ips: Vec<FixedAddress>,
    #[serde(default)]
    pub meta: SubnetMeta,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct SubnetMeta {
    #[serde(default)]
    pub enable_dhcp: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_server: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address_mode: Option<String>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl SubnetMeta {
    /// Who answers for names where the subnet names no servers, if that is not the DHCP server alone. The agent's own.
    pub const RESOLVERS: &str = "resolvers";
    /// The next hop to the metadata service. The agent's own.
    pub const METADATA_VIA: &str = "metadata_via";

    /// The addresses in [`RESOLVERS`](Self::RESOLVERS), or else the DHCP server's.
    pub fn resolvers(&self) -> Vec<String> {
        let several = self.rest.get(Self::RESOLVERS).and_then(Value::as_array);
        match several {
            Some(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => self.dhcp_server.iter().cloned().collect(),
        }
    }

    pub fn metadata_via(&self) -> Option<&str> {
        self.rest.get(Self::METADATA_VIA).and_then(Value::as_str)
    }
}

/// A DNS server, a next hop or a floating IP.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct VifAddress {
    pub address: String,
    /// `dns`, `gateway`, `floating`.
    #[serde(rename = "type")]
    pub kind: String,
    pub version: u8,
    #[serde(default)]
    pub meta: Map<String, Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A subnet's gateway; without one, address and version are null.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct GatewayAddress {
    pub address: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    pub version: Option<u8>,
    #[serde(default)]
    pub meta: Map<String, Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An address of the interface, without prefix length (the subnet's `cidr` has it).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FixedAddress {
    pub address: String,
    /// `fixed`.
    #[serde(rename = "type")]
    pub kind: String,
    pub version: u8,
    #[serde(default)]
    pub floating_ips: Vec<VifAddress>,
    #[serde(default)]
    pub meta: Map<String, Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct VifRoute {
    pub cidr: String,
    pub gateway: VifAddress,
    #[serde(default)]
    pub interface: Option<Value>,
    #[serde(default)]
    pub meta: Map<String, Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl NetworkInfo {
    /// Reads the cache's text (a JSON list in a string), as an instance's `info_cache` object has it. Null and empty text mean no interfaces.
    ///
    /// # Errors
    /// When the text is not such a list.
    pub fn parse(text: Option<&str>) -> Result<Self, serde_json::Error> {
        match text {
            None | Some("") => Ok(Self::default()),
            Some(text) => serde_json::from_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_of_stock_nova_survives_a_round_trip_without_loss() {
        let text = include_str!("../../../../tests/wire/rest/network_info.json");
        let stock: Value = serde_json::from_str(text).unwrap();
        let info = NetworkInfo::parse(Some(text)).unwrap();
        assert_eq!(serde_json::to_value(&info).unwrap(), stock);
    }

    #[test]
    fn keys_that_are_new_to_us_survive_at_every_level() {
        let mut value: Value =
            serde_json::from_str(include_str!("../../../../tests/wire/rest/network_info.json")).unwrap();
        value[0]["future"] = 1.into();
        value[0]["network"]["future"] = 2.into();
        value[0]["network"]["meta"]["future"] = 3.into();
        value[0]["network"]["subnets"][0]["future"] = 4.into();
        value[0]["network"]["subnets"][0]["meta"]["future"] = 5.into();
        value[0]["network"]["subnets"][0]["ips"][0]["future"] = 6.into();
        let info: NetworkInfo = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&info).unwrap(), value);
    }

    #[test]
    fn no_cache_and_an_empty_one_mean_no_interfaces() {
        for text in [None, Some(""), Some("[]")] {
            assert_eq!(NetworkInfo::parse(text).unwrap(), NetworkInfo::default());
        }
        assert!(NetworkInfo::parse(Some("{")).is_err());
    }
}
