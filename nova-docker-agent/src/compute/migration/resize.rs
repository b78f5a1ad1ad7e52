//! `prep_resize` and `resize_instance`: claims, and the stop of the container.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use super::request::{OLD_VM_STATE, Step, stashed_flavors, was_on};
use crate::compute::{
    Compute, arguments::Arguments, duties::Duties, error::Error, instance::guest::guest, node::usage::Usage,
    operation::Method, reconcile::recovery::still,
};
use crate::{
    limits::StopTimeout,
    messaging::Context,
    objects::{Expected, Flavor, Instance, Migration, MigrationStatus, TaskState, VmState},
};

/// `prep_resize`, on the host that the scheduler chose.
pub(in crate::compute) struct PrepResize(Step);

impl Method for PrepResize {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        Step::parse(arguments).map(Self)
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        let Self(step) = self;
        if !compute.is_here(&step.instance) {
            return compute.refuse_migration(context, step.instance, step.migration, TaskState::ResizePrep).await;
        }
        compute.prep_resize(context, step).await.map(|()| Value::Null)
    }
}

/// `resize_instance`, on the host that the instance is on.
pub(in crate::compute) struct ResizeInstance {
    step: Step,
    /// The guest has time to end by itself.
    clean: bool,
}

impl Method for ResizeInstance {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        let clean = arguments.flag("clean_shutdown", true);
        Ok(Self { clean, step: Step::parse(arguments)? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        let destination = self.step.migration.str("dest_compute").map(str::to_owned);
        if destination.as_deref() != Some(compute.host.as_str()) {
            let Self { step, .. } = self;
            return compute.refuse_migration(context, step.instance, step.migration, TaskState::ResizePrep).await;
        }
        compute.resize(context, self.step, self.clean).await.map(|()| Value::Null)
    }
}

impl Compute {
    async fn prep_resize(&self, context: &Context, mut step: Step) -> Result<(), Error> {
        let uuid = step.uuid;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_prep_resize", &[TaskState::ResizePrep]), async {
            let claimed = self.claim_resize(context, &mut step).await;
            let asked = match claimed {
                Ok(instance) => {
                    let more = ["image", "flavor", "clean_shutdown", "request_spec"];
                    self.ask_for(context, "resize_instance", &self.host, &instance, &step, &more).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = &asked else { return Ok(()) };
            if error.is_gone() || !error.is_unexpected_task_state() {
                self.give_up_migration(context, uuid, &mut step.migration).await;
            } else if let Err(error) = self.give_up_late_migration(context, uuid, &mut step.migration).await {
                warn!(%error, instance = %uuid, "cannot give up a resize that came late");
            }
            asked
        })
        .await
    }

    /// Checks that the container can be had with the new flavor, and counts both flavors.
    async fn claim_resize(&self, context: &Context, step: &mut Step) -> Result<Instance, Error> {
        let uuid = step.uuid;
        let (mut instance, old) = self.read_for_resize(context, uuid).await?;
        // Before all that can fail or change something: the task, and the container that is aside, may be another resize's.
        let preparing = json!({"task_state": TaskState::ResizePrep});
        self.save(context, &mut instance, preparing, Expected::task(TaskState::ResizePrep)).await?;
        let new = step.flavor()?;
        if new.get("id") == old.get("id") {
            let words = format!("Unable to migrate instance ({uuid}) to current host ({}).", self.host);
            let kwargs = json!({"instance_id": uuid, "host": self.host});
            return Err(Error::exception("UnableToMigrateToSelf", words, kwargs));
        }
        check(&instance, &new, &step.argument("image"), self.compute_id)?;
        self.driver.tidy(uuid).await?;

        let mut metadata = instance.system_metadata();
        let on = instance.vm_state().unwrap_or(VmState::Active);
        metadata.insert(OLD_VM_STATE.to_owned(), on.as_str().to_owned());
        let mut fields = stashed_flavors(&old, Value::Null, new.to_value());
        fields.insert("system_metadata".to_owned(), json!(metadata));
        self.save(context, &mut instance, Value::Object(fields), Expected::task(TaskState::ResizePrep)).await?;

        let migration = &mut step.migration;
        migration.set("dest_compute", self.host.as_str());
        migration.set("dest_node", self.node.as_str());
        migration.set("dest_compute_id", self.tracker.node_id().await);
        migration.set("dest_host", self.config.my_ip.to_string());
        self.set_migration(context, migration, MigrationStatus::PreMigrating).await?;
        if let Some(consumer) = step.migration_uuid() {
            self.tracker.claim(consumer, Usage::of_move(&instance, &new)).await;
        }
        Ok(instance)
    }

