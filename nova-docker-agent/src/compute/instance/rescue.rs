//! `rescue_instance` and `unrescue_instance`: another image runs in the instance's network, with the instance's own files at
//! `/rescue`; then the instance runs again.

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::info;
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    instance::guest::guest,
    instance::image::{described, descriptor},
    now,
    operation::Method,
    ports::interfaces::usable_interfaces,
    reconcile::recovery::still,
};
use crate::{
    driver::{Image, Prepared},
    guest::Guest,
    limits::StopTimeout,
    messaging::Context,
    objects::{Expected, Instance, TaskState, VmState},
};

const RESCUE_EVENT: &str = "compute_rescue_instance";
/// What a rescue reads of its instance.
const INSTANCE_ATTRS: &[&str] = &["metadata", "system_metadata", "flavor"];

/// `rescue_instance`.
pub(in crate::compute) struct Rescue {
    instance: Instance,
    /// Image that the user asks for.
    image: Option<Uuid>,
    /// The guest has time to end by itself.
    clean: bool,
}

impl Method for Rescue {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let image = match arguments.get("rescue_image_ref") {
            None | Some(Value::Null) => None,
            Some(_) => Some(arguments.id("rescue_image_ref")?),
        };
        let clean = arguments.flag("clean_shutdown", true);
        Ok(Self { image, clean, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.rescue(context, self).await.map(|()| Value::Null)
    }
}

/// `unrescue_instance`.
pub(in crate::compute) struct Unrescue {
    instance: Instance,
}

impl Method for Unrescue {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.unrescue(context, self.instance).await.map(|()| Value::Null)
    }
}

impl Compute {
    async fn rescue(&self, context: &Context, mut request: Rescue) -> Result<(), Error> {
        let uuid = instance_uuid(&request.instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of(RESCUE_EVENT, &[TaskState::Rescuing]).erroring_out(), async {
            if !self.take_up(context, &mut request.instance, TaskState::Rescuing).await? {
                return Ok(());
            }
            let mut instance = self.conductor.instance(context, &uuid.to_string(), INSTANCE_ATTRS).await?;
            if let Err(error) = Box::pin(self.run_rescue(context, &instance, &request)).await {
                return Err(self.undo_rescue(uuid, error).await);
            }
            let state = json!({
                "vm_state": VmState::Rescued,
                "task_state": null,
                "power_state": self.power_state(uuid).await?,
                "launched_at": now(),
            });
            self.save(context, &mut instance, state, Expected::task(TaskState::Rescuing)).await?;
            info!("rescued");
            Ok(())
        })
        .await
    }

    async fn run_rescue(&self, context: &Context, instance: &Instance, request: &Rescue) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        self.driver.tidy(uuid).await?;
        let (prepared, network) =
            tokio::join!(self.prepare_rescue(context, instance, request.image), self.network_to_start(context, uuid));
        let ((mut guest, image, prepared), network) = (prepared?, network?);
        self.keep_config_drive(instance, &image, &mut guest);
        let timeout = if request.clean { self.stop_timeout(instance) } else { StopTimeout::KILL };
        self.driver.stop(uuid, timeout).await?;
        self.driver.replace(&guest, &prepared, &usable_interfaces(&network, &self.host)?).await?;
        // There is no time later at which it could be told that the rescue does not run.
        Ok(self.driver.start_guest(uuid, self.config.docker.build_grace).await?)
    }

    /// The image that rescues is the one that the user names, or the one that the instance's own was made from, or its own. It
    /// runs as the image and the flavor say: the user's configuration is of the instance, and may be what is to be mended.
    async fn prepare_rescue(
        &self,
        context: &Context,
        instance: &Instance,
        image: Option<Uuid>,
    ) -> Result<(Guest, Value, Prepared<'_>), Error> {
        let metadata = instance.system_metadata();
        let own = metadata.get("image_base_image_ref").filter(|id| !id.is_empty()).map(String::as_str);
        let own = own.or(instance.image_ref()).and_then(|id| Uuid::parse_str(id).ok());
        let image = match image.or(own) {
            Some(id) => described(&self.cloud.glance.image(&self.caller(context), id).await?),
            None => json!({}),
        };
        let mut plain = instance.clone();
        plain.set("metadata", json!({}));
        plain.set("user_data", Value::Null);
        let guest = Guest { rescues: true, ..guest(&plain, &image, self.compute_id)? };
        let described = descriptor(&image)?;
        let source = Image { caller: self.caller(context), descriptor: &described, is_bounded: true };
        let prepared = self.driver.prepare(&guest, source).await?;
        Ok((guest, image, prepared))
    }

    /// The instance's own container is back, stopped.
    async fn undo_rescue(&self, uuid: Uuid, error: Error) -> Error {
        let cleanup = self.driver.restore(uuid).await.err();
        if error.is_gone() {
            return error;
        }
        let reason = match cleanup {
            None => error.to_string(),
            Some(cleanup) => format!("{error}; cleaning up after it failed too: {cleanup}"),
        };
        let words = format!("Instance {uuid} cannot be rescued: {reason}");
        Error::exception("InstanceNotRescuable", words, json!({"instance_id": uuid, "reason": reason}))
    }

    /// Runs the instance's own container again. Done already is done.
    pub(in crate::compute) async fn unrescue(&self, context: &Context, mut instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        let duties = Duties::of("compute_unrescue_instance", &[TaskState::Unrescuing]).erroring_out();
        self.operate(context, uuid, duties, async {
            if !self.take_up(context, &mut instance, TaskState::Unrescuing).await? {
                return Ok(());
            }
            self.driver.restore(uuid).await?;
            self.power_on(context, uuid).await?;
            let state = json!({
                "vm_state": VmState::Active,
                "task_state": null,
                "power_state": self.power_state(uuid).await?,
            });
            self.save(context, &mut instance, state, Expected::task(TaskState::Unrescuing)).await
        })
        .await
    }

    /// A rescue that a restart of the agent cut short: the instance's own container is back, stopped.
    pub(in crate::compute) async fn fail_interrupted_rescue(
        &self,
        context: &Context,
        instance: &Instance,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let _lock = self.locks.lock(uuid).await;
        let reason = "the compute service was restarted meanwhile; reboot it hard, then rescue it again";
        let words = format!("Instance {uuid} cannot be rescued: {reason}");
        let error = Error::exception("InstanceNotRescuable", words, json!({"instance_id": uuid, "reason": reason}));
        self.driver.restore(uuid).await?;
        self.finish_event(context, uuid, RESCUE_EVENT, Some(&error)).await;
        self.record_fault(context, uuid, &error).await;
        let power_state = self.power_state(uuid).await?;
        let state = json!({"vm_state": VmState::Error, "task_state": null, "power_state": power_state});
        self.set_state(context, uuid, state, &still(instance.task_state())).await;
        Ok(())
    }
}
