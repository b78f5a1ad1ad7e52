//! `rebuild_instance`: a new container of the same or another image; name, ports, addresses and named volumes stay.
//!
//! The old container runs while the new image is pulled, and is there until the new one is: a rebuild that fails brings it back,
//! with the image that the API had already replaced in the record.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    instance::guest::guest,
    instance::image::{described, descriptor},
    instance::inside::inside,
    instance::power::STOP,
    now,
    operation::Method,
    ports::interfaces::usable_interfaces,
    reconcile::recovery::still,
};
use crate::{
    driver::{self, Image},
    guest::Guest,
    messaging::Context,
    objects::{Expected, Instance, TaskState, VmState},
};

/// Name of the rebuild's event.
const EVENT: &str = "compute_rebuild_instance";
const TASKS: &[TaskState] = &[TaskState::Rebuilding, TaskState::RebuildBlockDeviceMapping, TaskState::RebuildSpawning];
/// What a rebuild reads of its instance.
const INSTANCE_ATTRS: &[&str] =
    &["metadata", "system_metadata", "flavor", "trusted_certs", "keypairs", "device_metadata", "ec2_ids"];

/// `rebuild_instance`.
pub(in crate::compute) struct Rebuild {
    instance: Instance,
    before: Before,
    preserve_ephemeral: bool,
    /// The instance's host is lost, and this one is to take it over.
    evacuates: bool,
    arguments: Map<String, Value>,
}

/// What the API replaced in the record before it asked for the rebuild.
struct Before {
    image_ref: Option<Value>,
    system_metadata: Option<Value>,
}

impl Method for Rebuild {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let instance = arguments.instance()?;
        let before = Before {
            image_ref: arguments.get("orig_image_ref").cloned(),
            system_metadata: arguments.get("orig_sys_metadata").filter(|value| value.is_object()).cloned(),
        };
        Ok(Self {
            instance,
            before,
            preserve_ephemeral: arguments.flag("preserve_ephemeral", false),
            evacuates: arguments.flag("recreate", false),
            arguments: named_as_in_a_build(arguments.into_map()),
        })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        if self.evacuates {
            return compute.refuse_evacuation(context, self.instance, &self.arguments).await;
        }
        compute.rebuild(context, self).await.map(|()| Value::Null)
    }
}

impl Compute {
    async fn rebuild(&self, context: &Context, request: Rebuild) -> Result<(), Error> {
        let uuid = instance_uuid(&request.instance)?;
        let _lock = self.locks.lock(uuid).await;
        let asks_too_much = refused(&request);
        let duties = Duties { errors_out: asks_too_much.is_none(), ..Duties::of(EVENT, TASKS) };
        self.operate(context, uuid, duties, async {
            let mut instance = self.conductor.instance(context, &uuid.to_string(), INSTANCE_ATTRS).await?;
            // A request that came twice, or late, ends here: what there is is not its own.
            let rebuilding = json!({"task_state": TaskState::Rebuilding});
            self.save(context, &mut instance, rebuilding, Expected::task(TaskState::Rebuilding)).await?;
            let done = match asks_too_much {
                Some(error) => Err(error),
                None => Box::pin(self.rebuild_locked(context, &mut instance, &request.arguments)).await,
            };
            let Err(error) = done else { return Ok(()) };
            Err(self.after_failed_rebuild(context, uuid, &request.before, error).await)
        })
        .await
    }

    async fn rebuild_locked(
        &self,
        context: &Context,
        instance: &mut Instance,
        arguments: &Map<String, Value>,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let stays_down = instance.vm_state() == Some(VmState::Stopped);
        self.driver.tidy(uuid).await?;

        let (prepared, network) =
            tokio::join!(self.prepare_image(context, instance, arguments), self.network_to_start(context, uuid));
        let ((mut guest, image, prepared), network) = (prepared?, network?);
        let interfaces = usable_interfaces(&network, &self.host)?;
        if self.driver.power_state(uuid).await?.is_some() {
            self.driver.stop(uuid, self.stop_timeout(instance)).await?;
        }
        let mapping = json!({"task_state": TaskState::RebuildBlockDeviceMapping});
        self.save(context, instance, mapping, Expected::before(TaskState::RebuildBlockDeviceMapping)).await?;
        let spawning = json!({"task_state": TaskState::RebuildSpawning});
        self.save(context, instance, spawning, Expected::before(TaskState::RebuildSpawning)).await?;

        self.renew_config_drive(context, instance, &image, &network, &mut guest).await?;
        self.driver.replace(&guest, &prepared, &interfaces).await?;
        // It is stopped again at once, so that it does not run at all.
        if !stays_down {
            self.start_new(uuid).await?;
        }
        self.record_rebuild(context, instance, stays_down).await?;
        if let Err(error) = self.driver.settle(uuid).await {
            warn!(%error, "the container from before the rebuild stays until the next start of the agent");
        }
        if stays_down {
            // Nothing starts that would tell of it.
            self.renew_state_tags(uuid).await;
        }
        info!("rebuilt");
        self.tell_schedulers(instance).await;
        Ok(())
    }

