//! `attach_interface`, `detach_interface`: interfaces that come and go while the container is there.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::ports::{Allocation, NetworkInfo, Networks, RequestedNetwork, Vif};
use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    instance::devices::{TaggedInterface, device_metadata, tagged, tagged_interfaces},
    operation::Method,
    ports::interfaces::interfaces,
    ports::user_ports::{mark_user_ports, unmark_user_port, user_ports},
};
use crate::{
    cloud::Caller,
    driver,
    messaging::Context,
    objects::{Expected, Instance},
};

/// The task state is not ours: the API sets none.
const ATTACH: Duties<'static> = Duties::of("compute_attach_interface", &[]);
const DETACH: Duties<'static> = Duties::of("compute_detach_interface", &[]);

/// The errors that Nova's API has an answer for; all others become an internal error without a reason. Source: the API's handler of
/// `POST /servers/ID/os-interface`.
const ANSWERED: [&str; 13] = [
    "FixedIpAlreadyInUse",
    "InterfaceAttachFailed",
    "InterfaceAttachFailedNoNetwork",
    "NetworkAmbiguous",
    "NetworkInterfaceTaggedAttachNotSupported",
    "NetworkNotFound",
    "NetworksWithQoSPolicyNotSupported",
    "NoMoreFixedIps",
    "PortInUse",
    "PortLimitExceeded",
    "PortNotFound",
    "PortNotUsable",
    "SecurityGroupCannotBeApplied",
];

/// What the interface shall be: the arguments of `attach_interface`.
///
/// # Errors
/// An argument that has no meaning to us.
fn wanted(args: &Map<String, Value>) -> Result<RequestedNetwork, Error> {
    let text = |name: &str| args.get(name).and_then(Value::as_str);
    let bad = |name: &str| Error::BadRequest {
        method: "attach_interface".to_owned(),
        problem: format!("the argument `{name}` cannot be read"),
    };
    let id = |name: &str| text(name).map(|text| Uuid::parse_str(text).map_err(|_| bad(name))).transpose();
    let address = text("requested_ip").map(|text| text.parse().map_err(|_| bad("requested_ip"))).transpose()?;
    let tag = text("tag").map(str::to_owned);
    Ok(RequestedNetwork { network_id: id("network_id")?, port_id: id("port_id")?, address, tag })
}

/// `attach_interface`.
pub(in crate::compute) struct AttachInterface {
    instance: Instance,
    wanted: RequestedNetwork,
}

impl Method for AttachInterface {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let instance = arguments.instance()?;
        Ok(Self { instance, wanted: wanted(&arguments.into_map())? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.attach_interface(context, &self.instance, self.wanted).await
    }
}

/// `detach_interface`.
pub(in crate::compute) struct DetachInterface {
    instance: Instance,
    port: String,
}

impl Method for DetachInterface {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let instance = arguments.instance()?;
        Ok(Self { instance, port: arguments.text("port_id")?.to_owned() })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.detach_interface(context, &self.instance, &self.port).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// Gives the instance one more port, the user's or a new one, and plugs it. Returns the port as the network information
    /// cache has it.
    async fn attach_interface(
        &self,
        context: &Context,
        instance: &Instance,
        wanted: RequestedNetwork,
    ) -> Result<Value, Error> {
        let uuid = instance_uuid(instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, ATTACH, async {
            let attached = self.attach_locked(context, instance, uuid, wanted).await;
            attached.map(|vif| json!(vif)).map_err(|error| told(error, uuid))
        })
        .await
    }

    async fn attach_locked(
        &self,
        context: &Context,
        instance: &Instance,
        uuid: Uuid,
        wanted: RequestedNetwork,
    ) -> Result<Vif, Error> {
        // As in a build, nobody else may write the cache until it holds the port.
        let _cache = self.cache_locks.lock(uuid).await;
        let cache = self.load_network_info(context, uuid).await?;
        let new = match wanted.port_id {
            Some(port) => self.remember_user_port(context, uuid, port).await?,
            None => None,
        };
        let attached = self.allocate_and_plug(context, instance, uuid, wanted, &cache).await;
        if let (Err(_), Some(port)) = (&attached, new) {
            // Leave no trace of whatever id a user names.
            self.forget_user_port(context, uuid, port).await;
        }
        attached
    }

