//! Containers that start again by themselves.
//!
//! Docker does it, and knows of it only while the container is to run: it would start again what ended badly when Docker itself is
//! started, though its user had stopped it.

use bollard::models::{ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum};
use uuid::Uuid;

use super::{Docker, Error, state::Found};
use crate::guest::PowerState;
use crate::guest::configuration::Restart;

impl Docker {
    /// Whether the container is down and would be started again by a Docker that could: Docker, or the host, went down under it.
    pub async fn is_to_restart(&self, uuid: Uuid) -> Result<bool, Error> {
        Ok(self.find(uuid).await?.is_some_and(|found| found.restarts && is_wanted(&found)))
    }

    /// Has Docker start the container again when it ends, where that is asked for.
    pub(super) async fn let_restart(&self, found: &Found) -> Result<(), Error> {
        match found.restart {
            Some(restart) => self.set_policy(found, policy(restart)).await,
            None => Ok(()),
        }
    }

    /// Has Docker leave the container as it is when it ends.
    pub(super) async fn forbid_restart(&self, found: &Found) -> Result<(), Error> {
        if found.restarts { self.set_policy(found, never()).await } else { Ok(()) }
    }

    /// For a container that could not be started: Docker would try again whenever it is started itself.
    pub(super) async fn give_restart_up(&self, found: &Found) {
        if found.restart.is_some()
            && let Err(error) = self.set_policy(found, never()).await
        {
            tracing::warn!(container = found.name, %error, "Docker may start a container that did not start");
        }
    }

    async fn set_policy(&self, found: &Found, policy: RestartPolicy) -> Result<(), Error> {
        let update = ContainerUpdateBody { restart_policy: Some(policy), ..Default::default() };
        let updated = self.engine().docker.update_container(&found.id, update).await;
        updated.map_err(|error| self.engine().error("say when to restart container", &found.name, error))
    }
}

pub(super) fn never() -> RestartPolicy {
    RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }
}

fn policy(restart: Restart) -> RestartPolicy {
    match restart {
        Restart::Always => {
            RestartPolicy { name: Some(RestartPolicyNameEnum::UNLESS_STOPPED), maximum_retry_count: None }
        }
        Restart::OnFailure(most) => {
            RestartPolicy { name: Some(RestartPolicyNameEnum::ON_FAILURE), maximum_retry_count: most.map(i64::from) }
        }
    }
}

/// Docker's rule.
fn is_wanted(found: &Found) -> bool {
    let failed = match found.state {
        PowerState::Stopped { exit_code } => exit_code != 0,
        PowerState::Crashed { .. } => true,
        PowerState::Created | PowerState::Running | PowerState::Paused | PowerState::Suspended => return false,
    };
    match found.restart {
        Some(Restart::Always) => true,
        Some(Restart::OnFailure(most)) => failed && most.is_none_or(|most| found.restart_count < i64::from(most)),
        None => false,
    }
}
