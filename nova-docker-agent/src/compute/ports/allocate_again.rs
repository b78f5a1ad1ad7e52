//! `network_allocate_retries`: an allocation that failed by an outage is made again after a pause.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tracing::warn;

use super::{AllocateRequest, Allocation, NetworkError, Ports};
use crate::cloud::Caller;

impl Ports {
    /// As [`allocate`](Self::allocate), up to `retries` times more: it leaves nothing behind when it fails.
    ///
    /// # Errors
    /// [`NetworkError`], the last one.
    pub async fn allocate_patiently(
        &self,
        caller: &Caller,
        request: &AllocateRequest,
        retries: usize,
    ) -> Result<Allocation, NetworkError> {
        let pauses = ExponentialBuilder::default().with_max_delay(Duration::from_secs(30)).with_max_times(retries);
        (|| self.allocate(caller, request))
            .retry(pauses)
            .when(NetworkError::may_pass)
            .notify(|error, pause| warn!(%error, retry_in = ?pause, "cannot allocate the network yet"))
            .await
    }
}
