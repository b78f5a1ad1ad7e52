//! Containers that change by themselves: Nova is told what they are now.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tracing::{Instrument as _, Span, debug, info, info_span, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::instance_uuid,
    defect::caught,
    error::Error,
    instance::{guest::power_state, power::STOP, suspend::in_words_of},
    reconcile::periodic::spawn_until,
};
use crate::{
    conductor::unless_in_doubt,
    docker, driver,
    guest::{Event, EventKind},
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

/// How often a Docker that is away is asked again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Instances that are looked at at a time; a look is mostly waiting.
const AT_A_TIME: usize = 16;

/// What to do about an instance whose container is not what Nova thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Nothing,
    /// Only the power state is brought up to date.
    Record,
    /// The instance is stopped the way its user would: an action "stop", and vm_state `stopped`.
    Stop,
    /// The container is started again: only Docker's end was its end.
    Resume,
    /// There is no container any more: if Docker has removed it, the instance is in error, with the reason.
    Fail,
}

/// What came of a look at an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    Done,
    /// It has a task, which it is left to.
    HasTask,
}

/// Instances of which something is remembered until they are looked at.
#[derive(Debug, Default)]
pub(in crate::compute) struct Remembered(Mutex<HashSet<Uuid>>);

impl Remembered {
    pub(in crate::compute) fn insert(&self, uuid: Uuid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uuid);
    }

    /// Whether it was remembered; it is forgotten with that.
    pub(in crate::compute) fn take(&self, uuid: Uuid) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&uuid)
    }
}

/// Instances whose containers changed while they had a task that holds no lock, as a snapshot does: they are looked at when it has
/// ended.
#[derive(Debug, Default)]
pub(in crate::compute) struct PutOff {
    /// Each with whether its task has ended.
    instances: Mutex<HashMap<Uuid, bool>>,
    ended: Notify,
}

impl PutOff {
    fn add(&self, uuid: Uuid) {
        self.instances().insert(uuid, false);
    }

    fn forget(&self, uuid: Uuid) {
        self.instances().remove(&uuid);
    }

    /// An operation on the instance has ended.
    pub(in crate::compute) fn ended(&self, uuid: Uuid) {
        if let Some(is_due) = self.instances().get_mut(&uuid) {
            *is_due = true;
            self.ended.notify_one();
        }
    }

    /// Waits for instances whose tasks have ended.
    async fn due(&self) -> Vec<Uuid> {
        loop {
            self.ended.notified().await;
            let due: Vec<Uuid> = self.instances().extract_if(|_, is_due| *is_due).map(|(uuid, _)| uuid).collect();
            if !due.is_empty() {
                return due;
            }
        }
    }

    fn instances(&self) -> MutexGuard<'_, HashMap<Uuid, bool>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Instances that some turn looks at, or is about to: each once, and so many at a time, whatever the number of turns.
pub(in crate::compute) struct Syncs {
    queued: Mutex<HashSet<Uuid>>,
    slots: Semaphore,
}

impl Default for Syncs {
    fn default() -> Self {
        Self { queued: Mutex::default(), slots: Semaphore::new(AT_A_TIME) }
    }
}

impl Syncs {
    /// Looks at `instances`, but those that another turn has not done with: they are looked at there.
    async fn each<F: Future<Output = ()>>(self: &Arc<Self>, instances: Vec<Uuid>, look: impl Fn(Uuid) -> F) {
        let queued: Vec<Queued> = instances.into_iter().filter_map(|uuid| self.queue(uuid)).collect();
        let look = &look;
        let in_turn = |queued: Queued| async move {
            // A closed semaphore limits nobody.
            let _slot = queued.syncs.slots.acquire().await;
            look(queued.uuid).await;
        };
        stream::iter(queued).for_each_concurrent(AT_A_TIME, in_turn).await;
    }

    fn queue(self: &Arc<Self>, uuid: Uuid) -> Option<Queued> {
        let is_new = self.queued.lock().unwrap_or_else(PoisonError::into_inner).insert(uuid);
        is_new.then(|| Queued { syncs: self.clone(), uuid })
    }
}

/// An instance that waits for its look, or has it.
struct Queued {
    syncs: Arc<Syncs>,
    uuid: Uuid,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.syncs.queued.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.uuid);
    }
}

impl Compute {
    /// Looks at the instances that were put off; runs until it is dropped.
    pub(in crate::compute) async fn catch_up_with_containers(self: Arc<Self>) {
        loop {
            for uuid in self.put_off.due().await {
                let compute = self.clone();
                self.aside(async move { compute.sync_after_event(uuid).await });
            }
        }
    }

