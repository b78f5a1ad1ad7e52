//! Keystone's catalog: where the services are.

use serde::Deserialize;
use url::Url;

use super::client::EndpointConfig;

/// `token.catalog` of a login.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Catalog(Vec<Service>);

#[derive(Clone, Debug, Deserialize)]
struct Service {
    #[serde(rename = "type")]
    service_type: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    /// `public`, `internal`, `admin`.
    interface: String,
    /// Older keystones have only `region`.
    #[serde(default)]
    region_id: Option<String>,
    #[serde(default)]
    region: Option<String>,
    url: String,
}

impl Endpoint {
    fn is_in(&self, region: Option<&str>) -> bool {
        region.is_none() || self.region_id.as_deref().or(self.region.as_deref()) == region
    }
}

impl Catalog {
    /// The first interface of the list that exists; the reason when there is none.
    pub(super) fn endpoint(&self, wanted: &EndpointConfig) -> Result<Url, String> {
        let region = wanted.region_name.as_deref();
        let services = || {
            self.0.iter().filter(|service| {
                service.service_type == wanted.service_type
                    && (wanted.service_name.is_none() || service.name == wanted.service_name)
            })
        };
        for interface in &wanted.valid_interfaces {
            let found = services()
                .flat_map(|service| &service.endpoints)
                .find(|endpoint| endpoint.interface == *interface && endpoint.is_in(region));
            if let Some(endpoint) = found {
                return Url::parse(&endpoint.url).map_err(|error| {
                    format!("the catalog's {interface} endpoint of {:?} is not a URL: {error}", wanted.service_type)
                });
            }
        }
        let known: Vec<String> = services()
            .flat_map(|service| &service.endpoints)
            .map(|endpoint| {
                format!("{} in {}", endpoint.interface, endpoint.region_id.as_deref().unwrap_or("no region"))
            })
            .collect();
        Err(format!(
            "the catalog has no endpoint of service type {:?} with interface {}{}{}",
            wanted.service_type,
            wanted.valid_interfaces.join(" or "),
            region.map(|region| format!(" in region {region:?}")).unwrap_or_default(),
            if known.is_empty() { String::new() } else { format!(" (it has: {})", known.join(", ")) },
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalog() -> Catalog {
        serde_json::from_value(json!([
            { "type": "image", "name": "glance", "endpoints": [
                { "interface": "public", "region_id": "One", "region": "One", "url": "http://public.one:9292" },
                { "interface": "internal", "region_id": "One", "region": "One", "url": "http://internal.one:9292" },
                { "interface": "public", "region_id": "Two", "region": "Two", "url": "http://public.two:9292" }
            ]},
            { "type": "network", "endpoints": [] }
        ]))
        .unwrap()
    }

    fn wanted(service_type: &str, region: Option<&str>, interfaces: &[&str]) -> EndpointConfig {
        EndpointConfig {
            service_type: service_type.into(),
            service_name: None,
            region_name: region.map(Into::into),
            valid_interfaces: interfaces.iter().map(|&s| s.into()).collect(),
            endpoint_override: None,
            servers: Vec::new(),
        }
    }

    #[test]
    fn the_first_interface_of_the_list_that_the_region_has_is_taken() {
        let catalog = catalog();
        let url = |region, interfaces| catalog.endpoint(&wanted("image", region, interfaces)).unwrap().to_string();
        assert_eq!(url(Some("One"), &["internal", "public"]), "http://internal.one:9292/");
        assert_eq!(url(Some("Two"), &["internal", "public"]), "http://public.two:9292/");
        assert_eq!(url(None, &["admin", "public"]), "http://public.one:9292/");
    }

    #[test]
    fn a_missing_endpoint_is_explained_with_what_there_is() {
        let reason = catalog().endpoint(&wanted("image", Some("Three"), &["internal", "public"])).unwrap_err();
        assert!(reason.contains("\"Three\"") && reason.contains("public in Two"), "{reason}");
        let reason = catalog().endpoint(&wanted("network", None, &["public"])).unwrap_err();
        assert!(reason.contains("\"network\"") && !reason.contains("it has"), "{reason}");
    }
}
