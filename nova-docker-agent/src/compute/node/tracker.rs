//! The resource tracker: keeps the compute node's record in step with the host and its instances.

use std::time::Instant;

use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, Notify};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::compute::{
    arguments::instance_uuid,
    error::Error,
    migration::of_migrations,
    node::usage::{Usage, Usages, node_fields},
};
use crate::{
    conductor::Conductor,
    config::Config,
    guest::HostResources,
    messaging::Context,
    objects::{ComputeNode, Instance, Object},
};

/// What the audit needs of each instance.
const INSTANCE_ATTRS: &[&str] = &["system_metadata", "flavor"];

/// The node's record and the usages behind it.
pub(crate) struct ResourceTracker {
    state: Mutex<State>,
    /// Something changed that is not saved yet. Many changes in a row make one save.
    dirty: Notify,
}

struct State {
    /// The row, with the values that the database has.
    node: ComputeNode,
    host: HostResources,
    usages: Usages,
    /// Claims and releases, newest last; an audit that began earlier has not seen them and replays them.
    journal: Vec<(Instant, Uuid, Option<Usage>)>,
}

/// The node that a tracker looks after.
pub(crate) struct NodeNames<'a> {
    pub host: &'a str,
    pub node: &'a str,
    pub uuid: Uuid,
    pub service_id: i64,
}

impl ResourceTracker {
    /// Finds the compute node's row, or creates it.
    ///
    /// # Errors
    /// The row belongs to another host or has another name, or conductor refuses.
    pub async fn start(
        conductor: &Conductor,
        config: &Config,
        names: &NodeNames<'_>,
        host: HostResources,
    ) -> Result<Self, Error> {
        let context = Context::admin();
        let mut usages = Usages::default();
        let node = match conductor.compute_node_by_uuid(&context, &names.uuid.to_string()).await? {
            Some(node) => {
                check_names(&node, names)?;
                usages.failed_builds = failed_builds(&node);
                node
            }
            None => create_node(conductor, &context, config, names, &host).await?,
        };
        let state = State { node, host, usages, journal: Vec::new() };
        Ok(Self { state: Mutex::new(state), dirty: Notify::new() })
    }

    /// Database id of the compute node, for `Instance.compute_id`.
    pub async fn node_id(&self) -> Option<i64> {
        self.state.lock().await.node.int("id")
    }

    /// Counts an instance in. The scheduler has claimed its resources in placement already.
    pub async fn claim(&self, uuid: Uuid, usage: Usage) {
        self.change(uuid, Some(usage)).await;
    }

    /// Counts an instance out.
    pub async fn release(&self, uuid: Uuid) {
        self.change(uuid, None).await;
    }

    async fn change(&self, uuid: Uuid, usage: Option<Usage>) {
        let mut state = self.state.lock().await;
        state.journal.push((Instant::now(), uuid, usage.clone()));
        state.usages.apply(uuid, usage);
        self.dirty.notify_one();
    }

    /// A host whose builds fail is chosen last; one success clears its name.
    pub async fn build_ended(&self, succeeded: bool) {
        if self.state.lock().await.usages.count_build(succeeded) {
            self.dirty.notify_one();
        }
    }

    /// Saves what changes, as it changes; runs until it is dropped.
    pub async fn keep_saved(&self, conductor: &Conductor, config: &Config) {
        loop {
            self.dirty.notified().await;
            if let Err(error) = self.save(conductor, config).await {
                // The next audit tries again.
                warn!(%error, "cannot save the compute node's usage");
            }
        }
    }

    /// Re-reads host and instances and saves what differs. Returns the instances for others to look at.
    ///
    /// # Errors
    /// Conductor did not answer, or refused.
    pub async fn audit(
        &self,
        conductor: &Conductor,
        config: &Config,
        host: HostResources,
        names: (&str, &str),
    ) -> Result<Vec<Instance>, Error> {
        let began = Instant::now();
        let context = Context::admin();
        let (instances, migrations) = tokio::try_join!(
            conductor.instances_by_host_and_node(&context, names.0, names.1, INSTANCE_ATTRS),
            conductor.migrations_in_progress(&context, names.0, names.1),
        )?;
        {
            let mut state = self.state.lock().await;
            state.host = host;
            state.usages.instances = instances
                .iter()
                .filter_map(|instance| Some((instance_uuid(instance).ok()?, Usage::of(instance)?)))
                .chain(of_migrations(&migrations, &instances))
                .collect();
            state.journal.retain(|(at, _, _)| *at >= began);
            let missed = state.journal.clone();
            for (_, uuid, usage) in missed {
                state.usages.apply(uuid, usage);
            }
        }
        self.save(conductor, config).await?;
        Ok(instances)
    }

