//! Stop, start, reboot, pause, unpause.

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    instance::guest::{guest, kept_image, power_state},
    instance::image::described,
    operation::Method,
    ports::interfaces::usable_interfaces,
    reconcile::recovery::still,
};
use crate::{
    guest::Guest,
    limits::StopTimeout,
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

/// What says what a container is to be.
const ASKED_ATTRS: &[&str] = &["metadata", "system_metadata", "flavor"];

/// Of a stop, whoever asks for it.
pub(in crate::compute) const STOP: Duties<'static> = Duties::of("compute_stop_instance", &[TaskState::PoweringOff]);

/// `start_instance`.
pub(in crate::compute) struct Start {
    instance: Instance,
}

impl Method for Start {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.start(context, self.instance).await.map(|()| Value::Null)
    }
}

/// `stop_instance`.
pub(in crate::compute) struct Stop {
    instance: Instance,
    /// The guest has time to end by itself.
    clean: bool,
}

impl Method for Stop {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let clean = arguments.flag("clean_shutdown", true);
        Ok(Self { clean, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.stop(context, self.instance, self.clean).await.map(|()| Value::Null)
    }
}

/// `reboot_instance`.
pub(in crate::compute) struct Reboot {
    instance: Instance,
    pub(in crate::compute) hard: bool,
}

impl Method for Reboot {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let hard = arguments.get("reboot_type").and_then(Value::as_str) == Some("HARD");
        Ok(Self { hard, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.reboot(context, self.instance, self.hard).await.map(|()| Value::Null)
    }
}

/// `pause_instance`.
pub(in crate::compute) struct Pause {
    instance: Instance,
}

impl Method for Pause {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.pause(context, self.instance).await.map(|()| Value::Null)
    }
}

/// `unpause_instance`.
pub(in crate::compute) struct Unpause {
    instance: Instance,
}

impl Method for Unpause {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.unpause(context, self.instance).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// Stops the container; `clean` gives it time to end by itself.
    pub(in crate::compute) async fn stop(
        &self,
        context: &Context,
        mut instance: Instance,
        clean: bool,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, STOP, async {
            if !self.take_up(context, &mut instance, TaskState::PoweringOff).await? {
                return Ok(());
            }
            self.stop_locked(context, &mut instance, clean).await
        })
        .await
    }

    /// The stop itself, with the instance's lock held and its task recorded.
    pub(in crate::compute) async fn stop_locked(
        &self,
        context: &Context,
        instance: &mut Instance,
        clean: bool,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let timeout = if clean { self.stop_timeout(instance) } else { StopTimeout::KILL };
        self.driver.stop(uuid, timeout).await?;
        let state =
            json!({"power_state": self.power_state(uuid).await?, "vm_state": VmState::Stopped, "task_state": null});
        self.save(context, instance, state, Expected::task(TaskState::PoweringOff)).await
    }