    /// Follows Docker's events; runs until it is dropped.
    pub(in crate::compute) async fn watch_containers(self: Arc<Self>) {
        // Containers may have ended while nobody watched; the first turn of the periodic task is minutes away.
        let compute = self.clone();
        let first_turn = async move {
            if let Err(error) = compute.sync_power_states().await {
                warn!(%error, "cannot bring the instances' power states up to date");
            }
        };
        self.aside(first_turn.instrument(info_span!("power_sync")));
        let mut events = pin!(self.driver.events());
        let mut docker_is_lost = false;
        while let Some(event) = events.next().await {
            debug!(?event, "event");
            let compute = self.clone();
            // Each in a task of its own: it may have to wait for the operation that caused the event.
            match event {
                Event::Guest { uuid, kind: EventKind::Health(_) | EventKind::ScriptEnded } => {
                    self.finding_changed(uuid)
                }
                Event::Guest { uuid, kind } => {
                    if kind == EventKind::Destroyed {
                        self.removals.insert(uuid);
                    }
                    // What a Docker that comes back has found is told before it is said to be back.
                    if docker_is_lost {
                        self.outages.insert(uuid);
                    }
                    self.aside(async move { compute.sync_after_event(uuid).await });
                }
                // What the schedulers should know now, not at the next turn of the clock.
                Event::DockerLost | Event::DockerBack => {
                    docker_is_lost = event == Event::DockerLost;
                    drop(tokio::spawn(async move { compute.audit_now().await }));
                }
            }
        }
    }