    async fn save(&self, conductor: &Conductor, config: &Config) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        let wanted = node_fields(config, &state.host, &state.usages);
        let changed: Map<String, Value> =
            wanted.into_iter().filter(|(field, value)| state.node.get(field) != Some(value)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        debug!(?changed, "saving the compute node");
        let mut slim = ComputeNode::empty();
        if let Some(id) = state.node.get("id") {
            slim.data.insert("id".to_owned(), id.clone());
        }
        for (field, value) in &changed {
            slim.set(field, value.clone());
        }
        conductor.save_compute_node(&Context::admin(), &mut slim).await?;
        // What we sent, not the reply: the reply may write numbers differently, and every audit would save again.
        state.node.data.extend(changed);
        Ok(())
    }
}

impl Usages {
    /// Whether that changed anything.
    fn count_build(&mut self, succeeded: bool) -> bool {
        let failed = if succeeded { 0 } else { self.failed_builds.saturating_add(1) };
        std::mem::replace(&mut self.failed_builds, failed) != failed
    }

    fn apply(&mut self, uuid: Uuid, usage: Option<Usage>) {
        match usage {
            Some(usage) => self.instances.insert(uuid, usage),
            None => self.instances.remove(&uuid),
        };
    }
}

/// A renamed host would orphan its instances and its placement provider.
fn check_names(node: &ComputeNode, names: &NodeNames<'_>) -> Result<(), Error> {
    for (field, ours) in [("host", names.host), ("hypervisor_hostname", names.node)] {
        let theirs = node.str(field).unwrap_or_default();
        if theirs != ours {
            return Err(Error::exception(
                "InvalidConfiguration",
                format!(
                    "compute node {} is registered with {field} {theirs:?}, and this agent is configured with {ours:?}; \
                     set [DEFAULT] host back, a compute node cannot be renamed",
                    names.uuid
                ),
                Value::Null,
            ));
        }
    }
    Ok(())
}

fn failed_builds(node: &ComputeNode) -> u64 {
    node.get("stats")
        .and_then(|stats| stats.get("failed_builds"))
        .and_then(Value::as_str)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

async fn create_node(
    conductor: &Conductor,
    context: &Context,
    config: &Config,
    names: &NodeNames<'_>,
    host: &HostResources,
) -> Result<ComputeNode, Error> {
    let mut node = ComputeNode::empty();
    node.set("uuid", names.uuid.to_string());
    node.set("service_id", names.service_id);
    node.set("host", names.host);
    node.set("hypervisor_hostname", names.node);
    node.set("supported_hv_specs", supported_hv_specs(&host.arch));
    for (field, value) in node_fields(config, host, &Usages::default()) {
        node.set(&field, value);
    }
    let ratios = [
        ("cpu_allocation_ratio", config.cpu_allocation_ratio.unwrap_or(config.initial_cpu_allocation_ratio)),
        ("ram_allocation_ratio", config.ram_allocation_ratio.unwrap_or(config.initial_ram_allocation_ratio)),
        ("disk_allocation_ratio", config.disk_allocation_ratio.unwrap_or(config.initial_disk_allocation_ratio)),
    ];
    for (field, ratio) in ratios {
        node.set(field, ratio);
    }
    conductor.create_compute_node(context, &mut node).await?;
    info!(node = names.node, uuid = %names.uuid, "registered the compute node");
    Ok(node)
}

/// Images with `img_hv_type=docker` come here, and those for other hypervisors stay away.
fn supported_hv_specs(arch: &str) -> Value {
    let mut spec = Object::new("HVSpec", "1.2");
    spec.set("arch", arch);
    spec.set("hv_type", "docker");
    spec.set("vm_mode", "exe");
    json!([spec.to_value()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_builds_in_a_row_are_counted_until_one_succeeds_over_a_restart_too() {
        let mut usages = Usages::default();
        assert!(!usages.count_build(true), "nothing to save");
        assert!(usages.count_build(false) && usages.count_build(false));
        let mut node = ComputeNode::empty();
        node.set("stats", Value::Object(usages.stats()));
        assert_eq!(failed_builds(&node), 2);
        assert!(usages.count_build(true));
        assert_eq!(usages.failed_builds, 0);
    }
}
