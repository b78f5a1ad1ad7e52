//! What a port says besides addresses, and Neutron's DHCP server tells its guest: the domain of its names, and the options that
//! the port's user has added.

use serde_json::{Map, Value, json};

use crate::cloud::neutron::{Network, Port};

/// Neutron's own limits: more is no option of its.
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 255;
/// Neutron has no limit. There are fewer options that mean anything here.
const MOST_OPTIONS: usize = 32;
/// Keys of an interface's `meta` in the network information cache, where Nova keeps what it does not know.
const SEARCH: &str = "search";
const OPTIONS: &str = "dhcp_options";

/// Writes it into the `meta` of an interface in the cache; nothing where there is nothing.
pub(super) fn write(meta: &mut Map<String, Value>, port: &Port, network: Option<&Network>) {
    for (key, values) in [(SEARCH, search_domains(port, network)), (OPTIONS, options(port))] {
        if values.is_empty() {
            meta.remove(key);
        } else {
            meta.insert(key.to_owned(), Value::Array(values));
        }
    }
}

/// The domains that [`write`] has found.
pub(super) fn search(meta: &Map<String, Value>) -> Vec<String> {
    list(meta.get(SEARCH)).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The options that [`write`] has found: IP version, name and value.
pub(super) fn dhcp_options(meta: &Map<String, Value>) -> Vec<(u8, String, String)> {
    let option = |option: &Value| {
        let text = |key: &str| option.get(key).and_then(Value::as_str).map(str::to_owned);
        let version = option.get("ip_version").and_then(Value::as_u64).unwrap_or(4);
        Some((u8::try_from(version).ok()?, text("name")?, text("value").unwrap_or_default()))
    };
    list(meta.get(OPTIONS)).iter().filter_map(option).collect()
}

/// The port's own domain, or else its network's; then that of the names which Neutron's DHCP servers know (`[DEFAULT] dns_domain` of
/// Neutron), which only an address's whole name tells.
fn search_domains(port: &Port, network: Option<&Network>) -> Vec<Value> {
    let of_port = text(&port.rest, "dns_domain").filter(|domain| !domain.is_empty());
    let own = of_port.or_else(|| network?.dns_domain.as_deref());
    let assigned = list(port.rest.get("dns_assignment")).iter().find_map(|assigned| {
        let name = assigned.get("hostname").and_then(Value::as_str)?;
        assigned.get("fqdn").and_then(Value::as_str)?.strip_prefix(name)?.strip_prefix('.')
    });
    let mut domains: Vec<&str> = Vec::new();
    for domain in own.into_iter().chain(assigned).map(|domain| domain.trim_end_matches('.')) {
        if !domain.is_empty() && domain.len() <= LONGEST_VALUE && !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains.into_iter().map(Value::from).collect()
}

fn options(port: &Port) -> Vec<Value> {
    let option = |option: &Value| {
        let text = |key: &str| option.get(key).and_then(Value::as_str);
        let (name, value) = (text("opt_name")?, text("opt_value").unwrap_or_default());
        let fits = name.len() <= LONGEST_NAME && value.len() <= LONGEST_VALUE;
        let version = option.get("ip_version").and_then(Value::as_u64).unwrap_or(4);
        fits.then(|| json!({"ip_version": version, "name": name, "value": value}))
    };
    list(port.rest.get("extra_dhcp_opts")).iter().filter_map(option).take(MOST_OPTIONS).collect()
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str)
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn written(port: Value, network_domain: &str) -> Map<String, Value> {
        let mut whole = json!({
            "id": Uuid::nil(), "network_id": Uuid::nil(), "mac_address": "fa:16:3e:00:00:01", "status": "ACTIVE",
        });
        whole.as_object_mut().unwrap().extend(port.as_object().unwrap().clone());
        let network = json!({"id": Uuid::nil(), "dns_domain": network_domain});
        let (port, network) = (serde_json::from_value(whole).unwrap(), serde_json::from_value(network).unwrap());
        let mut meta = Map::new();
        write(&mut meta, &port, Some(&network));
        meta
    }

    fn assigned(fqdn: &str) -> Value {
        json!([{"hostname": "web", "ip_address": "10.0.0.5", "fqdn": fqdn}])
    }

    #[test]
    fn the_ports_domain_comes_before_the_networks_and_neutrons_own_is_last() {
        let of = |port: Value, network: &str| search(&written(port, network));
        let both = json!({"dns_domain": "port.example.", "dns_assignment": assigned("web.cloud.internal.")});
        assert_eq!(of(both, "net.example."), ["port.example", "cloud.internal"]);
        let blank = json!({"dns_domain": "", "dns_assignment": assigned("web.net.example.")});
        assert_eq!(of(blank, "net.example."), ["net.example"], "each once");
        assert_eq!(of(json!({"dns_assignment": assigned("web.openstacklocal.")}), ""), ["openstacklocal"]);
    }

    #[test]
    fn a_neutron_that_says_nothing_leaves_the_cache_as_it_was() {
        for port in
            [json!({}), json!({"dns_assignment": null, "extra_dhcp_opts": null}), json!({"dns_assignment": [7]})]
        {
            assert_eq!(written(port, ""), Map::new());
        }
        let mut meta = written(json!({"dns_domain": "old.example."}), "");
        let port = json!({"id": Uuid::nil(), "network_id": Uuid::nil(), "mac_address": "m", "status": "ACTIVE"});
        write(&mut meta, &serde_json::from_value(port).unwrap(), None);
        assert_eq!(meta, Map::new(), "what Neutron has taken back goes");
    }

    #[test]
    fn options_are_kept_within_neutrons_bounds_and_in_its_order() {
        let option = |name: &str, value: Value| json!({"opt_name": name, "opt_value": value, "ip_version": 4});
        let mut options = vec![
            option("dns-server", json!("192.0.2.1")),
            option("router", Value::Null),
            option(&"x".repeat(65), json!("1")),
            option("mtu", json!("1".repeat(256))),
        ];
        let found = dhcp_options(&written(json!({"extra_dhcp_opts": options}), ""));
        let expected = [(4, "dns-server", "192.0.2.1"), (4, "router", "")];
        assert_eq!(found, expected.map(|(version, name, value)| (version, name.to_owned(), value.to_owned())));
        options = (0..100).map(|number| option("mtu", json!(number.to_string()))).collect();
        assert_eq!(dhcp_options(&written(json!({"extra_dhcp_opts": options}), "")).len(), MOST_OPTIONS);
    }
}
