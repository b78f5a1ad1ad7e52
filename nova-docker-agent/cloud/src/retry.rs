//! When a call is made again, and after which pause.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::Error;

/// Why an attempt failed.
pub(super) enum Failure {
    /// The connection was never made, so nothing can have happened at the other side.
    NotConnected(Error),
    /// The connection broke, or the deadline passed: the other side may have acted.
    Connection(Error),
    /// An error status.
    Status(u16, Error),
}

/// Counts the attempts of one call.
pub(super) struct Retry {
    connections_left: u32,
    statuses_left: u32,
    pauses: ExponentialBackoff,
}

impl Retry {
    pub(super) fn new(connect_retries: u32, status_code_retries: u32) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(Duration::from_secs(8))
            .without_max_times()
            .with_jitter()
            .build();
        Self { connections_left: connect_retries, statuses_left: status_code_retries, pauses }
    }

    /// Returns after the pause before the next attempt, or with the error when there shall be none. `repeatable`: doing it twice is the
    /// same as doing it once.
    pub(super) async fn wait_or_give_up(&mut self, failure: Failure, repeatable: bool) -> Result<(), Error> {
        let (error, left) = match failure {
            Failure::NotConnected(error) => (error, Some(&mut self.connections_left)),
            Failure::Connection(error) => (error, repeatable.then_some(&mut self.connections_left)),
            Failure::Status(502..=504, error) => (error, repeatable.then_some(&mut self.statuses_left)),
            Failure::Status(_, error) => (error, None),
        };
        match left {
            Some(left) if *left > 0 => *left -= 1,
            _ => return Err(error),
        }
        let pause = self.pauses.next().unwrap_or(Duration::from_secs(8));
        tracing::info!(%error, ?pause, "trying again after a pause");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
