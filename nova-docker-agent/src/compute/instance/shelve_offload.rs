//! A shelved instance leaves its host: `shelve_offload_instance`, and the periodic task that does it when nobody asks.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    defect::caught,
    duties::Duties,
    error::Error,
    instance::marks::{shelved_at, shelved_image},
    operation::Method,
    reconcile::reaper::is_due,
};
use crate::{
    cloud::Caller,
    config::ShelvedOffload,
    driver::End,
    limits::StopTimeout,
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

/// `shelve_offload_instance`.
pub(in crate::compute) struct Offload {
    instance: Instance,
    /// The guest has time to end by itself.
    clean: bool,
}

impl Method for Offload {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let clean = arguments.flag("clean_shutdown", true);
        Ok(Self { clean, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.shelve_offload(context, self.instance, self.clean).await.map(|()| Value::Null)
    }
}

impl Compute {
    async fn shelve_offload(&self, context: &Context, mut instance: Instance, clean: bool) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        let duties = Duties::of("compute_shelve_offload_instance", &[TaskState::ShelvingOffloading]);
        self.operate(context, uuid, duties, async {
            // Nothing is removed for a task that was given up: the instance may be back in use.
            let offloading = json!({"task_state": TaskState::ShelvingOffloading});
            self.save(context, &mut instance, offloading, Expected::before(TaskState::ShelvingOffloading)).await?;
            if self.power_state(uuid).await? != PowerState::NoState {
                let timeout = if clean { self.stop_timeout(&instance) } else { StopTimeout::KILL };
                self.driver.stop(uuid, timeout).await?;
            }
            self.offload(context, &mut instance).await
        })
        .await
    }

    /// Takes a shelved instance off this host: its ports stay, bound to no host; container, namespace and allocation go. May be
    /// repeated where it was interrupted. Named volumes stay as after any container's end.
    pub(in crate::compute) async fn offload(&self, context: &Context, instance: &mut Instance) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let power = self.power_state(uuid).await?;
        if power != PowerState::NoState {
            self.check_shelved_image(context, uuid).await?;
        }
        self.unbind_network(context, uuid).await?;
        self.driver.remove(uuid, End::Replaced).await?;
        // Before anybody sees that there is room again.
        let caller = Caller::service(context.request_id());
        self.cloud.placement.delete_allocations(&caller, uuid).await?;
        // One save, where Nova makes two: nobody can ask for the instance between them.
        let away = json!({
            "power_state": power, "vm_state": VmState::ShelvedOffloaded, "task_state": null,
            "host": null, "node": null, "compute_id": null, "launched_on": null, "availability_zone": null,
        });
        let expected = Expected::OneOf(vec![Some(TaskState::Shelving), Some(TaskState::ShelvingOffloading)]);
        self.save(context, instance, away, expected).await?;
        self.forget_offloaded(context, uuid).await;
        info!("off this host");
        Ok(())
    }

    /// The image is all that there will be of the instance: without it, nothing is removed.
    async fn check_shelved_image(&self, context: &Context, uuid: Uuid) -> Result<(), Error> {
        let instance = self.conductor.instance(context, &uuid.to_string(), &["system_metadata"]).await?;
        let image = shelved_image(&instance.system_metadata());
        let words = |problem: &str| {
            let words = format!("the instance stays on its host: the image that it was shelved into {problem}");
            Error::exception("ShelveException", words, json!({"instance_id": uuid, "reason": problem}))
        };
        let Some(image) = image else { return Err(words("is not known")) };
        match self.cloud.glance.image(&Caller::service(context.request_id()), image).await {
            Ok(found) if found.status == "active" => Ok(()),
            Ok(found) => Err(words(&format!("({image}) is {}", found.status))),
            Err(error) if error.is_not_found() => Err(words(&format!("({image}) is not there any more"))),
            Err(error) => Err(error.into()),
        }
    }

    async fn forget_offloaded(&self, context: &Context, uuid: Uuid) {
        self.tracker.release(uuid).await;
        let id = uuid.to_string();
        let (tokens, ()) =
            tokio::join!(self.conductor.clean_console_auths(context, &id), self.forget_in_schedulers(&id));
        if let Err(error) = tokens {
            warn!(%error, "cannot revoke the instance's consoles; they expire by themselves");
        }
        self.renew_state_tags(uuid).await;
    }

    /// Finishes an offloading that a restart has interrupted. `instance` has the task, or no task and only its host left.
    pub(in crate::compute) async fn finish_offload(
        &self,
        context: &Context,
        mut instance: Instance,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        if instance.vm_state() == Some(VmState::ShelvedOffloaded) {
            self.driver.remove(uuid, End::Replaced).await?;
            let away = json!({
                "host": null, "node": null, "compute_id": null, "launched_on": null, "availability_zone": null,
            });
            self.save(context, &mut instance, away, Expected::no_task()).await?;
            self.forget_offloaded(context, uuid).await;
            return Ok(());
        }
        let offloaded = self.offload(context, &mut instance).await;
        if offloaded.is_ok() {
            let event =
                if self.offloads_at_once() { "compute_shelve_instance" } else { "compute_shelve_offload_instance" };
            self.finish_event(context, uuid, event, None).await;
        }
        offloaded
    }

    /// Offloads the instances that have been shelved for as long as an operator lets them stay.
    pub(in crate::compute) async fn poll_shelved(&self) -> Result<(), Error> {
        let ShelvedOffload::After(wait) = self.config.shelved_offload else { return Ok(()) };
        let context = Context::admin();
        let filters = Map::from_iter([
            ("vm_state".to_owned(), json!(VmState::Shelved)),
            ("task_state".to_owned(), json!(null)),
            ("host".to_owned(), json!(self.host)),
        ]);
        for mut instance in self.conductor.instances_by_filters(&context, filters, &["system_metadata"]).await? {
            if !is_due(shelved_at(&instance.system_metadata()).as_deref(), wait) {
                continue;
            }
            let offloaded = caught(async {
                self.recovered(instance_uuid(&instance)?).await;
                let offloading = json!({"task_state": TaskState::ShelvingOffloading});
                self.save(&context, &mut instance, offloading, Expected::no_task()).await?;
                self.shelve_offload(&context, instance.clone(), false).await
            })
            .await;
            if let Err(error) = offloaded {
                warn!(%error, instance = instance.uuid(), "cannot offload the shelved instance; the next turn tries again");
            }
        }
        Ok(())
    }
}
