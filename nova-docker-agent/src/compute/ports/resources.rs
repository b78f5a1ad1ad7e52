//! What ports ask of placement (`resource_request`: a QoS policy with a minimum of bandwidth or packets). The scheduler reserves it
//! at the provider of a physical network, which Neutron's agent has made; a binding tells Neutron which one that is, and the agent
//! enforces it at the switch. So a container has it as a virtual machine has.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::NetworkError;
use crate::cloud::neutron::Port;

/// Where the scheduler has reserved what each group of resources asks for: the group's id to its provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderMapping(BTreeMap<String, Uuid>);

/// Resources of placement's providers: the provider to the amount of each class.
pub type Resources = BTreeMap<Uuid, BTreeMap<String, u64>>;

impl ProviderMapping {
    /// Reads it from a request's `RequestSpec`. A port's group has one provider.
    pub fn of_request_spec(spec: &Value) -> Self {
        let data = |object: &Value| object.get("nova_object.data").cloned().unwrap_or_default();
        let groups = data(spec).get("requested_resources").and_then(Value::as_array).cloned().unwrap_or_default();
        let pair = |group: &Value| {
            let group = data(group);
            let provider = group.get("provider_uuids")?.as_array()?.first()?.as_str()?;
            Some((group.get("requester_id")?.as_str()?.to_owned(), provider.parse().ok()?))
        };
        Self(groups.iter().filter_map(pair).collect())
    }

    /// What the binding of a port has to say (`binding:profile`, `allocation`); none where the port asks for nothing.
    ///
    /// # Errors
    /// Nothing was reserved for the port.
    pub(super) fn allocation(&self, port: &Port) -> Result<Option<Value>, NetworkError> {
        let provider =
            |id: &str| self.0.get(id).copied().ok_or(NetworkError::PortResourcesNotReserved { port: port.id });
        match groups(port) {
            None => Ok(None),
            // A Neutron without groups: the port is one, and what it says is the provider alone.
            Some(Groups::Port(_)) => Ok(Some(json!(provider(&port.id.to_string())?))),
            Some(Groups::Several(groups)) => {
                let pair = |(id, _): (String, _)| Ok::<_, NetworkError>((provider(&id)?, id));
                let found: Vec<(Uuid, String)> = groups.into_iter().map(pair).collect::<Result<_, _>>()?;
                Ok(Some(found.into_iter().map(|(provider, id)| (id, json!(provider))).collect()))
            }
        }
    }
}

/// What is reserved for a bound port, as its request and its binding tell.
pub(super) fn reserved(port: &Port) -> Resources {
    let allocation = port.profile.as_ref().and_then(|profile| profile.get("allocation"));
    let provider = |value: &Value| value.as_str().and_then(|text| Uuid::parse_str(text).ok());
    let mut reserved = Resources::new();
    let mut add = |provider: Option<Uuid>, resources: BTreeMap<String, u64>| {
        let Some(provider) = provider else { return };
        let of_provider = reserved.entry(provider).or_default();
        for (class, amount) in resources {
            let sum = of_provider.entry(class).or_default();
            *sum = sum.saturating_add(amount);
        }
    };
    match (groups(port), allocation) {
        (Some(Groups::Port(resources)), Some(allocation)) => add(provider(allocation), resources),
        (Some(Groups::Several(groups)), Some(allocation)) => {
            for (id, resources) in groups {
                add(allocation.get(&id).and_then(provider), resources);
            }
        }
        _ => {}
    }
    reserved
}

enum Groups {
    Port(BTreeMap<String, u64>),
    Several(Vec<(String, BTreeMap<String, u64>)>),
}