    /// The last events of a Docker that stops are about containers that it ends; what became of them it tells when it is
    /// back.
    async fn sync_after_event(&self, uuid: Uuid) {
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.sync_power_state(uuid).await {
            let docker_is_away =
                matches!(error, Error::Guest(driver::Error::Docker(docker::Error::Unavailable { .. })));
            warn!(%error, instance = %uuid, "cannot bring the instance's power state up to date");
            if !docker_is_away {
                return;
            }
            self.outages.insert(uuid);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// In a task of its own, which ends with the service.
    fn aside(&self, work: impl Future<Output = ()> + Send + 'static) {
        spawn_until(&self.tasks, &self.stopping, work.instrument(Span::current()));
    }

    /// Begins to look at every instance of the host, for events that were missed. Nobody waits for the end: an instance that takes
    /// long is left out of the next turn, and the others are looked at.
    pub(in crate::compute) async fn sync_power_states(self: &Arc<Self>) -> Result<(), Error> {
        let instances = self.conductor.instances_by_host(&Context::admin(), &self.host, &[]).await?;
        let idle = instances.iter().filter(|instance| instance.task_state().is_none());
        let idle: Vec<Uuid> = idle.map(instance_uuid).collect::<Result<_, _>>()?;
        let compute = self.clone();
        self.aside(async move {
            let compute = &compute;
            let look = |uuid| async move {
                if compute.locks.is_busy(uuid) || compute.recovering.is_busy(uuid) {
                    return;
                }
                if let Err(error) = compute.sync_power_state(uuid).await {
                    warn!(%error, instance = %uuid, "cannot bring the instance's power state up to date");
                }
            };
            compute.syncs.each(idle, look).await;
        });
        Ok(())
    }

    /// One instance. Waits for the operation under way; one that has a task is left to it. Where nobody can tell what has become of a
    /// change, and the agent stops, the instance's lock is free for what else waits for it.
    async fn sync_power_state(&self, uuid: Uuid) -> Result<(), Error> {
        unless_in_doubt(caught(self.sync_under_lock(uuid))).await.unwrap_or(Ok(()))
    }

    async fn sync_under_lock(&self, uuid: Uuid) -> Result<(), Error> {
        // What ran before a restart of the host may be about to be started.
        self.recovered(uuid).await;
        let _lock = self.locks.lock(uuid).await;
        // Before the look: a task that ends meanwhile is not missed.
        self.put_off.add(uuid);
        let looked = self.look_at(uuid).await;
        if !matches!(looked, Ok(Looked::HasTask)) {
            self.put_off.forget(uuid);
        }
        looked.map(drop)
    }

    async fn look_at(&self, uuid: Uuid) -> Result<Looked, Error> {
        let context = Context::admin();
        let attrs = &["system_metadata", "tags"];
        let mut instance = match self.conductor.instance(&context, &uuid.to_string(), attrs).await {
            Ok(instance) => instance,
            Err(error) if error.class() == Some("InstanceNotFound") => {
                self.outages.take(uuid);
                self.removals.take(uuid);
                return Ok(Looked::Done);
            }
            Err(error) => return Err(error.into()),
        };
        if !self.is_here(&instance) {
            self.outages.take(uuid);
            self.removals.take(uuid);
            return Ok(Looked::Done);
        }
        // Docker is asked once, for tags and state.
        let guest = self.driver.guest(uuid).await;
        if let Ok(guest) = &guest {
            // Before the rest: who sees that the server is down finds out how it ended.
            self.sync_state_tags(&instance, guest.as_ref()).await;
        }
        if instance.task_state().is_some() {
            self.outages.take(uuid);
            return Ok(Looked::HasTask);
        }
        self.put_off.forget(uuid);
        let guest = guest?;
        let actual = in_words_of(instance.vm_state(), power_state(guest.as_ref().map(|guest| &guest.state)));
        let recorded = instance.power_state().unwrap_or(PowerState::NoState);
        let is_lost = actual.is_down() && instance.vm_state() == Some(VmState::Active);
        let resumes =
            is_lost && (self.config.resume_guests_state_on_host_boot || self.driver.is_to_restart(uuid).await?);
        if resumes {
            // A Docker that is told to end takes no new connections, then ends its containers, and serves the old
            // connections meanwhile.
            self.driver.takes_connections().await?;
        }
        let (after_outage, was_removed) = (self.outages.take(uuid), self.removals.take(uuid));
        if is_lost && self.fail_short_first_run(&context, &mut instance, uuid).await? {
            return Ok(Looked::Done);
        }
        match decide(instance.vm_state(), recorded, actual, resumes && after_outage) {
            Decision::Nothing => {}
            Decision::Record => {
                self.save(&context, &mut instance, json!({"power_state": actual}), Expected::no_task()).await?;
            }
            Decision::Stop => {
                let vm_state = instance.vm_state();
                info!(instance = %uuid, ?vm_state, power_state = ?actual, "the container is not what Nova thinks; stopping it");
                self.stop_by_itself(&context, instance, actual, None).await?;
            }
            Decision::Resume => {
                info!(instance = %uuid, "starting the instance that was running before Docker was restarted");
                self.power_on(&context, uuid).await?;
            }
            // An empty Docker may be one whose disk is not mounted: then nothing is known of any instance.
            Decision::Fail if !was_removed => {
                warn!(instance = %uuid, "Docker has no container of the instance; it is left alone");
            }
            Decision::Fail => {
                warn!(instance = %uuid, "the container of the instance has vanished; setting the instance to error");
                let state = json!({"vm_state": VmState::Error, "power_state": PowerState::NoState});
                self.save(&context, &mut instance, state, Expected::no_task()).await?;
                self.record_fault(&context, uuid, &Error::Vanished).await;
            }
        }
        Ok(Looked::Done)
    }

    /// Stops an instance as its user would, with the instance's lock held. If there is a `reason` its event ends with that, and it
    /// is the instance's fault.
    pub(in crate::compute) async fn stop_by_itself(
        &self,
        context: &Context,
        mut instance: Instance,
        actual: PowerState,
        reason: Option<Error>,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let span = info_span!("power_sync", instance = %uuid, request_id = context.request_id());
        async {
            let stopping = json!({"task_state": TaskState::PoweringOff, "progress": 0, "power_state": actual});
            self.save(context, &mut instance, stopping, Expected::no_task()).await?;
            let uuid_text = uuid.to_string();
            if let Err(error) = self.conductor.action_start(context, &uuid_text, "stop").await {
                warn!(%error, "cannot record the stop as an action");
            }
            let stopped = async {
                self.stop_locked(context, &mut instance, true).await?;
                reason.map_or(Ok(()), Err)
            };
            self.operate(context, uuid, STOP, stopped).await
        }
        .instrument(span)
        .await
    }
}

/// Nova's table (`_sync_instance_power_state`), for instances without a task; but Nova says nothing of one that is not found. With
/// `resumes`, what ran when Docker went away runs again.
fn decide(vm_state: Option<VmState>, recorded: PowerState, actual: PowerState, resumes: bool) -> Decision {
    match vm_state {
        Some(VmState::Active | VmState::Stopped | VmState::Paused | VmState::Suspended)
            if actual == PowerState::NoState =>
        {
            Decision::Fail
        }
        Some(VmState::Active) if resumes && recorded == PowerState::Running && actual.is_down() => Decision::Resume,
        Some(VmState::Active | VmState::Paused) if actual.is_down() => Decision::Stop,
        Some(VmState::Stopped) if matches!(actual, PowerState::Running | PowerState::Paused) => Decision::Stop,
        _ if actual == recorded || actual == PowerState::NoState => Decision::Nothing,
        _ => Decision::Record,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_changed_while_an_instance_had_a_task_is_looked_at_when_that_has_ended() {
        let (put_off, one, other) = (PutOff::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        put_off.ended(one);
        put_off.add(one);
        put_off.add(other);
        assert!(futures::FutureExt::now_or_never(put_off.due()).is_none(), "it still has its task");
        put_off.ended(one);
        assert_eq!(put_off.due().await, [one]);
        put_off.ended(other);
        assert_eq!(put_off.due().await, [other]);
        assert!(put_off.instances().is_empty());
    }

    #[tokio::test]
    async fn turns_that_overlap_look_at_an_instance_once_and_at_no_more_at_a_time_than_one_turn() {
        let (syncs, looked, go_on) = (Arc::new(Syncs::default()), Mutex::new(Vec::new()), Semaphore::new(0));
        let instances = |count| (0..count).map(Uuid::from_u128).collect::<Vec<_>>();
        let (looked, go_on) = (&looked, &go_on);
        let look = |uuid| async move {
            looked.lock().unwrap().push(uuid);
            go_on.acquire().await.unwrap().forget();
        };
        let mut first = pin!(syncs.each(instances(20), look));
        let mut second = pin!(syncs.each(instances(40), look));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        assert_eq!(looked.lock().unwrap().len(), AT_A_TIME, "the second turn waits for the first one's looks");
        go_on.add_permits(80);
        tokio::join!(first, second);
        let mut all = looked.lock().unwrap().clone();
        all.sort_unstable();
        assert_eq!(all, instances(40));
        syncs.each(instances(1), look).await;
        assert_eq!(looked.lock().unwrap().len(), 41, "it is looked at again when it has been");
    }

    #[test]
    fn an_active_instance_whose_container_ended_is_stopped() {
        assert_eq!(decide(Some(VmState::Active), PowerState::Running, PowerState::Shutdown, false), Decision::Stop);
        assert_eq!(decide(Some(VmState::Active), PowerState::Running, PowerState::Crashed, false), Decision::Stop);
        assert_eq!(
            decide(Some(VmState::Active), PowerState::Shutdown, PowerState::Shutdown, false),
            Decision::Stop,
            "whatever was recorded"
        );
    }

    #[test]
    fn a_stopped_instance_that_somebody_started_behind_nova_is_stopped_again() {
        assert_eq!(decide(Some(VmState::Stopped), PowerState::Shutdown, PowerState::Running, false), Decision::Stop);
    }

    #[test]
    fn an_instance_whose_container_has_vanished_is_in_error_unless_it_may_have_none() {
        let decided = |vm_state, recorded| decide(Some(vm_state), recorded, PowerState::NoState, false);
        assert_eq!(decided(VmState::Active, PowerState::Running), Decision::Fail);
        assert_eq!(decided(VmState::Stopped, PowerState::Shutdown), Decision::Fail);
        assert_eq!(decided(VmState::Active, PowerState::NoState), Decision::Fail, "whatever was recorded");
        for vm_state in [VmState::Error, VmState::Building, VmState::SoftDelete, VmState::Shelved, VmState::Resized] {
            assert_eq!(decided(vm_state, PowerState::Running), Decision::Nothing, "{vm_state:?}");
        }
    }

    #[test]
    fn other_states_only_have_their_power_recorded() {
        assert_eq!(decide(Some(VmState::Error), PowerState::Running, PowerState::Shutdown, false), Decision::Record);
        assert_eq!(decide(Some(VmState::Active), PowerState::Running, PowerState::Paused, false), Decision::Record);
        assert_eq!(decide(Some(VmState::Active), PowerState::Running, PowerState::Running, false), Decision::Nothing);
    }

    #[test]
    fn a_suspended_instance_is_left_suspended_whatever_its_container_does() {
        use PowerState::{Running, Shutdown, Suspended};
        assert_eq!(decide(Some(VmState::Suspended), Suspended, Suspended, true), Decision::Nothing);
        for actual in [Running, Shutdown] {
            assert_eq!(decide(Some(VmState::Suspended), Suspended, actual, true), Decision::Record);
        }
    }

    #[test]
    fn only_what_was_running_when_docker_went_away_runs_again() {
        use PowerState::{Paused, Running, Shutdown};
        assert_eq!(decide(Some(VmState::Active), Running, Shutdown, true), Decision::Resume);
        assert_eq!(decide(Some(VmState::Active), Running, Running, true), Decision::Nothing);
        assert_eq!(decide(Some(VmState::Paused), Paused, Shutdown, true), Decision::Stop);
        assert_eq!(decide(Some(VmState::Stopped), Shutdown, Shutdown, true), Decision::Nothing);
    }
}