    /// The image of the record, on the host, and what the container is to be.
    async fn prepare_image(
        &self,
        context: &Context,
        instance: &Instance,
        arguments: &Map<String, Value>,
    ) -> Result<(Guest, Value, driver::Prepared<'_>), Error> {
        let image = match instance.image_ref().and_then(|id| Uuid::parse_str(id).ok()) {
            Some(id) => described(&self.cloud.glance.image(&self.caller(context), id).await?),
            None => json!({}),
        };
        let mut guest = guest(instance, &image, self.compute_id)?;
        self.link_what_is_there(&mut guest).await?;
        guest.inside = inside(guest.inside, arguments)?;
        let described = descriptor(&image)?;
        let source = Image { caller: self.caller(context), descriptor: &described, is_bounded: true };
        let prepared = self.driver.prepare(&guest, source).await?;
        Ok((guest, image, prepared))
    }

    /// As nova-compute, which starts a server that was down and then stops it: its users know those states.
    async fn record_rebuild(&self, context: &Context, instance: &mut Instance, stays_down: bool) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let mut state = json!({
            "power_state": self.power_state(uuid).await?,
            "vm_state": VmState::Active,
            "task_state": stays_down.then_some(TaskState::PoweringOff),
            "launched_at": now(),
        });
        self.remember_exposed(instance, &mut state).await;
        self.links_changed();
        self.save(context, instance, state, Expected::task(TaskState::RebuildSpawning)).await?;
        if !stays_down {
            return Ok(());
        }
        self.operate(context, uuid, STOP, self.stop_locked(context, instance, false)).await
    }

    /// The old container is back, and so is its image in the record.
    async fn after_failed_rebuild(&self, context: &Context, uuid: Uuid, before: &Before, error: Error) -> Error {
        let restored = self.driver.restore(uuid).await;
        if error.is_gone() {
            return error;
        }
        let mut fields = Map::new();
        fields.extend(before.image_ref.clone().map(|image| ("image_ref".to_owned(), image)));
        fields.extend(before.system_metadata.clone().map(|metadata| ("system_metadata".to_owned(), metadata)));
        fields.extend(self.power_state(uuid).await.ok().map(|state| ("power_state".to_owned(), json!(state))));
        self.set_state(context, uuid, Value::Object(fields), &Expected::Any).await;
        match restored {
            Ok(_) => error,
            Err(cleanup) => Error::Cleanup { error: Box::new(error), cleanup: cleanup.to_string() },
        }
    }

    /// A rebuild that a restart of the agent cut short: the old container is back.
    pub(in crate::compute) async fn fail_interrupted_rebuild(
        &self,
        context: &Context,
        instance: &Instance,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let _lock = self.locks.lock(uuid).await;
        let error = Error::exception(
            "BuildAbortException",
            "the compute service was restarted while it rebuilt the instance; rebuild it again, or reboot it hard to go on with \
             the container from before",
            json!({}),
        );
        self.driver.restore(uuid).await?;
        self.finish_event(context, uuid, EVENT, Some(&error)).await;
        self.record_fault(context, uuid, &error).await;
        let state =
            json!({"vm_state": VmState::Error, "task_state": null, "power_state": self.power_state(uuid).await?});
        self.set_state(context, uuid, state, &still(instance.task_state())).await;
        Ok(())
    }
}

/// The password has another name here than in a build.
fn named_as_in_a_build(mut arguments: Map<String, Value>) -> Map<String, Value> {
    if let Some(password) = arguments.remove("new_pass") {
        arguments.insert("admin_password".to_owned(), password);
    }
    arguments
}

/// What a container cannot do is said before anything is touched.
fn refused(request: &Rebuild) -> Option<Error> {
    if request.preserve_ephemeral {
        let problem =
            "containers have no ephemeral disk to preserve; rebuild without it (named volumes are kept anyway)";
        return Some(Error::exception("PreserveEphemeralNotSupported", problem, Value::Null));
    }
    if request.instance.has_trusted_certificates() {
        let problem = "signatures of images are not verified for containers; rebuild without trusted certificates";
        return Some(driver::Error::Unsupported(problem.to_owned()).into());
    }
    None
}