    async fn resize(&self, context: &Context, mut step: Step, clean: bool) -> Result<(), Error> {
        let uuid = step.uuid;
        let _lock = self.locks.lock(uuid).await;
        let tasks = [TaskState::ResizePrep, TaskState::ResizeMigrating, TaskState::ResizeMigrated];
        self.operate(context, uuid, Duties::of("compute_resize_instance", &tasks), async {
            let (mut instance, flavor) = self.read_for_resize(context, uuid).await?;
            // A request that came twice, or late, ends here: the resize is another one's.
            let migrating = json!({"task_state": TaskState::ResizeMigrating});
            self.save(context, &mut instance, migrating, Expected::task(TaskState::ResizePrep)).await?;
            let left = self.leave(context, &mut instance, &flavor, &mut step.migration, clean).await;
            let asked = match left {
                Ok(()) => {
                    let more = ["image", "request_spec"];
                    self.ask_for(context, "finish_resize", &self.host, &instance, &step, &more).await
                }
                Err(error) => Err(error),
            };
            match asked {
                Ok(()) => Ok(()),
                Err(error) => Err(self.undo_resize(context, &instance, &mut step.migration, error).await),
            }
        })
        .await
    }

    /// Stops the container: another one is to have its files.
    async fn leave(
        &self,
        context: &Context,
        instance: &mut Instance,
        flavor: &Flavor,
        migration: &mut Migration,
        clean: bool,
    ) -> Result<(), Error> {
        let uuid = crate::compute::arguments::instance_uuid(instance)?;
        let new = instance.get("new_flavor").cloned().unwrap_or_default();
        self.set_migration(context, migration, MigrationStatus::Migrating).await?;
        let timeout = if clean { self.stop_timeout(instance) } else { StopTimeout::KILL };
        self.driver.stop(uuid, timeout).await?;
        self.set_migration(context, migration, MigrationStatus::PostMigrating).await?;
        let mut fields = stashed_flavors(flavor, flavor.to_value(), new);
        fields.extend(Map::from_iter([
            ("host".to_owned(), json!(self.host)),
            ("node".to_owned(), json!(self.node)),
            ("compute_id".to_owned(), json!(self.tracker.node_id().await)),
            ("task_state".to_owned(), json!(TaskState::ResizeMigrated)),
        ]));
        self.save(context, instance, Value::Object(fields), Expected::task(TaskState::ResizeMigrating)).await
    }

    /// The instance has its old container and its old flavor, and runs if it ran before the resize. It is in ERROR only if it
    /// cannot be brought back to that.
    pub(super) async fn undo_resize(
        &self,
        context: &Context,
        instance: &Instance,
        migration: &mut Migration,
        error: Error,
    ) -> Error {
        let Ok(uuid) = crate::compute::arguments::instance_uuid(instance) else { return error };
        let restored = async {
            self.driver.restore(uuid).await?;
            if was_on(instance) && !error.is_gone() {
                self.power_on(context, uuid).await?;
            }
            self.power_state(uuid).await
        }
        .await;
        self.give_up_migration(context, uuid, migration).await;
        if error.is_gone() {
            return error;
        }
        let (power_state, cleanup) = match restored {
            Ok(state) => (Some(state), None),
            Err(cleanup) => (None, Some(cleanup)),
        };
        let mut fields = self.old_flavor_fields(instance);
        fields.extend(power_state.map(|state| ("power_state".to_owned(), json!(state))));
        let vm_state = match (&cleanup, was_on(instance)) {
            (Some(_), _) => VmState::Error,
            (None, true) => VmState::Active,
            (None, false) => VmState::Stopped,
        };
        fields.insert("vm_state".to_owned(), json!(vm_state));
        self.set_state(context, uuid, Value::Object(fields), &still(instance.task_state()).or_no_task()).await;
        if let Some(usage) = self.usage_of_old_flavor(instance) {
            self.tracker.claim(uuid, usage).await;
        }
        match cleanup {
            None => {
                info!("the instance is as it was before the resize");
                error
            }
            Some(cleanup) => Error::Cleanup { error: Box::new(error), cleanup: cleanup.to_string() },
        }
    }

    /// What makes the record the one from before the resize.
    pub(super) fn old_flavor_fields(&self, instance: &Instance) -> Map<String, Value> {
        let mut metadata = instance.system_metadata();
        metadata.remove(OLD_VM_STATE);
        let mut fields = match old_flavor(instance) {
            Some(old) => super::request::flavor_fields(&old, Value::Null, Value::Null),
            None => Map::new(),
        };
        fields.insert("system_metadata".to_owned(), json!(metadata));
        fields
    }

    fn usage_of_old_flavor(&self, instance: &Instance) -> Option<Usage> {
        let old = old_flavor(instance)?;
        let mut instance = instance.clone();
        instance.set("flavor", old.to_value());
        Usage::of(&instance)
    }
}

/// The flavor from before the resize; the one that it has where the resize did not come so far.
fn old_flavor(instance: &Instance) -> Option<Flavor> {
    instance.old_flavor().or_else(|| instance.flavor())
}

/// Whether the container can be had with another flavor.
fn check(instance: &Instance, flavor: &Flavor, image: &Value, compute_id: Uuid) -> Result<(), Error> {
    let mut resized = instance.clone();
    resized.set("flavor", flavor.to_value());
    guest(&resized, image, compute_id).map(drop)
}
