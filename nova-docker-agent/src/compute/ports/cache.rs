//! The instance's network information cache: what the API shows as addresses, and the record of whose the ports are.

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use serde_json::{Map, Value, json};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::compute::ports::{DeallocateError, NetworkInfo, Rebind};
use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    error::Error,
    operation::Method,
    ports::{
        interfaces::usable_interfaces,
        seen::vanished,
        user_ports::{keep_user_ports, user_ports},
    },
};
use crate::{cloud::Caller, messaging::Context, objects::Instance};

/// How long a start waits for Neutron's word, and then for ports that it has bound again.
const NEUTRON_PATIENCE: Duration = Duration::from_secs(10);

/// What the work comes to, or none where it takes longer than the patience.
async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, Error> {
    tokio::time::timeout(patience, work).await.ok().transpose()
}

fn slow() -> Error {
    Error::Exception { class: "NovaException", message: "Neutron is slow".to_owned(), kwargs: Map::new() }
}

/// The cache as an instance carries it.
pub(in crate::compute) fn network_info(instance: &Instance) -> Result<NetworkInfo, Error> {
    parse(instance.network_info(), instance.uuid())
}

fn parse(value: Value, uuid: &str) -> Result<NetworkInfo, Error> {
    serde_json::from_value(value).map_err(|error| Error::BadRequest {
        method: format!("instance {uuid}"),
        problem: format!("its network information cache cannot be read: {error}"),
    })
}

/// `inject_network_info`.
pub(in crate::compute) struct InjectNetworkInfo {
    instance: Instance,
}

impl Method for InjectNetworkInfo {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, _: &Context) -> Result<Value, Error> {
        compute.refresh_network_info(instance_uuid(&self.instance)?).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// Writes the cache.
    pub(in crate::compute) async fn save_network_info(
        &self,
        context: &Context,
        uuid: Uuid,
        network: &NetworkInfo,
    ) -> Result<(), Error> {
        self.conductor.save_info_cache(context, &uuid.to_string(), &json!(network)).await?;
        self.links_changed();
        Ok(())
    }

