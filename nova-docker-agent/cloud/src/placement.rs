//! Placement: resource providers, inventories, traits, allocations.

mod survey;

use std::collections::{BTreeMap, BTreeSet};

use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::client::{Call, Rest};
use super::{Caller, Error, ServiceConfig, Session};

/// How often a change is tried again after another writer was faster.
const CONFLICT_ATTEMPTS: u32 = 4;
/// Placement's code for "somebody else has changed the provider since".
const CONCURRENT_UPDATE: &str = "placement.concurrent_update";

/// Client of placement.
#[derive(Clone)]
pub struct Placement {
    rest: Rest,
}

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
    /// Makes the client; opens no connection.
    ///
    /// # Errors
    /// [`Error::Tls`] when a certificate or key file cannot be used.
    pub fn new(session: Option<Session>, service: Option<Session>, config: &ServiceConfig) -> Result<Self, Error> {
        Ok(Self { rest: Rest::new("placement", session, service, config)? })
    }

    /// The providers of the tree that `uuid` is in; empty when it is not known.
    ///
    /// # Errors
    /// [`Error`] of placement.
    pub async fn provider_tree(&self, caller: &Caller, uuid: Uuid) -> Result<Vec<ResourceProvider>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            resource_providers: Vec<ResourceProvider>,
        }
        let call = Call::get("/resource_providers").query(&[("in_tree", &uuid.to_string())]);
        Ok(self.json::<Answer>(caller, "1.14", call).await?.resource_providers)
    }

    /// Registers a root provider.
    ///
    /// # Errors
    /// A conflict (409) when another provider has this name: an operator must clean up.
    pub async fn create_provider(&self, caller: &Caller, uuid: Uuid, name: &str) -> Result<ResourceProvider, Error> {
        let call = Call::post("/resource_providers").json(&json!({ "uuid": uuid, "name": name }));
        self.json(caller, "1.20", call).await
    }

    /// # Errors
    /// [`Error`] of placement; 404 for an unknown provider.
    pub async fn inventories(&self, caller: &Caller, uuid: Uuid) -> Result<Inventories, Error> {
        self.json(caller, "1.26", Call::get(format!("/resource_providers/{uuid}/inventories"))).await
    }

    /// Replaces all inventories. A generation conflict is answered by re-reading and sending again, at most four times.
    ///
    /// # Errors
    /// [`Error::Refused`] with code `placement.inventory.inuse` when a class that has allocations would vanish.
    pub async fn set_inventories(
        &self,
        caller: &Caller,
        uuid: Uuid,
        mut generation: i64,
        inventories: &BTreeMap<String, Inventory>,
    ) -> Result<Inventories, Error> {
        let mut attempt = 1;
        loop {
            let wanted = Inventories { generation, inventories: inventories.clone() };
            let call = Call::put(format!("/resource_providers/{uuid}/inventories")).json(&wanted);
            match self.json(caller, "1.26", call).await {
                Err(error) if is_concurrent_update(&error) && attempt < CONFLICT_ATTEMPTS => {
                    let current = self.inventories(caller, uuid).await?;
                    if current.inventories == *inventories {
                        return Ok(current);
                    }
                    generation = current.generation;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// # Errors
    /// [`Error`] of placement; 404 for an unknown provider.
    pub async fn traits(&self, caller: &Caller, uuid: Uuid) -> Result<Traits, Error> {
        self.json(caller, "1.6", Call::get(format!("/resource_providers/{uuid}/traits"))).await
    }

    /// Makes sure that placement knows the traits: creates `CUSTOM_*` ones that are missing and returns the standard ones that this
    /// placement does not know (they cannot be created, and must not be set).
    ///
    /// # Errors
    /// [`Error`] of placement.
    pub async fn ensure_traits(&self, caller: &Caller, names: &[&str]) -> Result<BTreeSet<String>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            traits: BTreeSet<String>,
        }
        let filter = format!("in:{}", names.join(","));
        let known = self.json::<Answer>(caller, "1.6", Call::get("/traits").query(&[("name", &filter)])).await?.traits;
        let mut unknown = BTreeSet::new();
        for &name in names {
            if known.contains(name) {
                continue;
            }
            if name.starts_with("CUSTOM_") {
                self.send(caller, "1.6", Call::put(format!("/traits/{name}"))).await?;
            } else {
                unknown.insert(name.to_owned());
            }
        }
        Ok(unknown)
    }

    /// Sets, among the traits in `owned`, exactly those in `wanted`; every other trait of the provider stays. Writes only when something
    /// changes; a generation conflict is answered by re-reading and deciding anew, at most four times.
    ///
    /// # Errors
    /// [`Error`] of placement; 400 for a trait that it does not know.
    pub async fn set_traits(
        &self,
        caller: &Caller,
        uuid: Uuid,
        owned: &[&str],
        wanted: &[&str],
    ) -> Result<Traits, Error> {
        let mut attempt = 1;
        loop {
            let current = self.traits(caller, uuid).await?;
            let foreign = current.traits.iter().filter(|name| !owned.contains(&name.as_str())).cloned();
            let target: BTreeSet<String> = foreign.chain(wanted.iter().map(|&name| name.to_owned())).collect();
            if target == current.traits {
                return Ok(current);
            }
            let update = Traits { generation: current.generation, traits: target };
            let call = Call::put(format!("/resource_providers/{uuid}/traits")).json(&update);
            match self.json(caller, "1.6", call).await {
                Err(error) if is_concurrent_update(&error) && attempt < CONFLICT_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    /// What a consumer holds; nothing, when placement does not know it.
    ///
    /// # Errors
    /// [`Error`] of placement.
    pub async fn allocations(&self, caller: &Caller, consumer: Uuid) -> Result<ConsumerAllocations, Error> {
        self.json(caller, "1.28", Call::get(format!("/allocations/{consumer}"))).await
    }

    /// Drops everything that a consumer holds; whether it held anything.
    ///
    /// # Errors
    /// [`Error`] of placement.
    pub async fn delete_allocations(&self, caller: &Caller, consumer: Uuid) -> Result<bool, Error> {
        self.rest.delete(caller, format!("/allocations/{consumer}")).await
    }

    /// Drops what a consumer held when `seen` was read; false when it has changed since, and so is somebody else's now.
    ///
    /// # Errors
    /// [`Error`] of placement, other than that conflict.
    pub async fn clear_allocations(
        &self,
        caller: &Caller,
        consumer: Uuid,
        seen: &ConsumerAllocations,
    ) -> Result<bool, Error> {
        let nothing = ConsumerAllocations { allocations: BTreeMap::new(), ..seen.clone() };
        // Not repeated on a broken connection: the repetition could meet its own first effect and call it a conflict.
        match self.replace(caller, consumer, &nothing).await {
            Ok(()) => Ok(true),
            Err(error) if is_concurrent_update(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives what `from` (a migration) holds to `to` (its instance) in place of what `to` holds, in one request: how a
    /// move that is given up is taken back. Nothing happens when `from` holds nothing.
    ///
    /// # Errors
    /// [`Error`] of placement; 409 when either changes at the same time again and again.
    pub async fn move_allocations(&self, caller: &Caller, from: Uuid, to: Uuid) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            let (held, replaced) = tokio::try_join!(self.allocations(caller, from), self.allocations(caller, to))?;
            if held.allocations.is_empty() {
                return Ok(());
            }
            match self.give(caller, (from, &held), (to, &replaced)).await {
                Err(error) if is_concurrent_update(&error) && attempt < CONFLICT_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn give(
        &self,
        caller: &Caller,
        (from, held): (Uuid, &ConsumerAllocations),
        (to, replaced): (Uuid, &ConsumerAllocations),
    ) -> Result<(), Error> {
        let nothing = ConsumerAllocations { allocations: BTreeMap::new(), ..held.clone() };
        let all = ConsumerAllocations { consumer_generation: replaced.consumer_generation, ..held.clone() };
        self.send(caller, "1.28", together(&[(from, nothing), (to, all)])).await
    }

    /// Lets several consumers hold what is said of each, all or none of it; false when one has changed since its generation was read, and
    /// so is somebody else's now.
    ///
    /// # Errors
    /// [`Error`] of placement, other than that conflict; 409 where a provider has too little.
    pub async fn replace_seen(
        &self,
        caller: &Caller,
        consumers: &[(Uuid, ConsumerAllocations)],
    ) -> Result<bool, Error> {
        // Not repeated, as above.
        match self.send(caller, "1.28", together(consumers).once()).await {
            Ok(()) => Ok(true),
            Err(error) if is_concurrent_update(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes one provider out of what a consumer holds: a claim for a move that does not happen.
    ///
    /// # Errors
    /// [`Error`] of placement; 409 when the allocations change at the same time again and again.
    pub async fn remove_provider(&self, caller: &Caller, consumer: Uuid, provider: Uuid) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            let mut held = self.allocations(caller, consumer).await?;
            if held.allocations.remove(&provider).is_none() {
                return Ok(());
            }
            match self.replace(caller, consumer, &held).await {
                Err(error) if is_concurrent_update(&error) && attempt < CONFLICT_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    /// Takes amounts of some providers' resources out of what a consumer holds: those of a port that it gives up.
    ///
    /// # Errors
    /// [`Error`] of placement; 409 when the allocations change at the same time again and again.
    pub async fn release(
        &self,
        caller: &Caller,
        consumer: Uuid,
        given_up: &BTreeMap<Uuid, BTreeMap<String, u64>>,
    ) -> Result<(), Error> {
        if given_up.is_empty() {
            return Ok(());
        }
        let mut attempt = 1;
        loop {
            let mut held = self.allocations(caller, consumer).await?;
            for (provider, amounts) in given_up {
                let Some(allocation) = held.allocations.get_mut(provider) else { continue };
                for (class, amount) in amounts {
                    if let Some(held) = allocation.resources.get_mut(class) {
                        *held = held.saturating_sub(*amount);
                    }
                }
                allocation.resources.retain(|_, amount| *amount > 0);
            }
            held.allocations.retain(|_, allocation| !allocation.resources.is_empty());
            match self.replace(caller, consumer, &held).await {
                Err(error) if is_concurrent_update(&error) && attempt < CONFLICT_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn replace(&self, caller: &Caller, consumer: Uuid, held: &ConsumerAllocations) -> Result<(), Error> {
        let call = Call::put(format!("/allocations/{consumer}")).json(&entry(held)).once();
        self.send(caller, "1.28", call).await
    }

    /// Everybody who holds something of a provider.
    ///
    /// # Errors
    /// [`Error`] of placement; 404 for an unknown provider.
    pub async fn provider_allocations(&self, caller: &Caller, uuid: Uuid) -> Result<ProviderAllocations, Error> {
        self.json(caller, "1.0", Call::get(format!("/resource_providers/{uuid}/allocations"))).await
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        caller: &Caller,
        microversion: &'static str,
        call: Call,
    ) -> Result<T, Error> {
        self.rest.json(caller, versioned(call, microversion)).await
    }

    async fn send(&self, caller: &Caller, microversion: &'static str, call: Call) -> Result<(), Error> {
        self.rest.send(caller, &versioned(call, microversion)).await.map(drop)
    }
}

fn versioned(call: Call, microversion: &'static str) -> Call {
    let value = HeaderValue::from_str(&format!("placement {microversion}"));
    match value {
        Ok(value) => call.header("openstack-api-version", value),
        Err(_) => call,
    }
}

/// The request that changes several consumers at once.
fn together(consumers: &[(Uuid, ConsumerAllocations)]) -> Call {
    let body: serde_json::Map<_, _> = consumers.iter().map(|(id, held)| (id.to_string(), entry(held))).collect();
    Call::post("/allocations").json(&body)
}

/// What a consumer is to hold, of the generation in which it was seen.
fn entry(held: &ConsumerAllocations) -> serde_json::Value {
    json!({
        "allocations": resources(held),
        "consumer_generation": held.consumer_generation,
        "project_id": held.project_id,
        "user_id": held.user_id,
    })
}

/// Allocations in the form of a request: providers' generations are not part of it.
fn resources(held: &ConsumerAllocations) -> serde_json::Value {
    held.allocations
        .iter()
        .map(|(provider, allocation)| (provider.to_string(), json!({ "resources": allocation.resources })))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Placement before 1.23 gives no codes; there the message tells.
fn is_concurrent_update(error: &Error) -> bool {
    error.is_conflict()
        && match error.code() {
            Some(code) => code == CONCURRENT_UPDATE,
            None => error.message().contains("generation"),
        }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
