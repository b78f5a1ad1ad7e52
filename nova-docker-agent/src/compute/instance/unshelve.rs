//! `unshelve_instance`: an instance that is on no host comes to this one, from the image that it was shelved into.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::instance::config_drive::is_wanted;
use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    defect::caught,
    duties::Duties,
    error::Error,
    instance::{build_wait::NotOwned, guest::guest, image::descriptor, wiring::Wiring},
    node::usage::Usage,
    now,
    operation::Method,
    ports::{ProviderMapping, cache::network_info, interfaces::interfaces},
    reconcile::recovery::still,
};
use crate::guest::{Guest, Inside};
use crate::{
    cloud::Caller,
    driver::{End, Image},
    messaging::Context,
    network::Interface,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

/// What it reads of its instance.
const INSTANCE_ATTRS: &[&str] =
    &["info_cache", "metadata", "system_metadata", "flavor", "keypairs", "device_metadata", "ec2_ids"];
/// Name of its event.
pub(in crate::compute) const EVENT: &str = "compute_unshelve_instance";

/// A failure has cleared the task by itself. Its user may have asked again by the time it is told.
const DUTIES: Duties<'static> = Duties::of(EVENT, &[]);

/// `unshelve_instance`.
pub(in crate::compute) struct Unshelve {
    instance: Instance,
    /// The image's record as a plain dictionary; null for one that booted from a volume.
    image: Value,
    /// Where the scheduler has reserved what the ports ask of placement.
    resources: ProviderMapping,
}

impl Method for Unshelve {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let image = arguments.get("image").cloned().unwrap_or_default();
        let resources = arguments.get("request_spec").map(ProviderMapping::of_request_spec).unwrap_or_default();
        Ok(Self { image, resources, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.unshelve(context, self).await.map(|()| Value::Null)
    }
}

impl Compute {
    async fn unshelve(&self, context: &Context, unshelve: Unshelve) -> Result<(), Error> {
        let Unshelve { instance, image, resources } = unshelve;
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        let cancelled = self.begin_build(uuid);
        let unshelved = self
            .operate(context, uuid, DUTIES, async {
                let mut instance = self.own_unshelved(context, &instance).await?;
                let back = caught(self.bring_back(context, &mut instance, &image, &resources, &cancelled)).await;
                let spawning = Expected::task(TaskState::Spawning);
                match &back {
                    Ok(()) => {}
                    // Nobody knows how far it got; it may run.
                    Err(Error::Defect(_)) => {
                        self.set_state(context, uuid, json!({"task_state": null}), &spawning).await;
                    }
                    Err(error) => self.undo_unshelve(context, uuid, &spawning.or_no_task(), error.is_gone()).await,
                }
                back
            })
            .await;
        self.end_build(uuid);
        unshelved
    }

    /// Makes the instance this host's, in one save, so that a restart finds it.
    async fn own_unshelved(&self, context: &Context, request: &Instance) -> Result<Instance, Error> {
        let uuid = instance_uuid(request)?;
        let mut fields = json!({
            "task_state": TaskState::Spawning, "host": self.host, "launched_on": self.host, "node": self.node,
            "compute_id": self.tracker.node_id().await,
        });
        // The conductor has chosen it, and left it to us to write it down.
        if let Some(zone) = request.availability_zone() {
            fields["availability_zone"] = json!(zone);
        }
        let owned = async {
            let mut instance = self.conductor.instance(context, &uuid.to_string(), INSTANCE_ATTRS).await?;
            self.save(context, &mut instance, fields, Expected::task(TaskState::Unshelving)).await?;
            Ok::<_, Error>(instance)
        }
        .await;
        match &owned {
            Ok(instance) => {
                if let Some(usage) = Usage::of(instance) {
                    self.tracker.claim(uuid, usage).await;
                }
            }
            // What the scheduler has claimed is somebody else's.
            Err(error) if NotOwned::of(error) == NotOwned::NotOurs => {}
            Err(_) => {
                self.drop_allocation(context, uuid).await;
                let ours = Expected::task(TaskState::Unshelving);
                self.set_state(context, uuid, json!({"task_state": null}), &ours).await;
            }
        }
        owned
    }

    async fn bring_back(
        &self,
        context: &Context,
        instance: &mut Instance,
        image: &Value,
        resources: &ProviderMapping,
        cancelled: &CancellationToken,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let described = descriptor(image)?;
        // The files in the image are the instance's own, and may be more than its disk holds besides the image that it began with.
        let mut guest = Guest { key: None, ..guest(instance, image, self.compute_id)? };
        // It had run before the server was shelved.
        guest.configuration.script = None;
        self.link_what_is_there(&mut guest).await?;
        guest.inside.has_config_drive = is_wanted(instance, image, &self.config.metadata);
        let source = Image { caller: self.caller(context), descriptor: &described, is_bounded: false };
        // Boxed, as for a build.
        let network = Box::pin(self.rebind_network(context, instance, &guest.inside, resources));
        Box::pin(self.bring_up(&guest, source, network, cancelled)).await?;
        let state = json!({
            "power_state": PowerState::Running, "vm_state": VmState::Active, "task_state": null, "launched_at": now(),
        });
        self.save(context, instance, state, Expected::task(TaskState::Spawning)).await?;
        info!("back from the shelf");
        if let Some(usage) = Usage::of(instance) {
            self.tracker.claim(uuid, usage).await;
        }
        self.tell_schedulers(instance).await;
        // Last: until the instance is known to run, the image is all that there is of it.
        self.forget_shelved_image(context, uuid).await;
        Ok(())
    }

    /// Brings the instance's ports to this host and plugs them. Returns the wait for Neutron to say that they are wired.
    async fn rebind_network(
        &self,
        context: &Context,
        instance: &Instance,
        inside: &Inside,
        resources: &ProviderMapping,
    ) -> Result<(Vec<Interface>, Wiring), Error> {
        let uuid = instance_uuid(instance)?;
        let network = {
            // Binding makes Neutron send network-changed, whose handler writes the same cache.
            let _lock = self.cache_locks.lock(uuid).await;
            let caller = Caller::service(context.request_id());
            let zone = instance.availability_zone().unwrap_or(&self.config.default_availability_zone);
            self.ports.rebind(&caller, uuid, &self.host, zone, resources).await?;
            let cache = network_info(instance)?;
            let project = instance.project_id().unwrap_or_default();
            let network = self.ports.build_network_info(&caller, uuid, project, &cache).await?;
            self.save_network_info(context, uuid, &network).await?;
            network
        };
        let interfaces = interfaces(&network)?;
        let wiring = self.await_wiring(uuid, &network, &interfaces);
        self.driver.plug_new(uuid, &interfaces).await?;
        if inside.has_config_drive {
            self.write_config_drive(context, instance, &network, inside).await?;
        }
        Ok((interfaces, wiring))
    }

    /// The instance is on the shelf again, if its task is an expected one; its image is untouched. One that is being deleted keeps its
    /// host: the deletion waits here, and removes the rest.
    pub(in crate::compute) async fn undo_unshelve(
        &self,
        context: &Context,
        uuid: Uuid,
        expected: &Expected,
        being_deleted: bool,
    ) {
        if let Err(error) = self.driver.remove(uuid, End::Replaced).await {
            warn!(%error, "cannot remove everything of the instance that was to come back; the next start tries again");
        }
        if being_deleted {
            return;
        }
        if let Err(error) = self.unbind_network(context, uuid).await {
            warn!(%error, "the instance's ports stay bound to this host");
        }
        self.tracker.release(uuid).await;
        self.drop_allocation(context, uuid).await;
        let away = json!({
            "host": null, "node": null, "compute_id": null, "launched_on": null, "availability_zone": null,
            "task_state": null,
        });
        self.set_state(context, uuid, away, expected).await;
    }

    /// Finishes an unshelving that a restart has cut short: nobody knows how far it got, and the image has everything.
    pub(in crate::compute) async fn fail_interrupted_unshelve(
        &self,
        context: &Context,
        instance: &Instance,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let _lock = self.locks.lock(uuid).await;
        let error = cut_short(uuid);
        self.undo_unshelve(context, uuid, &still(instance.task_state()), false).await;
        self.record_fault(context, uuid, &error).await;
        self.finish_event(context, uuid, EVENT, Some(&error)).await;
        Ok(())
    }
}

/// The fault of an instance whose unshelving a restart has cut short.
pub(in crate::compute) fn cut_short(uuid: Uuid) -> Error {
    Error::exception(
        "UnshelveException",
        "the compute service was restarted while it unshelved the instance; unshelve it again",
        json!({"instance_id": uuid, "reason": "the compute service was restarted"}),
    )
}