    /// The cache as it is in the database now.
    pub(in crate::compute) async fn load_network_info(
        &self,
        context: &Context,
        uuid: Uuid,
    ) -> Result<NetworkInfo, Error> {
        let uuid = uuid.to_string();
        match self.conductor.info_cache(context, &uuid).await {
            Ok(value) => parse(value, &uuid),
            Err(error) if error.class() == Some("InstanceInfoCacheNotFound") => Ok(NetworkInfo::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks Neutron again, writes the cache when something changed, and brings the interfaces that are plugged, resolv.conf and
    /// hosts to what Neutron says.
    ///
    /// # Errors
    /// Neutron or conductor did not answer, or an interface could not be changed. An instance that is gone is no error.
    pub(in crate::compute) async fn refresh_network_info(&self, uuid: Uuid) -> Result<(), Error> {
        self.follow_neutron(uuid, Rebind::Nothing).await
    }

    /// As [`refresh_network_info`](Self::refresh_network_info), and has ports bound again that Neutron could not bind.
    ///
    /// # Errors
    /// The same.
    pub(in crate::compute) async fn heal_network_of(&self, uuid: Uuid) -> Result<(), Error> {
        self.follow_neutron(uuid, Rebind::Failed).await
    }

    async fn follow_neutron(&self, uuid: Uuid, rebind: Rebind) -> Result<(), Error> {
        let _lock = self.cache_locks.lock(uuid).await;
        match self.read_network_info(uuid, rebind, Duration::MAX).await? {
            // On its way to the shelf: nobody is to plug what is bound to no host.
            Some(network) if network.is_unbound() => Ok(()),
            Some(network) => Ok(self.driver.follow(uuid, &usable_interfaces(&network, &self.host)?).await?),
            None => Ok(()),
        }
    }

    /// Takes the instance's ports off this host.
    ///
    /// # Errors
    /// Ports that are still bound; the others are not.
    pub(in crate::compute) async fn unbind_network(&self, context: &Context, uuid: Uuid) -> Result<(), Error> {
        let _lock = self.cache_locks.lock(uuid).await;
        let caller = Caller::service(context.request_id());
        Ok(self.ports.unbind_from_host(&caller, uuid).await?)
    }

    /// What Neutron says of the instance's network, written into the cache; none when the instance is gone. With the cache's
    /// lock held. Neutron has the `patience` to tell it, and once more to bind ports and to tell what came of that.
    async fn read_network_info(
        &self,
        uuid: Uuid,
        rebind: Rebind,
        patience: Duration,
    ) -> Result<Option<NetworkInfo>, Error> {
        let context = Context::admin();
        let wanted = ["info_cache", "system_metadata"];
        let instance = match self.conductor.instance(&context, &uuid.to_string(), &wanted).await {
            Ok(instance) => instance,
            Err(error) if error.class() == Some("InstanceNotFound") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let cache = network_info(&instance)?;
        let project = instance.project_id().unwrap_or_default();
        let caller = Caller::service(context.request_id());
        let read =
            || async { self.ports.build_network_info(&caller, uuid, project, &cache).await.map_err(Error::from) };
        let mut current = within(patience, read()).await?.ok_or_else(slow)?;
        if self.is_here(&instance) {
            let zone = instance.availability_zone().unwrap_or(&self.config.default_availability_zone);
            let bound = async {
                let asked = self.ports.bind_again(&caller, &current, rebind, &self.host, zone).await;
                if asked { read().await.map(Some) } else { Ok(None) }
            };
            // What has been read is known, whatever becomes of this.
            match within(patience, bound).await {
                Ok(again) => current = again.flatten().unwrap_or(current),
                Err(error) => warn!(%error, instance = %uuid, "ports that were bound again cannot be read"),
            }
        }
        self.forget_vanished(&context, uuid, &cache, &mut current).await;
        keep_user_ports(&mut current, &instance);
        if current != cache {
            debug!(instance = %uuid, "the instance's network changed");
            self.save_network_info(&context, uuid, &current).await?;
        }
        Ok(Some(current))
    }

    /// Unplugs what Neutron no longer has for the instance. What cannot be unplugged stays in the cache for the next refresh.
    async fn forget_vanished(&self, context: &Context, uuid: Uuid, cache: &NetworkInfo, current: &mut NetworkInfo) {
        for vif in vanished(cache, current) {
            info!(instance = %uuid, port = %vif.id, "Neutron no longer has this port for the instance; unplugging it");
            let forgotten = async {
                self.forget_interface(context, uuid, vif.id).await?;
                self.forget_marks(context, uuid, &vif).await
            };
            if let Err(error) = forgotten.await {
                warn!(instance = %uuid, port = %vif.id, %error, "cannot unplug a port that has gone; it is tried again");
                current.0.push(vif);
            }
        }
    }

    /// The network that a start is to bring up: what Neutron says now, for not every change is told by an event, with every port
    /// bound that can be. The cache must do when Neutron does not answer.
    pub(in crate::compute) async fn network_to_start(
        &self,
        context: &Context,
        uuid: Uuid,
    ) -> Result<NetworkInfo, Error> {
        let _lock = self.cache_locks.lock(uuid).await;
        match self.read_network_info(uuid, Rebind::All, NEUTRON_PATIENCE).await {
            Ok(Some(network)) => return Ok(network),
            Ok(None) => {}
            Err(error) => warn!(instance = %uuid, %error, "starting with the network that is remembered"),
        }
        self.load_network_info(context, uuid).await
    }

    /// Brings what is plugged to what `network` says, as well as it can: whoever calls has done what it was asked, and the next
    /// refresh tries again.
    pub(in crate::compute) async fn follow_network(&self, uuid: Uuid, network: &NetworkInfo) {
        let followed =
            async { Ok::<_, Error>(self.driver.follow(uuid, &usable_interfaces(network, &self.host)?).await?) };
        if let Err(error) = followed.await {
            warn!(instance = %uuid, %error, "the instance's network is not yet what Neutron says");
        }
    }

    /// Gives the instance's ports back to Neutron and forgets them. Those that the user brought stay.
    ///
    /// # Errors
    /// Ports that could not be released; everything else was.
    pub(in crate::compute) async fn release_network(
        &self,
        context: &Context,
        uuid: Uuid,
        instance: &Instance,
    ) -> Result<(), Error> {
        let _lock = self.cache_locks.lock(uuid).await;
        // Read anew: the copy in a request may be older than the ports.
        let cache = match self.load_network_info(context, uuid).await {
            Ok(cache) => cache,
            Err(error) => {
                warn!(%error, "using the request's copy of the network information cache");
                network_info(instance)?
            }
        };
        let caller = Caller::service(context.request_id());
        let of_user = user_ports(instance);
        (|| self.ports.deallocate(&caller, uuid, &of_user, &cache))
            .retry(ExponentialBuilder::default().with_max_times(5))
            .when(DeallocateError::may_pass)
            .notify(|error, pause| warn!(%error, retry_in = ?pause, "cannot give the instance's ports back yet"))
            .await?;
        let id = uuid.to_string();
        self.conductor.delete_virtual_interfaces(context, &id).await?;
        self.save_network_info(context, uuid, &NetworkInfo::default()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_binding_that_takes_too_long_costs_nothing_of_what_was_read_and_each_has_the_whole_patience() {
        let patience = Duration::from_secs(10);
        let takes = |seconds| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(seconds)
        };
        let began = tokio::time::Instant::now();
        let read = within(patience, takes(8)).await.unwrap();
        let bound = within(patience, takes(8)).await.unwrap();
        assert_eq!((read, bound, began.elapsed().as_secs()), (Some(8), Some(8), 16));
        assert_eq!(within(patience, takes(11)).await.unwrap(), None);
        assert_eq!(within(Duration::MAX, takes(3600)).await.unwrap(), Some(3600));
    }
}