    async fn allocate_and_plug(
        &self,
        context: &Context,
        instance: &Instance,
        uuid: Uuid,
        wanted: RequestedNetwork,
        cache: &NetworkInfo,
    ) -> Result<Vif, Error> {
        let caller = self.caller(context);
        let request = self.allocate_request(context, instance, uuid, Networks::Requested(vec![wanted]));
        let allocation = self.ports.allocate(&caller, &request).await?;
        match self.plug_allocated(context, uuid, &caller, &allocation, cache).await {
            Ok(vif) => Ok(vif),
            Err(error) => {
                self.undo_attach(context, uuid, &caller, allocation, cache).await;
                Err(error)
            }
        }
    }

    async fn plug_allocated(
        &self,
        context: &Context,
        uuid: Uuid,
        caller: &Caller,
        allocation: &Allocation,
        cache: &NetworkInfo,
    ) -> Result<Vif, Error> {
        let network = self.ports.network_info_of(caller, allocation, cache).await?;
        let vif = network.0.last().cloned().ok_or_else(|| driver::Error::Unsupported("no port was made".into()))?;
        let interface = interfaces(&NetworkInfo(vec![vif.clone()]))?.pop();
        self.create_virtual_interfaces(context, uuid, allocation).await?;
        self.save_network_info(context, uuid, &network).await?;
        if let Some(interface) = interface {
            let name = self.driver.attach(uuid, interface).await?;
            info!(port = %vif.id, name, "attached an interface");
            self.follow_network(uuid, &network).await;
        }
        let tagged = tagged(allocation);
        if !tagged.is_empty() {
            self.change_tagged(context, uuid, |interfaces| interfaces.extend(tagged)).await?;
        }
        Ok(vif)
    }

    /// Brings the tagged devices in the instance's record up to date.
    async fn change_tagged(
        &self,
        context: &Context,
        uuid: Uuid,
        change: impl FnOnce(&mut Vec<TaggedInterface>),
    ) -> Result<(), Error> {
        let mut instance = self.conductor.instance(context, &uuid.to_string(), &["device_metadata"]).await?;
        let before = tagged_interfaces(&instance);
        let mut interfaces = before.clone();
        change(&mut interfaces);
        if interfaces == before {
            return Ok(());
        }
        let fields = json!({"device_metadata": device_metadata(&interfaces)});
        self.save(context, &mut instance, fields, Expected::Any).await
    }

    /// Undoes everything that was made for the interface.
    async fn undo_attach(
        &self,
        context: &Context,
        uuid: Uuid,
        caller: &Caller,
        allocation: Allocation,
        cache: &NetworkInfo,
    ) {
        for allocated in &allocation.ports {
            if let Err(error) = self.forget_interface(context, uuid, allocated.port.id).await {
                warn!(port = %allocated.port.id, %error, "cannot remove an interface that could not be attached");
            }
        }
        self.ports.release(caller, allocation).await;
        if let Err(error) = self.save_network_info(context, uuid, cache).await {
            warn!(%error, "the network information cache is stale until Neutron reports the next change");
        }
    }

