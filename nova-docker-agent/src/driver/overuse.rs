//! A watch over what guests have written, where Docker does not hold them to the size of their disks.
//!
//! One guest after another, each once in a period. To measure one is to walk through its files: between two walks it rests nine
//! times as long as the last one took, so that the watch has no more than a tenth of a disk's time, and periods become longer
//! instead.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use uuid::Uuid;

use super::{Driver, Error};
use crate::{
    config::{DockerConfig, StorageOveruse},
    docker::Written,
};

/// Rest after a walk, in its own lengths.
const REST: u32 = 9;

/// A guest that has written more than its flavor's disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server has written {} MiB, and its flavor's disk has {} GiB: within {} minutes of its next start delete files, or \
     resize it; else it is stopped again",
    .written.bytes >> 20, .written.disk >> 30, .patience.as_secs().div_ceil(60)
)]
pub struct Overuse {
    pub uuid: Uuid,
    written: Written,
    /// How long it may run before it is stopped again.
    patience: Duration,
}

impl Driver {
    /// Says in the console log why a guest is about to be stopped. Returns whether what was measured is still there, and runs: else it
    /// is not to be stopped.
    ///
    /// # Errors
    /// Docker's.
    pub async fn tell_overuse(&self, overuse: &Overuse) -> Result<bool, Error> {
        let (uuid, container) = (overuse.uuid, &overuse.written.container);
        if !self.docker.runs_in(uuid, container).await? {
            return Ok(false);
        }
        if let Err(error) = self.docker.say(uuid, &format!("stopped: {overuse}")).await {
            info!(instance = %uuid, %error, "the console log does not say why the server is stopped");
        }
        Ok(true)
    }
}

/// Guests that were found to have written too much when they were looked at last; each with when it was first found so since it
/// was told of, or stopped for it. Docker's own account begins anew with each restart that a guest brings about.
#[derive(Debug, Default)]
struct Over(HashMap<Uuid, Option<Instant>>);

/// What has become of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    /// It was within its disk, or never looked at.
    Crossed,
    /// It was told before, and has had its time to delete files.
    Stays,
    /// It was beyond its disk, and is not any more.
    Back,
}

impl Over {
    fn judge(&mut self, uuid: Uuid, written: &Written, now: Instant, period: Duration) -> Change {
        let too_much = written.bytes > written.disk;
        match self.0.get_mut(&uuid) {
            None if too_much => {
                self.0.insert(uuid, None);
                Change::Crossed
            }
            None => Change::None,
            Some(_) if !too_much => {
                self.0.remove(&uuid);
                Change::Back
            }
            Some(Some(since)) if now.duration_since(*since) >= period => {
                self.0.insert(uuid, None);
                Change::Stays
            }
            Some(since) => {
                since.get_or_insert(now);
                Change::None
            }
        }
    }
}

/// The watch.
#[derive(Debug)]
pub struct DiskWatch {
    /// None: nobody looks.
    period: Option<Duration>,
    /// Whether who has written too much is stopped.
    stops: bool,
    over: Over,
    /// Guests that are still to be looked at in this period.
    left: Vec<Uuid>,
    /// A guest's share of the period.
    share: Duration,
    /// Rest before the next one.
    pause: Duration,
}

impl DiskWatch {
    pub fn new(settings: &DockerConfig) -> Self {
        Self {
            period: settings.storage_check,
            stops: settings.storage_overuse == StorageOveruse::Stop,
            over: Over::default(),
            left: Vec::new(),
            share: Duration::ZERO,
            pause: Duration::ZERO,
        }
    }

    /// Looks at what guests have written, for as long as it is polled, until one is to be stopped for that. The log tells of each
    /// that goes beyond its disk, once.
    pub async fn next(&mut self, driver: &Driver) -> Overuse {
        let Some(period) = self.period else { return std::future::pending().await };
        loop {
            tokio::time::sleep(self.pause).await;
            let Some(guest) = self.left.pop() else {
                self.begin(driver, period).await;
                continue;
            };
            let began = Instant::now();
            let overuse = self.look_at(driver, guest, period).await;
            // No guest keeps the others waiting for longer than a period.
            self.pause = self.share.max(began.elapsed() * REST).min(period);
            if let Some(overuse) = overuse.filter(|_| self.stops) {
                return overuse;
            }
        }
    }

    async fn begin(&mut self, driver: &Driver, period: Duration) {
        self.left = driver.docker.writing().await.unwrap_or_else(|error| {
            warn!(%error, "cannot look at what servers have written; trying again later");
            Vec::new()
        });
        let count = u32::try_from(self.left.len()).unwrap_or(u32::MAX);
        self.share = period / count.max(1);
        self.pause = if count == 0 { period } else { Duration::ZERO };
    }

    /// What it is to be stopped for.
    async fn look_at(&mut self, driver: &Driver, uuid: Uuid, period: Duration) -> Option<Overuse> {
        let written = match driver.docker.written(uuid).await {
            Ok(written) => written?,
            Err(error) => {
                warn!(instance = %uuid, %error, "cannot measure what the server has written; trying again later");
                return None;
            }
        };
        let (written_mib, disk_gib) = (written.bytes >> 20, written.disk >> 30);
        let change = self.over.judge(uuid, &written, Instant::now(), period);
        match change {
            Change::Crossed => {
                warn!(instance = %uuid, written_mib, disk_gib, "the server has written more than its flavor's disk has");
            }
            Change::Back => {
                info!(instance = %uuid, written_mib, disk_gib, "the server is within its flavor's disk again")
            }
            Change::None | Change::Stays => {}
        }
        let is_due = matches!(change, Change::Crossed | Change::Stays);
        is_due.then_some(Overuse { uuid, written, patience: period })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    fn written(bytes: u64) -> Written {
        Written { container: String::new(), bytes, disk: 1 << 30 }
    }

    #[test]
    fn a_guest_is_told_of_once_for_each_time_that_it_goes_beyond_its_disk() {
        let (mut over, one, other) = (Over::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        let now = Instant::now();
        let mut judge = |uuid, bytes| over.judge(uuid, &written(bytes), now, PERIOD);
        assert_eq!(judge(one, 1 << 30), Change::None);
        assert_eq!(judge(one, 1 + (1 << 30)), Change::Crossed);
        assert_eq!(judge(other, 5), Change::None);
        assert_eq!(judge(one, 1 + (1 << 30)), Change::None);
        assert_eq!(judge(one, 5), Change::Back);
        assert_eq!(judge(one, 2 << 30), Change::Crossed);
    }

    #[test]
    fn one_that_was_stopped_has_a_period_to_delete_files_from_when_it_is_found_running() {
        let (mut over, uuid, stopped) = (Over::default(), Uuid::nil(), Instant::now());
        let mut after = |seconds| over.judge(uuid, &written(2 << 30), stopped + Duration::from_secs(seconds), PERIOD);
        assert_eq!(after(0), Change::Crossed);
        assert_eq!([after(500), after(559), after(560)], [Change::None, Change::None, Change::Stays]);
        assert_eq!([after(600), after(660)], [Change::None, Change::Stays]);
    }

    #[test]
    fn the_reason_names_sizes_and_what_to_do() {
        let overuse = Overuse { uuid: Uuid::nil(), written: written(1500 << 20), patience: Duration::from_secs(61) };
        let said = overuse.to_string();
        assert!(said.contains("written 1500 MiB") && said.contains("has 1 GiB: within 2 minutes"), "{said}");
        assert!(said.chars().count() <= 255, "a fault's message would be cut");
    }
}
