//! The periodic tasks of the compute service.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, debug, info, info_span, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::instance_uuid,
    defect::{caught, kept_up},
    error::Error,
};
use crate::{conductor::unless_in_doubt, messaging::Context, objects::Instance};

/// Interval of the search for unused volumes.
const VOLUMES_PERIOD: Duration = Duration::from_secs(600);
/// How often Nova removes the tokens of consoles that nobody can open any more.
const CONSOLES_PERIOD: Duration = Duration::from_secs(300);
/// How often Nova does what has no interval of its own.
const NOVAS_PERIOD: Duration = Duration::from_secs(60);

impl Compute {
    /// Starts every periodic task; they end with `stopping`.
    pub(in crate::compute) fn start_periodic_tasks(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) {
        let config = &self.config;
        self.every(tasks, stopping, "update_available_resource", config.update_resources_interval, |c| async move {
            c.audit().await
        });
        self.every(tasks, stopping, "sync_power_states", config.sync_power_state_interval, |c| async move {
            c.sync_power_states().await
        });
        self.every(
            tasks,
            stopping,
            "cleanup_running_deleted_instances",
            config.running_deleted_instance_poll_interval,
            |c| async move { c.reap_deleted().await },
        );
        self.every(
            tasks,
            stopping,
            "sync_scheduler_instance_info",
            config.scheduler_instance_sync_interval,
            |c| async move { c.sync_schedulers().await },
        );
        self.every(
            tasks,
            stopping,
            "heal_instance_info_cache",
            config.heal_instance_info_cache_interval,
            |c| async move { c.heal_network_info().await },
        );
        // Servers on other hosts change too.
        let links = config.heal_instance_info_cache_interval.unwrap_or(NOVAS_PERIOD);
        self.every(tasks, stopping, "refresh_links", Some(links), |c| async move { c.refresh_links().await });
        self.every(tasks, stopping, "prune_images", config.image_cache.interval, |c| async move {
            let named = c.named_images().await?;
            Ok(c.driver.prune_images(&named).await?)
        });
        self.every(tasks, stopping, "reap_volumes", Some(VOLUMES_PERIOD), |c| async move {
            Ok(c.driver.reap_volumes().await?)
        });
        let consoles = config.serial_console.as_ref().map(|_| CONSOLES_PERIOD);
        self.every(tasks, stopping, "clean_expired_console_auths", consoles, |c| async move {
            Ok(c.conductor.clean_expired_console_auths(&Context::admin()).await?)
        });
        let checks = config.instance_build_timeout.map(|_| NOVAS_PERIOD);
        self.every(
            tasks,
            stopping,
            "check_instance_build_time",
            checks,
            |c| async move { c.check_build_times().await },
        );
        let reclaims = config.reclaim_instance_interval.map(|_| NOVAS_PERIOD);
        self.every(
            tasks,
            stopping,
            "reclaim_queued_deletes",
            reclaims,
            |c| async move { c.reclaim_queued_deletes().await },
        );
        let window = config.resize_confirm_window;
        self.every(tasks, stopping, "confirm_forgotten_resizes", window.map(|_| NOVAS_PERIOD), move |c| async move {
            c.confirm_forgotten_resizes(window.unwrap_or_default()).await
        });
        self.every(tasks, stopping, "poll_shelved_instances", config.shelved_poll_interval, |c| async move {
            c.poll_shelved().await
        });
        let saver = self.clone();
        spawn_until(tasks, stopping, async move {
            kept_up(|| saver.tracker.keep_saved(&saver.conductor, &saver.config)).await;
        });
        let reporter = self.clone();
        spawn_until(tasks, stopping, async move { kept_up(|| reporter.report_state()).await });
        let keeper = self.clone();
        spawn_until(tasks, stopping, async move { kept_up(|| keeper.clone().keep_links()).await });
        let watcher = self.clone();
        spawn_until(tasks, stopping, async move { kept_up(|| watcher.clone().watch_containers()).await });
        let weigher = self.clone();
        spawn_until(tasks, stopping, async move { kept_up(|| weigher.clone().watch_disks()).await });
        let late = self.clone();
        spawn_until(tasks, stopping, async move { kept_up(|| late.clone().catch_up_with_containers()).await });
    }

    fn every<F, W>(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
        name: &'static str,
        interval: Option<Duration>,
        work: W,
    ) where
        F: Future<Output = Result<(), Error>> + Send,
        W: Fn(Arc<Compute>) -> F + Send + 'static,
    {
        let Some(interval) = interval else {
            debug!(name, "periodic task is off");
            return;
        };
        let compute = self.clone();
        spawn_until(tasks, stopping, async move {
            let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                clock.tick().await;
                let done = caught(work(compute.clone())).instrument(info_span!("periodic", name));
                if let Err(error) = done.await {
                    warn!(%error, task = name, "periodic task failed; trying again next time");
                }
            }
        });
    }

    /// Reports every `report_interval` that the service is alive. Without the report Nova shows the host as down after
    /// a minute.
    async fn report_state(&self) {
        let mut clock = tokio::time::interval(self.config.report_interval);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = None;
        let mut healthy = true;
        loop {
            clock.tick().await;
            match self.report_once(&mut count).await {
                Ok(()) if !healthy => {
                    healthy = true;
                    info!("reporting to the conductor again");
                }
                Ok(()) => {}
                Err(error) => {
                    healthy = false;
                    // Another process's count, or none: read it again.
                    count = None;
                    warn!(%error, "cannot report this service as alive");
                }
            }
        }
    }

    /// Nova takes only a growing count for a sign of life, so this continues from the stored one.
    async fn report_once(&self, count: &mut Option<i64>) -> Result<(), Error> {
        let context = Context::admin();
        let last = match *count {
            Some(last) => last,
            None => {
                let service = self.conductor.service(&context, &self.host).await?;
                service.map_or(0, |service| service.report_count())
            }
        };
        self.conductor.report(&context, self.service_id, last + 1).await?;
        *count = Some(last + 1);
        Ok(())
    }

    /// The images in Glance that the servers of this host were made from, whatever has become of their containers.
    async fn named_images(&self) -> Result<HashSet<Uuid>, Error> {
        let instances = self.conductor.instances_by_host(&Context::admin(), &self.host, &[]).await?;
        let id = |instance: &Instance| Uuid::parse_str(instance.str("image_ref")?).ok();
        Ok(instances.iter().filter_map(id).collect())
    }

    /// Repairs what a lost `network-changed` event has left stale.
    async fn heal_network_info(&self) -> Result<(), Error> {
        for instance in self.conductor.instances_by_host(&Context::admin(), &self.host, &[]).await? {
            if instance.task_state().is_some() {
                continue;
            }
            // One instance's trouble is not the others'.
            let healed = caught(async { self.heal_network_of(instance_uuid(&instance)?).await }).await;
            if let Err(error) = healed {
                warn!(%error, instance = instance.uuid(), "cannot refresh the instance's network information");
            }
        }
        Ok(())
    }
}

/// Work that ends with `stopping`, wherever it is. In doubt when the agent stops it ends before that, and holds no instance's lock.
pub(in crate::compute) fn spawn_until(
    tasks: &TaskTracker,
    stopping: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let stopping = stopping.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            _ = unless_in_doubt(work) => {}
        }
    });
}