fn groups(port: &Port) -> Option<Groups> {
    let request = port.resource_request.as_ref()?.as_object().filter(|request| !request.is_empty())?;
    let resources = |value: Option<&Value>| {
        let amounts = value.and_then(Value::as_object).into_iter().flatten();
        amounts.filter_map(|(class, amount)| Some((class.clone(), amount.as_u64()?))).collect::<BTreeMap<_, _>>()
    };
    let Some(groups) = request.get("request_groups").and_then(Value::as_array) else {
        return Some(Groups::Port(resources(request.get("resources"))));
    };
    let group = |group: &Value| Some((group.get("id")?.as_str()?.to_owned(), resources(group.get("resources"))));
    let groups: Vec<_> = groups.iter().filter_map(group).collect();
    (!groups.is_empty()).then_some(Groups::Several(groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(request: Value, allocation: Value) -> Port {
        serde_json::from_value(json!({
            "id": Uuid::from_u128(7), "network_id": Uuid::nil(), "mac_address": "m", "status": "DOWN",
            "resource_request": request, "binding:profile": {"allocation": allocation},
        }))
        .unwrap()
    }

    fn spec(groups: &[(String, u128)]) -> Value {
        let group = |(id, provider): &(String, u128)| {
            json!({"nova_object.name": "RequestGroup", "nova_object.data":
                {"requester_id": id, "provider_uuids": [Uuid::from_u128(*provider)]}})
        };
        json!({"nova_object.name": "RequestSpec", "nova_object.data":
            {"requested_resources": groups.iter().map(group).collect::<Vec<_>>()}})
    }

    fn two_groups() -> Value {
        json!({"request_groups": [
            {"id": "a", "resources": {"NET_BW_EGR_KILOBIT_PER_SEC": 1000}},
            {"id": "b", "resources": {"NET_PACKET_RATE_KILOPACKET_PER_SEC": 10}},
        ], "same_subtree": ["a", "b"]})
    }

    #[test]
    fn each_group_of_a_port_is_bound_to_the_provider_that_the_scheduler_has_chosen() {
        let mapping = ProviderMapping::of_request_spec(&spec(&[("a".to_owned(), 1), ("b".to_owned(), 2)]));
        let allocation = mapping.allocation(&port(two_groups(), Value::Null)).unwrap().unwrap();
        assert_eq!(allocation, json!({"a": Uuid::from_u128(1), "b": Uuid::from_u128(2)}));
        let whole = json!({"required": ["CUSTOM_PHYSNET_ONE"], "resources": {"NET_BW_EGR_KILOBIT_PER_SEC": 1000}});
        let mapping = ProviderMapping::of_request_spec(&spec(&[(Uuid::from_u128(7).to_string(), 3)]));
        assert_eq!(mapping.allocation(&port(whole, Value::Null)).unwrap().unwrap(), json!(Uuid::from_u128(3)));
    }

    #[test]
    fn a_port_that_asks_for_nothing_needs_no_provider_and_one_for_which_none_was_chosen_is_refused() {
        let nothing = ProviderMapping::of_request_spec(&Value::Null);
        for request in [Value::Null, json!({}), json!({"request_groups": []})] {
            assert_eq!(nothing.allocation(&port(request, Value::Null)).unwrap(), None);
        }
        let error = nothing.allocation(&port(two_groups(), Value::Null)).unwrap_err().to_string();
        assert!(error.contains("asks for resources") && error.contains(&Uuid::from_u128(7).to_string()), "{error}");
    }

    #[test]
    fn what_is_reserved_for_a_port_is_told_by_provider() {
        let both = json!({"a": Uuid::from_u128(1), "b": Uuid::from_u128(1)});
        let amounts =
            [("NET_BW_EGR_KILOBIT_PER_SEC".to_owned(), 1000), ("NET_PACKET_RATE_KILOPACKET_PER_SEC".to_owned(), 10)];
        assert_eq!(reserved(&port(two_groups(), both)), Resources::from([(Uuid::from_u128(1), amounts.into())]));
        assert_eq!(reserved(&port(two_groups(), Value::Null)), Resources::new());
        assert_eq!(reserved(&port(Value::Null, json!({"a": Uuid::nil()}))), Resources::new());
    }
}
