//! Instances that were on their way to this host when the agent ended, from a launch or from the shelf: the scheduler has claimed their
//! place here, and their request may be lost before it made them this host's. Then nobody else knows of them.

use serde_json::{Map, json};
use tracing::info;
use uuid::Uuid;

use super::not_begun::{Fate, LAUNCH};
use crate::compute::{
    Compute,
    arguments::instance_uuid,
    error::Error,
    instance::{build, unshelve},
};
use crate::{
    cloud::Caller,
    messaging::Context,
    objects::{Expected, Instance, TaskState, VmState},
};

/// On its way to a host, and no host has taken it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unclaimed {
    Launch,
    Unshelving,
}

impl Unclaimed {
    const ALL: [Self; 2] = [Self::Launch, Self::Unshelving];

    fn of(instance: &Instance) -> Option<Self> {
        let states = (instance.vm_state()?, instance.task_state()?);
        Self::ALL.into_iter().find(|way| instance.host().is_none() && way.states() == states)
    }

    const fn states(self) -> (VmState, TaskState) {
        match self {
            Self::Launch => (VmState::Building, TaskState::Scheduling),
            Self::Unshelving => (VmState::ShelvedOffloaded, TaskState::Unshelving),
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Launch => LAUNCH,
            Self::Unshelving => "unshelve",
        }
    }

    const fn event(self) -> &'static str {
        match self {
            Self::Launch => build::EVENT,
            Self::Unshelving => unshelve::EVENT,
        }
    }

    /// Where it is left, when its request is lost.
    const fn end(self) -> VmState {
        match self {
            // No host asks another one any more.
            Self::Launch => VmState::Error,
            Self::Unshelving => VmState::ShelvedOffloaded,
        }
    }

    fn fault(self, uuid: Uuid) -> Error {
        match self {
            Self::Launch => build::cut_short(),
            Self::Unshelving => unshelve::cut_short(uuid),
        }
    }
}

impl Compute {
    /// Instances that are on their way to any host.
    pub(super) async fn find_unclaimed(&self) -> Result<Vec<Uuid>, Error> {
        let mut uuids = Vec::new();
        for (vm_state, task) in Unclaimed::ALL.map(Unclaimed::states) {
            let filters = Map::from_iter([
                ("vm_state".to_owned(), json!(vm_state)),
                ("task_state".to_owned(), json!(task)),
                ("deleted".to_owned(), json!(false)),
            ]);
            let found = self.conductor.instances_by_filters(&Context::admin(), filters, &[]).await?;
            for instance in found.iter().filter(|instance| Unclaimed::of(instance).is_some()) {
                uuids.push(instance_uuid(instance)?);
            }
        }
        Ok(uuids)
    }

    /// Ends the way of an instance whose request is lost. Whether nothing is to be done for it any more.
    pub(super) async fn settle_unclaimed(&self, instance: &Instance) -> Result<bool, Error> {
        let uuid = instance_uuid(instance)?;
        let Some(way) = Unclaimed::of(instance) else { return Ok(true) };
        if self.arrivals.has_begun(uuid) {
            return Ok(true);
        }
        let held = self.cloud.placement.provider_allocations(&Caller::own(), self.compute_id).await?;
        if !held.allocations.contains_key(&uuid) {
            // Another host's, or the scheduler chooses yet; then its request comes to us as to any host.
            return Ok(true);
        }
        let context = Context::admin();
        match self.fate_of_task(&context, uuid, &[way.action()]).await? {
            Fate::GivenUp => self.end_unclaimed(&context, uuid, way).await.map(|()| true),
            Fate::Left => Ok(true),
            Fate::Awaited => Ok(false),
        }
    }

    async fn end_unclaimed(&self, context: &Context, uuid: Uuid, way: Unclaimed) -> Result<(), Error> {
        {
            let _lock = self.locks.lock(uuid).await;
            let mut instance = self.conductor.instance(context, &uuid.to_string(), &[]).await?;
            if Unclaimed::of(&instance) != Some(way) || self.arrivals.has_begun(uuid) {
                return Ok(());
            }
            info!(instance = %uuid, ?way, "its way here was cut short before it was this host's");
            let error = way.fault(uuid);
            let (_, task) = way.states();
            self.record_fault(context, uuid, &error).await;
            let state = json!({"vm_state": way.end(), "task_state": null});
            self.save(context, &mut instance, state, Expected::task(task)).await?;
            self.finish_event(context, uuid, way.event(), Some(&error)).await;
        }
        // Last: until the state is saved what it holds here is how the next start knows it, and later the audit takes it.
        self.take_from_homeless(uuid).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn only_what_no_host_has_taken_is_on_its_way() {
        let of = |host: Value, vm_state: VmState, task: TaskState| {
            let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
            instance.set("host", host);
            instance.set("vm_state", json!(vm_state));
            instance.set("task_state", json!(task));
            Unclaimed::of(&instance)
        };
        for way in Unclaimed::ALL {
            let (vm_state, task) = way.states();
            assert_eq!(of(Value::Null, vm_state, task), Some(way));
            assert_eq!(of(json!("another"), vm_state, task), None);
            assert_eq!(of(Value::Null, vm_state, TaskState::Deleting), None);
        }
        assert_eq!(of(Value::Null, VmState::Building, TaskState::Unshelving), None);
        assert_eq!(of(Value::Null, VmState::Building, TaskState::Networking), None, "a host has it");
    }
}
