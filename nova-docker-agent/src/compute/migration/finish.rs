//! `finish_resize`: the container with the new flavor.

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::info;

use super::request::{Step, flavor_fields, was_on};
use crate::compute::{
    Compute, arguments::Arguments, duties::Duties, error::Error, instance::guest::guest, node::usage::Usage, now,
    operation::Method, ports::interfaces::usable_interfaces,
};
use crate::{
    messaging::Context,
    objects::{Expected, Flavor, Instance, MigrationStatus, TaskState, VmState},
};

const TASKS: &[TaskState] = &[TaskState::ResizeMigrated, TaskState::ResizeFinish];

/// `finish_resize`.
pub(in crate::compute) struct FinishResize(Step);

impl Method for FinishResize {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        Step::parse(arguments).map(Self)
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        let Self(step) = self;
        if step.migration.str("source_compute") != Some(compute.host.as_str()) {
            return compute.refuse_migration(context, step.instance, step.migration, TaskState::ResizeMigrated).await;
        }
        compute.finish_resize(context, step).await.map(|()| Value::Null)
    }
}

impl Compute {
    async fn finish_resize(&self, context: &Context, mut step: Step) -> Result<(), Error> {
        let uuid = step.uuid;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_finish_resize", TASKS), async {
            let (mut instance, old) = self.read_for_resize(context, uuid).await?;
            self.begin_arrival(context, &mut instance, &old).await?;
            match self.arrive(context, &mut instance, &old, &mut step).await {
                Ok(()) => {
                    info!("resized");
                    self.tell_schedulers(&instance).await;
                    Ok(())
                }
                Err(error) => Err(self.undo_resize(context, &instance, &mut step.migration, error).await),
            }
        })
        .await
    }

    /// The record has the new flavor. A request that came twice, or late, ends here: the resize is another one's.
    async fn begin_arrival(&self, context: &Context, instance: &mut Instance, old: &Flavor) -> Result<(), Error> {
        let arriving = json!({"task_state": TaskState::ResizeMigrated});
        self.save(context, instance, arriving, Expected::task(TaskState::ResizeMigrated)).await?;
        let new = instance.new_flavor().ok_or_else(|| Error::BadRequest {
            method: "finish_resize".to_owned(),
            problem: "the instance has no new flavor".to_owned(),
        })?;
        let mut fields = flavor_fields(&new, old.to_value(), new.to_value());
        fields.insert("task_state".to_owned(), json!(TaskState::ResizeFinish));
        self.save(context, instance, Value::Object(fields), Expected::task(TaskState::ResizeMigrated)).await
    }

    async fn arrive(
        &self,
        context: &Context,
        instance: &mut Instance,
        old: &Flavor,
        step: &mut Step,
    ) -> Result<(), Error> {
        let uuid = step.uuid;
        let network = self.network_to_start(context, uuid).await?;
        let image = step.argument("image");
        let mut guest = guest(instance, &image, self.compute_id)?;
        self.link_what_is_there(&mut guest).await?;
        self.keep_config_drive(instance, &image, &mut guest);
        self.driver.recreate(&guest, &usable_interfaces(&network, &self.host)?).await?;
        if was_on(instance) {
            self.driver.start_guest(uuid, self.config.docker.build_grace).await?;
        } else {
            self.renew_state_tags(uuid).await;
        }
        if let Some(usage) = Usage::of(instance) {
            self.tracker.claim(uuid, usage).await;
        }
        if let Some(consumer) = step.migration_uuid() {
            self.tracker.claim(consumer, Usage::of_move(instance, old)).await;
        }
        self.set_migration(context, &mut step.migration, MigrationStatus::Finished).await?;
        let state = json!({
            "vm_state": VmState::Resized,
            "task_state": null,
            "power_state": self.power_state(uuid).await?,
            "launched_at": now(),
        });
        self.save(context, instance, state, Expected::task(TaskState::ResizeFinish)).await
    }
}