    /// Unplugs one port of the instance, and returns it to Neutron or to the user who brought it.
    async fn detach_interface(&self, context: &Context, instance: &Instance, port: &str) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, DETACH, async {
            let _cache = self.cache_locks.lock(uuid).await;
            let mut network = self.load_network_info(context, uuid).await?;
            let Some(position) = network.0.iter().position(|vif| vif.id.to_string() == port) else {
                let message = format!("Port {port} is not attached to instance {uuid}.");
                return Err(Error::exception("PortNotFound", message, json!({"port_id": port})));
            };
            let vif = network.0.remove(position);
            self.forget_interface(context, uuid, vif.id).await?;
            let caller = self.caller(context);
            let reserved = self.ports.deallocate_port(&caller, vif.id, vif.preserve_on_delete).await?;
            if let Err(error) = self.cloud.placement.release(&caller.as_service(), uuid, &reserved).await {
                warn!(%port, %error, "what was reserved for the port stays the instance's at placement until it is deleted");
            }
            self.save_network_info(context, uuid, &network).await?;
            self.follow_network(uuid, &network).await;
            self.forget_marks(context, uuid, &vif).await?;
            info!(%port, "detached an interface");
            Ok(())
        })
        .await
    }

    /// Unplugs a port, and removes what Nova remembers of it beside the cache.
    pub(in crate::compute) async fn forget_interface(
        &self,
        context: &Context,
        uuid: Uuid,
        port: Uuid,
    ) -> Result<(), Error> {
        self.driver.detach(uuid, port).await?;
        self.conductor.delete_virtual_interface(context, &port.to_string()).await?;
        Ok(())
    }

    /// Removes what the instance's record has of a port that is not the instance's any more: its tag, and that it was the user's.
    pub(in crate::compute) async fn forget_marks(&self, context: &Context, uuid: Uuid, vif: &Vif) -> Result<(), Error> {
        self.change_tagged(context, uuid, |interfaces| interfaces.retain(|other| other.mac != vif.address)).await?;
        if vif.preserve_on_delete {
            self.forget_user_port(context, uuid, vif.id).await;
        }
        Ok(())
    }

    /// Records a user's port before it is bound, so that it is never deleted with the instance, even if this process
    /// dies. Returns the port if the record is new.
    async fn remember_user_port(&self, context: &Context, uuid: Uuid, port: Uuid) -> Result<Option<Uuid>, Error> {
        let mut instance = self.conductor.instance(context, &uuid.to_string(), &["system_metadata"]).await?;
        if user_ports(&instance).contains(&port) {
            return Ok(None);
        }
        let mut metadata = instance.system_metadata();
        mark_user_ports(&mut metadata, [port]);
        self.save(context, &mut instance, json!({"system_metadata": metadata}), Expected::Any).await?;
        Ok(Some(port))
    }

    async fn forget_user_port(&self, context: &Context, uuid: Uuid, port: Uuid) {
        let forgotten = async {
            let mut instance = self.conductor.instance(context, &uuid.to_string(), &["system_metadata"]).await?;
            let mut metadata = instance.system_metadata();
            if unmark_user_port(&mut metadata, port) {
                self.save(context, &mut instance, json!({"system_metadata": metadata}), Expected::Any).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = forgotten.await {
            warn!(%port, %error, "a port that is not the instance's is still recorded as the user's");
        }
    }
}

/// Converts a failure into an exception that the API can report.
fn told(error: Error, instance: Uuid) -> Error {
    let class = error.to_failure().class;
    if ANSWERED.contains(&class.as_str()) {
        return error;
    }
    let is_users = error.fault_code() < 500 && class != "NovaException";
    match is_users {
        // A 400 with the text, from every handler.
        true => Error::exception("NotSupported", error.to_string(), Value::Null),
        false => Error::exception("InterfaceAttachFailed", error.to_string(), json!({"instance_uuid": instance})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::ports::NetworkError;

    fn args(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_interface_is_asked_for_by_network_by_port_or_by_nothing() {
        let id = Uuid::from_u128(7);
        let nothing = json!({"network_id": null, "port_id": null, "requested_ip": null, "tag": null});
        assert_eq!(wanted(&args(nothing)).unwrap(), RequestedNetwork::default());
        let network = wanted(&args(json!({"network_id": id, "requested_ip": "10.0.0.9"}))).unwrap();
        assert_eq!((network.network_id, network.address), (Some(id), Some("10.0.0.9".parse().unwrap())));
        assert_eq!(wanted(&args(json!({"port_id": id}))).unwrap().port_id, Some(id));
        for bad in [json!({"port_id": "eth1"}), json!({"requested_ip": "ten"})] {
            assert!(wanted(&args(bad)).is_err());
        }
    }

    #[test]
    fn what_nova_has_no_answer_for_becomes_one_with_our_words() {
        let unplugged = Error::from(crate::docker::Error::NotFound { what: "the container".into() });
        let failure = told(unplugged, Uuid::nil()).to_failure();
        assert_eq!(failure.class, "InterfaceAttachFailed");
        assert!(failure.message.contains("the container"), "{}", failure.message);
        let ambiguous = told(NetworkError::NetworkAmbiguous.into(), Uuid::nil()).to_failure();
        assert_eq!(ambiguous.class, "NetworkAmbiguous");
        let hostname = NetworkError::InvalidHostname { hostname: "a_b".into() };
        assert_eq!(told(hostname.into(), Uuid::nil()).to_failure().class, "NotSupported");
    }
}
