//! `build_and_run_instance`: from the scheduler's decision to a running container, or to a clean failure.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};
use tracing::{Instrument as _, info, info_span};
use uuid::Uuid;

use crate::compute::{Compute, error::Error, instance::guest::instance_uuid, node::usage::Usage, now};
use crate::{
    cloud::neutron::{Networks, RequestedNetwork},
    driver,
    messaging::Context,
    objects::{BlockDeviceMapping, Instance, NetworkRequest, Object},
};

/// Name of the build's event; the two underscores are Nova's.
pub(in crate::compute) const EVENT: &str = "compute__do_build_and_run_instance";

/// Prefix of the system metadata that name the ports which the user brought, one port each (a value holds 255 characters).
/// Written before any port is bound: whatever happens to this process afterwards, they are not deleted with the instance.
const USER_PORT: &str = "user_port_";

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
    pub fn new(instance: Instance, args: Map<String, Value>) -> Result<Self, Error> {
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
    fn requested_ports(&self) -> Vec<Uuid> {
        match &self.networks {
            Networks::Requested(requested) => requested.iter().filter_map(|network| network.port_id).collect(),
            _ => Vec::new(),
        }
    }
}

/// Writes ports that the user brings into the system metadata of an instance.
pub(in crate::compute) fn mark_user_ports(
    metadata: &mut BTreeMap<String, String>,
    ports: impl IntoIterator<Item = Uuid>,
) {
    metadata.extend(ports.into_iter().map(|port| (format!("{USER_PORT}{port}"), String::new())));
}

/// Takes a port out of the system metadata again; whether it was there.
pub(in crate::compute) fn unmark_user_port(metadata: &mut BTreeMap<String, String>, port: Uuid) -> bool {
    metadata.remove(&format!("{USER_PORT}{port}")).is_some()
}

/// The ports that the user brought to the instance, as [`mark_user_ports`] has written them down.
pub(in crate::compute) fn user_ports(instance: &Instance) -> Vec<Uuid> {
    let metadata = instance.system_metadata();
    metadata.keys().filter_map(|key| key.strip_prefix(USER_PORT)?.parse().ok()).collect()
}

/// How a build ended.
enum Ended {
    Active,
    /// The user deleted the instance meanwhile.
    Deleted,
    Rescheduled,
    Failed(Error),
}

impl Compute {
    /// Builds the instance. Whatever goes wrong has been told to Nova when this returns.
    pub(in crate::compute) async fn build(
        self: Arc<Self>,
        context: &Context,
        mut request: BuildRequest,
    ) -> Result<(), Error> {
        let uuid = request.uuid;
        let span = info_span!("operation", name = EVENT, instance = %uuid, request_id = context.request_id());
        let cancelled = self.begin_build(uuid);
        let ended = async {
            let _slot = self.build_slots.acquire().await;
            let _lock = self.locks.lock(uuid).await;
            info!(name = request.instance.display_name(), "building");
            let ended = self.build_locked(context, &mut request, &cancelled).await;
            let failure = match &ended {
                Ended::Failed(error) => Some(error),
                Ended::Active | Ended::Deleted | Ended::Rescheduled => None,
            };
            self.finish_event(context, uuid, EVENT, failure).await;
            ended
        }
        .instrument(span)
        .await;
        self.end_build(uuid);
        self.tracker.build_ended(!matches!(ended, Ended::Failed(_) | Ended::Rescheduled)).await;
        match ended {
            Ended::Failed(error) => Err(error),
            Ended::Active | Ended::Deleted | Ended::Rescheduled => Ok(()),
        }
    }

    async fn build_locked(
        &self,
        context: &Context,
        request: &mut BuildRequest,
        cancelled: &tokio_util::sync::CancellationToken,
    ) -> Ended {
        let started = json!({"vm_state": "building", "task_state": null});
        let expected: &[Option<&str>] = &[Some("scheduling"), None];
        let (_, saved) = tokio::join!(
            self.start_event(context, request.uuid, EVENT),
            self.save(context, &mut request.instance, started, Some(expected)),
        );
        if let Err(error) = saved {
            // Deleted while it was on its way, or a request that came twice: the instance is not ours to touch.
            info!(%error, "not built");
            self.drop_allocation(context, request.uuid).await;
            return Ended::Deleted;
        }
        let outcome = async {
            self.claim(context, request).await?;
            self.spawn(context, request, cancelled).await?;
            self.activate(context, request).await
        }
        .await;
        match outcome {
            Ok(()) => Ended::Active,
            Err(error) => match self.build_failed(context, request, error).await {
                Some(error) if error.is_gone() => Ended::Deleted,
                Some(error) => Ended::Failed(error),
                None => Ended::Rescheduled,
            },
        }
    }

    /// Makes the instance this host's. From here on external events for it arrive.
    async fn claim(&self, context: &Context, request: &mut BuildRequest) -> Result<(), Error> {
        check_supported(request)?;
        let mut system_metadata = request.instance.system_metadata();
        system_metadata.insert("boot_roles".to_owned(), context.roles().join(","));
        mark_user_ports(&mut system_metadata, request.requested_ports());
        let network_left_over = system_metadata.remove("network_allocated").as_deref() == Some("True");
        let fields = json!({
            "host": self.host,
            "launched_on": self.host,
            "node": self.node,
            "compute_id": self.tracker.node_id().await,
            "system_metadata": system_metadata,
        });
        self.save(context, &mut request.instance, fields, None).await?;
        if let Some(usage) = Usage::of(&request.instance) {
            self.tracker.claim(request.uuid, usage).await;
        }
        if network_left_over {
            // Another host failed to build it and left its ports for us; ours are made anew.
            self.release_network(context, request.uuid, &request.instance).await?;
        }
        Ok(())
    }

    async fn activate(&self, context: &Context, request: &mut BuildRequest) -> Result<(), Error> {
        let fields = json!({
            "power_state": crate::compute::instance::guest::power::RUNNING,
            "vm_state": "active",
            "task_state": null,
            "launched_at": now(),
        });
        let expected: &[Option<&str>] = &[Some("spawning")];
        self.save(context, &mut request.instance, fields, Some(expected)).await?;
        info!("active");
        if let Some(usage) = Usage::of(&request.instance) {
            self.tracker.claim(request.uuid, usage).await;
        }
        self.tell_schedulers(&request.instance).await;
        Ok(())
    }
}

/// What a container cannot do is said before anything is made for it.
fn check_supported(request: &BuildRequest) -> Result<(), Error> {
    if request.block_devices.iter().any(|device| device.is_volume()) {
        return Err(driver::Error::Unsupported(
            "volumes cannot be attached to containers yet; launch from an image, without volumes".to_owned(),
        )
        .into());
    }
    if let Networks::Requested(requested) = &request.networks
        && let Some(tag) = requested.iter().find_map(|network| network.tag.as_deref())
    {
        return Err(driver::Error::Unsupported(format!(
            "device tags are not supported for containers; remove the tag {tag:?}"
        ))
        .into());
    }
    Ok(())
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

    #[test]
    fn nonsense_in_a_network_request_is_a_bad_request() {
        let error = networks(Some(&request_list(json!([{"port_id": "x"}])))).unwrap_err();
        assert!(matches!(error, Error::BadRequest { .. }));
    }
}
