//! The arguments of `build_and_run_instance`.

use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    error::Error,
    operation::Method,
    ports::{Networks, RequestedNetwork},
};
use crate::{
    driver,
    messaging::Context,
    objects::{BlockDeviceMapping, Instance, NetworkRequest, Object},
};

/// What the conductor sends with a build. What is not looked at here stays as it came: another host may need it.
pub(crate) struct BuildRequest {
    pub instance: Instance,
    pub uuid: Uuid,
    /// `ImageMeta` as a plain dictionary; empty for a boot from volume.
    pub image: Value,
    pub networks: Networks,
    pub security_groups: Vec<String>,
    pub block_devices: Vec<BlockDeviceMapping>,
    /// The other arguments, by name.
    pub rest: Map<String, Value>,
}

impl BuildRequest {
    /// # Errors
    /// An argument that has no meaning to us.
    fn new(instance: Instance, args: Map<String, Value>) -> Result<Self, Error> {
        Ok(Self {
            uuid: instance_uuid(&instance)?,
            instance,
            image: args.get("image").cloned().unwrap_or_default(),
            networks: networks(args.get("requested_networks"))?,
            security_groups: strings(args.get("security_groups")),
            block_devices: block_devices(args.get("block_device_mapping"))?,
            rest: args,
        })
    }

    /// Ports that the user brought: they outlive the instance.
    pub fn requested_ports(&self) -> Vec<Uuid> {
        match &self.networks {
            Networks::Requested(requested) => requested.iter().filter_map(|network| network.port_id).collect(),
            _ => Vec::new(),
        }
    }
}

impl Method for BuildRequest {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let instance = arguments.instance()?;
        Self::new(instance, arguments.into_map())
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.build(context, self).await.map(|()| Value::Null)
    }
}

/// What a container cannot do is said before anything is made for it.
pub(in crate::compute) fn check_supported(request: &BuildRequest) -> Result<(), Error> {
    lacking(request).map_or(Ok(()), |problem| Err(driver::Error::Unsupported(problem).into()))
}

fn lacking(request: &BuildRequest) -> Option<String> {
    let BuildRequest { instance, block_devices, .. } = request;
    if block_devices.iter().any(BlockDeviceMapping::is_volume) {
        return Some("volumes cannot be attached to containers yet; launch from an image, without volumes".to_owned());
    }
    if block_devices.iter().any(BlockDeviceMapping::is_blank) {
        let problem = "ephemeral and swap disks are not supported for containers; choose a flavor without them";
        return Some(problem.to_owned());
    }
    if instance.has_trusted_certificates() {
        return Some(
            "signatures of images are not verified for containers; launch without trusted certificates".to_owned(),
        );
    }
    None
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let values = value.and_then(Value::as_array);
    values.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

fn bad(problem: impl std::fmt::Display) -> Error {
    Error::BadRequest { method: "build_and_run_instance".to_owned(), problem: problem.to_string() }
}

fn list(value: Option<&Value>) -> Result<Vec<Object>, Error> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => Ok(Object::from_value(value.clone()).map_err(bad)?.objects()),
    }
}

fn block_devices(value: Option<&Value>) -> Result<Vec<BlockDeviceMapping>, Error> {
    list(value)?.into_iter().map(|object| object.try_into().map_err(bad)).collect()
}

/// `NetworkRequestList`: a network named `none` or `auto` stands for all.
fn networks(value: Option<&Value>) -> Result<Networks, Error> {
    let requests: Vec<NetworkRequest> =
        list(value)?.into_iter().map(|object| object.try_into().map_err(bad)).collect::<Result<_, _>>()?;
    match requests.as_slice() {
        [] => return Ok(Networks::Unspecified),
        [only] => match (only.network_id(), only.port_id()) {
            (Some("none"), _) => return Ok(Networks::None),
            (Some("auto"), _) => return Ok(Networks::Auto),
            (None, None) => return Ok(Networks::Unspecified),
            _ => {}
        },
        _ => {}
    }
    requests.iter().map(requested_network).collect::<Result<_, _>>().map(Networks::Requested)
}

fn requested_network(request: &NetworkRequest) -> Result<RequestedNetwork, Error> {
    let id = |text: Option<&str>| {
        text.map(|text| Uuid::parse_str(text).map_err(|_| bad(format!("{text:?} is not a UUID")))).transpose()
    };
    Ok(RequestedNetwork {
        network_id: id(request.network_id())?,
        port_id: id(request.port_id())?,
        address: request
            .address()
            .map(|text| text.parse().map_err(|_| bad(format!("{text:?} is not an IP address"))))
            .transpose()?,
        tag: request.tag().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request_list(requests: Value) -> Value {
        let mut list = Object::new("NetworkRequestList", "1.1");
        let requests = requests.as_array().unwrap().iter().map(|fields| {
            let mut request = Object::new("NetworkRequest", "1.3");
            request.data = fields.as_object().unwrap().clone();
            request.to_value()
        });
        list.set("objects", requests.collect::<Vec<_>>());
        list.to_value()
    }

    #[test]
    fn the_special_networks_none_and_auto_are_understood() {
        let of = |requests| networks(Some(&request_list(requests))).unwrap();
        assert_eq!(of(json!([{"network_id": "none"}])), Networks::None);
        assert_eq!(of(json!([{"network_id": "auto"}])), Networks::Auto);
        assert_eq!(of(json!([{"network_id": null, "port_id": null}])), Networks::Unspecified);
        assert_eq!(networks(Some(&Value::Null)).unwrap(), Networks::Unspecified);
    }

    #[test]
    fn a_requested_port_and_a_fixed_address_arrive() {
        let port = "ed1b6eff-a11f-4712-9f82-433985507b9b";
        let network = "9e25f37b-91f4-4438-b681-7c14f776f1e8";
        let value = request_list(json!([{"port_id": port}, {"network_id": network, "address": "10.0.0.9"}]));
        let Networks::Requested(requested) = networks(Some(&value)).unwrap() else { panic!("requested networks") };
        assert_eq!(requested[0].port_id, Some(Uuid::parse_str(port).unwrap()));
        assert_eq!(requested[1].network_id, Some(Uuid::parse_str(network).unwrap()));
        assert_eq!(requested[1].address, Some("10.0.0.9".parse().unwrap()));
    }

    fn refused(instance: Value, more: Value) -> String {
        let mut object = Object::new("Instance", "2.8");
        object.data = instance.as_object().unwrap().clone();
        object.set("uuid", "ed1b6eff-a11f-4712-9f82-433985507b9b");
        let request = BuildRequest::new(object.try_into().unwrap(), more.as_object().unwrap().clone()).unwrap();
        check_supported(&request).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_a_container_lacks_is_refused_by_its_name() {
        let certificates = json!({
            "nova_object.name": "TrustedCerts", "nova_object.namespace": "nova", "nova_object.version": "1.0",
            "nova_object.data": { "ids": ["one"] },
        });
        let message = refused(json!({ "trusted_certs": certificates }), json!({}));
        assert!(message.contains("trusted certificates"), "{message:?}");
    }

    #[test]
    fn what_a_launch_without_wishes_carries_is_no_wish() {
        let instance = json!({ "config_drive": "", "trusted_certs": null });
        assert_eq!(refused(instance, json!({ "injected_files": [], "image": { "properties": {} } })), "");
    }

    #[test]
    fn nonsense_in_a_network_request_is_a_bad_request() {
        let error = networks(Some(&request_list(json!([{"port_id": "x"}])))).unwrap_err();
        assert!(matches!(error, Error::BadRequest { .. }));
    }
}
