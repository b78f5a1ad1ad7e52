//! Who holds something of this host's provider in placement.

use std::collections::HashSet;

use serde_json::{Map, json};
use tracing::{info, warn};
use uuid::Uuid;

use super::holdings::is_nowhere;
use crate::compute::{Compute, arguments::instance_uuid, error::Error};
use crate::{
    cloud::{self, Caller},
    messaging::Context,
    objects::Instance,
};

impl Compute {
    /// What the scheduler has claimed in placement for the instance.
    pub(in crate::compute) async fn drop_allocation(&self, context: &Context, uuid: Uuid) {
        let caller = Caller::service(context.request_id());
        if let Err(error) = self.cloud.placement.delete_allocations(&caller, uuid).await {
            // The audit finds it again.
            warn!(%error, instance = %uuid, "cannot drop the instance's allocations");
        }
    }

    /// Drops allocations on this host of instances that are deleted or on no host, and sets right those of the host's `instances` and of
    /// moves that have ended. Those of others (moves that go on, instances that are on their way) stay.
    pub(in crate::compute) async fn audit_allocations(&self, instances: &[Instance]) -> Result<(), Error> {
        let caller = Caller::own();
        let held = self.cloud.placement.provider_allocations(&caller, self.compute_id).await?;
        let here: HashSet<Uuid> = instances.iter().map(instance_uuid).collect::<Result<_, _>>()?;
        let others: Vec<String> =
            held.allocations.keys().filter(|consumer| !here.contains(consumer)).map(Uuid::to_string).collect();
        if !others.is_empty() {
            self.audit_strangers(&caller, &others).await?;
        }
        self.settle_holdings(instances, &held, &others).await
    }

    /// Takes what those of `consumers` hold of this host that are deleted, or on no host.
    async fn audit_strangers(&self, caller: &Caller, consumers: &[String]) -> Result<(), Error> {
        let context = Context::admin().with_read_deleted("yes");
        let filters = Map::from_iter([("uuid".to_owned(), json!(consumers))]);
        for instance in self.conductor.instances_by_filters(&context, filters, &[]).await? {
            let uuid = instance_uuid(&instance)?;
            // A hidden one is a copy in another cell, in the middle of a move.
            if instance.deleted() && !instance.bool("hidden").unwrap_or(false) {
                self.drop_allocations_carefully(caller, uuid).await?;
                info!(instance = %uuid, "dropped the allocations of a deleted instance");
            } else if is_nowhere(&instance)
                && let Err(error) = self.take_from_homeless(uuid).await
            {
                warn!(%error, instance = %uuid, "cannot take what the instance, which is on no host, holds in placement");
            }
        }
        Ok(())
    }

    async fn drop_allocations_carefully(&self, caller: &Caller, consumer: Uuid) -> Result<(), cloud::Error> {
        let seen = self.cloud.placement.allocations(caller, consumer).await?;
        if !self.cloud.placement.clear_allocations(caller, consumer, &seen).await? {
            info!(%consumer, "left allocations alone that changed meanwhile");
        }
        Ok(())
    }
}