    /// Starts the container of a stopped instance.
    pub(in crate::compute) async fn start(&self, context: &Context, mut instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_start_instance", &[TaskState::PoweringOn]), async {
            if !self.take_up(context, &mut instance, TaskState::PoweringOn).await? {
                return Ok(());
            }
            self.power_on(context, uuid).await?;
            let state =
                json!({"power_state": self.power_state(uuid).await?, "vm_state": VmState::Active, "task_state": null});
            self.save(context, &mut instance, state, Expected::task(TaskState::PoweringOn)).await?;
            self.forget_shelved_image(context, uuid).await;
            Ok(())
        })
        .await
    }

    /// Stops and starts the container: its files stay, its processes do not.
    pub(in crate::compute) async fn reboot(
        &self,
        context: &Context,
        mut instance: Instance,
        hard: bool,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        let tasks = if hard {
            [TaskState::RebootingHard, TaskState::RebootPendingHard, TaskState::RebootStartedHard]
        } else {
            [TaskState::Rebooting, TaskState::RebootPending, TaskState::RebootStarted]
        };
        let [_, pending, started] = tasks;
        self.operate(context, uuid, Duties::of("compute_reboot_instance", &tasks), async {
            if !self.take_up(context, &mut instance, pending).await? {
                return Ok(());
            }
            // With a mistake in it the container is not touched.
            let asked = if hard { self.asked_now(context, uuid).await? } else { None };
            let state = json!({"power_state": self.power_state(uuid).await?, "task_state": started});
            self.save(context, &mut instance, state, Expected::before(started)).await?;
            let timeout = if hard { StopTimeout::KILL } else { self.stop_timeout(&instance) };
            if instance.vm_state() == Some(VmState::Error) {
                self.driver.tidy(uuid).await?;
            }
            let rebooted = Box::pin(self.restart_guest(context, uuid, timeout, asked)).await;
            self.after_reboot(context, &mut instance, rebooted).await
        })
        .await
    }

    /// As it is, or as `asked`.
    async fn restart_guest(
        &self,
        context: &Context,
        uuid: Uuid,
        timeout: StopTimeout,
        asked: Option<Guest>,
    ) -> Result<(), Error> {
        self.end_first_run(uuid);
        let network = self.network_to_start(context, uuid).await?;
        self.give_again(context, uuid).await?;
        self.renew_links(uuid).await;
        let interfaces = usable_interfaces(&network, &self.host)?;
        let Some(guest) = asked else {
            if let Some(limit) = self.config.reboot_timeout {
                self.driver.stop_within(uuid, timeout, limit).await?;
            }
            return Ok(self.driver.reboot(uuid, timeout, &interfaces).await?);
        };
        self.driver.reboot_as(&guest, &interfaces).await?;
        Ok(())
    }

    /// What the container is to be by the instance's metadata of now. None when that cannot be known: then it stays what it is.
    async fn asked_now(&self, context: &Context, uuid: Uuid) -> Result<Option<Guest>, Error> {
        let instance = self.conductor.instance(context, &uuid.to_string(), ASKED_ATTRS).await?;
        let Some(image) = self.image_of(context, &instance).await else { return Ok(None) };
        let mut guest = guest(&instance, &image, self.compute_id)?;
        self.link_what_is_there(&mut guest).await?;
        self.keep_config_drive(&instance, &image, &mut guest);
        Ok(Some(guest))
    }

    /// The image as Nova keeps it with the instance. It cuts long properties, which Glance still has, if it has the image.
    async fn image_of(&self, context: &Context, instance: &Instance) -> Option<Value> {
        if let Some(image) = kept_image(instance) {
            return Some(image);
        }
        let id = instance.image_ref().and_then(|id| Uuid::parse_str(id).ok())?;
        match self.cloud.glance.image(&self.caller(context), id).await {
            Ok(image) => Some(described(&image)),
            Err(error) => {
                warn!(%error, "the container stays as it was made: Nova has cut properties of the image, and the image cannot be read");
                None
            }
        }
    }

    /// After a failed reboot the instance has its container's state: active if it runs, else error.
    async fn after_reboot(
        &self,
        context: &Context,
        instance: &mut Instance,
        rebooted: Result<(), Error>,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let now = self.power_state(uuid).await;
        let vm_state = match (&rebooted, &now) {
            (Ok(()), _) | (Err(_), Ok(PowerState::Running)) => VmState::Active,
            (Err(_), _) => VmState::Error,
        };
        let state =
            json!({"power_state": now.unwrap_or(PowerState::NoState), "vm_state": vm_state, "task_state": null});
        // Its user may have asked for a hard reboot meanwhile, which has a task of its own.
        let started = still(instance.task_state()).or_no_task();
        match self.save(context, instance, state, started).await {
            Err(error) if error.is_gone() => Err(error),
            Err(error) if error.is_unexpected_task_state() => rebooted,
            saved => rebooted.and(saved),
        }
    }

    /// Freezes the container's processes.
    pub(in crate::compute) async fn pause(&self, context: &Context, mut instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_pause_instance", &[TaskState::Pausing]), async {
            if !self.take_up(context, &mut instance, TaskState::Pausing).await? {
                return Ok(());
            }
            self.driver.pause(uuid).await?;
            let state =
                json!({"power_state": self.power_state(uuid).await?, "vm_state": VmState::Paused, "task_state": null});
            self.save(context, &mut instance, state, Expected::task(TaskState::Pausing)).await
        })
        .await
    }

    /// Lets the container's processes go on.
    pub(in crate::compute) async fn unpause(&self, context: &Context, mut instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_unpause_instance", &[TaskState::Unpausing]), async {
            if !self.take_up(context, &mut instance, TaskState::Unpausing).await? {
                return Ok(());
            }
            self.driver.unpause(uuid).await?;
            let state =
                json!({"power_state": self.power_state(uuid).await?, "vm_state": VmState::Active, "task_state": null});
            self.save(context, &mut instance, state, Expected::task(TaskState::Unpausing)).await
        })
        .await
    }

    /// Plugs what is not plugged (the host may have been restarted) and starts the container.
    pub(in crate::compute) async fn power_on(&self, context: &Context, uuid: Uuid) -> Result<(), Error> {
        self.end_first_run(uuid);
        let network = self.network_to_start(context, uuid).await?;
        self.give_again(context, uuid).await?;
        self.renew_links(uuid).await;
        Ok(self.driver.power_on(uuid, &usable_interfaces(&network, &self.host)?).await?)
    }

    /// Reads the instance's configs and secrets from Nova, where a restart of the host has taken them.
    pub(in crate::compute) async fn give_again(&self, context: &Context, uuid: Uuid) -> Result<(), Error> {
        if !self.driver.lacks_given(uuid).await? {
            return Ok(());
        }
        let instance = self.conductor.instance(context, &uuid.to_string(), &[]).await?;
        Ok(self.driver.give_again(uuid, instance.user_data().unwrap_or_default()).await?)
    }

    /// Nova's power state of the container.
    pub(in crate::compute) async fn power_state(&self, uuid: Uuid) -> Result<PowerState, Error> {
        let state = self.driver.power_state(uuid).await?;
        Ok(power_state(state.as_ref()))
    }

    /// Image property `os_shutdown_timeout`, or the host's default.
    pub(in crate::compute) fn stop_timeout(&self, instance: &Instance) -> StopTimeout {
        let metadata = instance.system_metadata();
        let of_image = metadata.get("image_os_shutdown_timeout").and_then(|text| StopTimeout::of_property(text));
        of_image.unwrap_or_else(|| StopTimeout::of_operator(self.config.shutdown_timeout))
    }
}
