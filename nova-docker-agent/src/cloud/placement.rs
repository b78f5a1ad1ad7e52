//! Placement: resource providers, inventories, traits, allocations.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Caller, Error, ServiceConfig, Session};

/// Client of placement.
#[derive(Clone)]
pub struct Placement {}

/// A row of `/resource_providers`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ResourceProvider {
    pub uuid: Uuid,
    pub name: String,
    pub generation: i64,
    #[serde(default)]
    pub parent_provider_uuid: Option<Uuid>,
    #[serde(default)]
    pub root_provider_uuid: Option<Uuid>,
}

/// One resource class of a provider.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Inventory {
    pub total: u64,
    #[serde(default)]
    pub reserved: u64,
    #[serde(default = "one")]
    pub min_unit: u64,
    #[serde(default = "max_unit")]
    pub max_unit: u64,
    #[serde(default = "one")]
    pub step_size: u64,
    #[serde(default = "ratio")]
    pub allocation_ratio: f64,
}

fn one() -> u64 {
    1
}
fn max_unit() -> u64 {
    i32::MAX as u64
}
fn ratio() -> f64 {
    1.0
}

/// All inventories of a provider: resource class (`VCPU`, `MEMORY_MB`, `DISK_GB`, ...) to inventory.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Inventories {
    #[serde(rename = "resource_provider_generation")]
    pub generation: i64,
    pub inventories: BTreeMap<String, Inventory>,
}

/// All traits of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Traits {
    #[serde(rename = "resource_provider_generation")]
    pub generation: i64,
    pub traits: BTreeSet<String>,
}

/// What a consumer holds of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Allocation {
    /// Resource class to amount.
    pub resources: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
}

/// What a consumer (an instance or a migration) holds; empty when it holds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ConsumerAllocations {
    /// Provider to what is held of it.
    pub allocations: BTreeMap<Uuid, Allocation>,
    #[serde(default)]
    pub consumer_generation: Option<i64>,
    #[serde(default)]
    pub project_id: Option<String>,
    #[serde(default)]
    pub user_id: Option<String>,
}

/// Who holds something of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ProviderAllocations {
    #[serde(rename = "resource_provider_generation")]
    pub generation: i64,
    /// Consumer to what it holds.
    pub allocations: BTreeMap<Uuid, Allocation>,
}

impl Placement {
    pub fn new(_session: Option<Session>, _service: Option<Session>, _config: &ServiceConfig) -> Result<Self, Error> {
        todo!()
    }

    /// The providers of the tree that `uuid` is in; empty when it is not known.
    pub async fn provider_tree(&self, _caller: &Caller, _uuid: Uuid) -> Result<Vec<ResourceProvider>, Error> {
        todo!()
    }

    /// Registers a root provider.
    ///
    /// # Errors
    /// A conflict (409) when another provider has this name: an operator must clean up.
    pub async fn create_provider(&self, _caller: &Caller, _uuid: Uuid, _name: &str) -> Result<ResourceProvider, Error> {
        todo!()
    }

    pub async fn inventories(&self, _caller: &Caller, _uuid: Uuid) -> Result<Inventories, Error> {
        todo!()
    }

    /// Replaces all inventories. A generation conflict is answered by re-reading and sending again, at most four times.
    ///
    /// # Errors
    /// [`Error::Refused`] with code `placement.inventory.inuse` when a class that has allocations would vanish.
    pub async fn set_inventories(
        &self,
        _caller: &Caller,
        _uuid: Uuid,
        _generation: i64,
        _inventories: &BTreeMap<String, Inventory>,
    ) -> Result<Inventories, Error> {
        todo!()
    }

    pub async fn traits(&self, _caller: &Caller, _uuid: Uuid) -> Result<Traits, Error> {
        todo!()
    }

    /// Makes sure that placement knows the traits: creates `CUSTOM_*` ones that are missing and returns the standard ones that this
    /// placement does not know (they cannot be created, and must not be set).
    pub async fn ensure_traits(&self, _caller: &Caller, _names: &[&str]) -> Result<BTreeSet<String>, Error> {
        todo!()
    }

    /// Sets, among the traits in `owned`, exactly those in `wanted`; every other trait of the provider stays. Writes only when something changes.
    pub async fn set_traits(
        &self,
        _caller: &Caller,
        _uuid: Uuid,
        _owned: &[&str],
        _wanted: &[&str],
    ) -> Result<Traits, Error> {
        todo!()
    }

    /// What a consumer holds.
    pub async fn allocations(&self, _caller: &Caller, _consumer: Uuid) -> Result<ConsumerAllocations, Error> {
        todo!()
    }

    /// Drops everything that a consumer holds; whether it held anything.
    pub async fn delete_allocations(&self, _caller: &Caller, _consumer: Uuid) -> Result<bool, Error> {
        todo!()
    }

    /// Drops what a consumer held when `seen` was read; a conflict when it has changed since (`false`: it is somebody else's now).
    pub async fn clear_allocations(
        &self,
        _caller: &Caller,
        _consumer: Uuid,
        _seen: &ConsumerAllocations,
    ) -> Result<bool, Error> {
        todo!()
    }

    /// Everybody who holds something of a provider.
    pub async fn provider_allocations(&self, _caller: &Caller, _uuid: Uuid) -> Result<ProviderAllocations, Error> {
        todo!()
    }
}
