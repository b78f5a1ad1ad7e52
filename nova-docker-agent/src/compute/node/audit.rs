//! What the schedulers and placement know of this host, brought up to date.

use tracing::{info, warn};

use crate::compute::{Compute, error::Error};
use crate::{cloud::Caller, docker, driver, messaging::Context, objects::Service};

/// Prefix of the reason when a service disables itself, as in Nova's own drivers. Any other reason is an operator's.
const AUTOMATIC: &str = "AUTO: ";
/// Characters that the database keeps of a reason.
const REASON_CHARS: usize = 255;

impl Compute {
    /// Reports the host and its instances to the compute node's record and to placement. While Docker does not answer,
    /// the host is disabled with the reason.
    ///
    /// # Errors
    /// Conductor or placement did not answer, or refused.
    pub(in crate::compute) async fn audit(&self) -> Result<(), Error> {
        let context = Context::admin();
        let host = self.driver.host().await;
        let status = self.status.lock().await;
        let service = self.conductor.service(&context, &self.host).await?;
        let host = match host {
            Ok(host) => host,
            Err(error @ driver::Error::Docker(docker::Error::Unavailable { .. })) => {
                warn!(%error, "no new instances until Docker is back");
                let (reason, caller) = (error.to_string(), Caller::own());
                let (disabled, traits) =
                    tokio::join!(self.disable(&context, service.as_ref(), &reason), self.sync_traits(&caller, true),);
                return disabled.and(traits);
            }
            Err(error) => return Err(error.into()),
        };
        let disabled = self.enable_again(&context, service.as_ref()).await?;
        self.sync_provider(&host, disabled).await?;
        drop(status);
        let instances = self.tracker.audit(&self.conductor, &self.config, host, (&self.host, &self.node)).await?;
        self.audit_allocations(&instances).await
    }

    /// Audits now, for what the schedulers should know before the next periodic audit.
    pub(in crate::compute) async fn audit_now(&self) {
        if let Err(error) = self.audit().await {
            warn!(%error, "cannot report Docker's state to the schedulers; the periodic task tries again");
        }
    }

    async fn disable(&self, context: &Context, service: Option<&Service>, problem: &str) -> Result<(), Error> {
        if service.is_some_and(Service::disabled) {
            return Ok(());
        }
        let reason: String = format!("{AUTOMATIC}{problem}").chars().take(REASON_CHARS).collect();
        self.conductor.save_service_disabled(context, self.service_id, Some(&reason)).await?;
        Ok(())
    }

    /// Returns whether the service stays disabled: what an operator disabled, an operator enables.
    async fn enable_again(&self, context: &Context, service: Option<&Service>) -> Result<bool, Error> {
        let Some(service) = service.filter(|service| service.disabled()) else { return Ok(false) };
        if !service.disabled_reason().is_some_and(|reason| reason.starts_with(AUTOMATIC)) {
            return Ok(true);
        }
        self.conductor.save_service_disabled(context, self.service_id, None).await?;
        info!("Docker is back: the service is enabled again");
        Ok(false)
    }
}
