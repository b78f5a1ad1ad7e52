//! This host in placement: one resource provider, its inventories, its traits, and allocations that nobody owns any more.

use std::collections::BTreeMap;

use serde_json::json;
use tracing::{info, warn};

use crate::compute::{Compute, error::Error, node::usage::reserved_disk_gb};
use crate::{
    cloud::{Caller, placement::Inventory},
    config::Config,
    guest::HostResources,
};

/// From this service version on the scheduler asks for `OWNER_NOVA`.
const OWNER_NOVA_SINCE: i64 = 73;
/// Traits that are ours to set and to remove; all others on the provider belong to somebody else.
const OWNED_TRAITS: &[&str] = &[
    "COMPUTE_NODE",
    "COMPUTE_DEVICE_TAGGING",
    "COMPUTE_IMAGE_TYPE_RAW",
    ATTACH_INTERFACE,
    "COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG",
    "COMPUTE_STATUS_DISABLED",
    "OWNER_NOVA",
    "CUSTOM_HV_DOCKER",
];
const ATTACH_INTERFACE: &str = "COMPUTE_NET_ATTACH_INTERFACE";

impl Compute {
    /// Registers the provider, unless it is known, and brings inventories and traits up to date.
    ///
    /// # Errors
    /// Placement does not answer or refuses; another provider has this node's name.
    pub(in crate::compute) async fn sync_provider(&self, host: &HostResources, disabled: bool) -> Result<(), Error> {
        let caller = Caller::own();
        let tree = self.cloud.placement.provider_tree(&caller, self.compute_id).await?;
        if tree.is_empty() {
            self.create_provider(&caller).await?;
        }
        self.sync_inventories(&caller, host).await?;
        self.sync_traits(&caller, disabled).await
    }

    async fn create_provider(&self, caller: &Caller) -> Result<(), Error> {
        match self.cloud.placement.create_provider(caller, self.compute_id, &self.node).await {
            Ok(_) => {
                info!(provider = %self.compute_id, name = %self.node, "registered the resource provider");
                Ok(())
            }
            Err(error) if error.is_conflict() => Err(Error::exception(
                "ResourceProviderCreationFailed",
                format!(
                    "placement has another resource provider named {:?}: left by an earlier compute service of this host; \
                     remove it (openstack resource provider delete) once it has no allocations ({error})",
                    self.node
                ),
                json!({"name": self.node}),
            )),
            Err(error) => Err(error.into()),
        }
    }

    async fn sync_inventories(&self, caller: &Caller, host: &HostResources) -> Result<(), Error> {
        let placement = &self.cloud.placement;
        let current = placement.inventories(caller, self.compute_id).await?;
        let wanted = inventories(&self.config, host, &current.inventories);
        if wanted != current.inventories {
            placement.set_inventories(caller, self.compute_id, current.generation, &wanted).await?;
            info!(?wanted, "reported the host's inventories");
        }
        Ok(())
    }

    /// Sets the traits of this host; `COMPUTE_STATUS_DISABLED` keeps the scheduler away.
    pub(in crate::compute) async fn sync_traits(&self, caller: &Caller, disabled: bool) -> Result<(), Error> {
        let mut wanted = vec![
            "COMPUTE_NODE",
            "COMPUTE_DEVICE_TAGGING",
            "COMPUTE_IMAGE_TYPE_RAW",
            ATTACH_INTERFACE,
            "COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG",
            "CUSTOM_HV_DOCKER",
        ];
        if disabled {
            wanted.push("COMPUTE_STATUS_DISABLED");
        }
        if self.service_version >= OWNER_NOVA_SINCE {
            wanted.push("OWNER_NOVA");
        }
        let unknown = self.cloud.placement.ensure_traits(caller, &wanted).await?;
        if unknown.contains("OWNER_NOVA") {
            warn!("placement does not know the trait OWNER_NOVA, which the scheduler may ask for: upgrade placement");
        }
        wanted.retain(|name| !unknown.contains(*name));
        self.cloud.placement.set_traits(caller, self.compute_id, OWNED_TRAITS, &wanted).await?;
        Ok(())
    }
}

/// Inventories of the host. A ratio that is not configured stays what an operator has set in placement.
fn inventories(
    config: &Config,
    host: &HostResources,
    current: &BTreeMap<String, Inventory>,
) -> BTreeMap<String, Inventory> {
    let inventory = |class: &str, total: u64, reserved: u64, configured: Option<f64>, initial: f64| {
        let kept = current.get(class).map(|inventory| inventory.allocation_ratio);
        let inventory = Inventory {
            total,
            reserved: reserved.min(total),
            min_unit: 1,
            max_unit: total,
            step_size: 1,
            allocation_ratio: configured.or(kept).unwrap_or(initial),
        };
        (class.to_owned(), inventory)
    };
    let rows = [
        inventory(
            "VCPU",
            u64::from(host.vcpus),
            config.reserved_host_cpus,
            config.cpu_allocation_ratio,
            config.initial_cpu_allocation_ratio,
        ),
        inventory(
            "MEMORY_MB",
            host.memory_mb,
            config.reserved_host_memory_mb,
            config.ram_allocation_ratio,
            config.initial_ram_allocation_ratio,
        ),
        inventory(
            "DISK_GB",
            host.disk_gb,
            reserved_disk_gb(config),
            config.disk_allocation_ratio,
            config.initial_disk_allocation_ratio,
        ),
    ];
    // Placement refuses an inventory of nothing.
    rows.into_iter().filter(|(_, inventory)| inventory.total > 0).collect()
}
