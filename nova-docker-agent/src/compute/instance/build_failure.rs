//! A build that failed: everything it made is undone, then another host may try, or the user is told.

use serde_json::{Value, json};
use tracing::{info, warn};

use crate::compute::{Compute, error::Error, instance::request::BuildRequest};
use crate::{
    conductor::BuildInstances,
    driver::End,
    messaging::Context,
    objects::{Expected, TaskState, VmState},
};

impl Compute {
    /// Undoes the build. Returns the failure, or none when the conductor was asked to try another host.
    pub(in crate::compute) async fn build_failed(
        &self,
        context: &Context,
        request: &mut BuildRequest,
        error: Error,
    ) -> Option<Error> {
        warn!(%error, details = error.details(), "the build failed");
        let leftovers = self.undo_build(context, request).await;
        self.tracker.release(request.uuid).await;
        if error.is_gone() {
            self.drop_allocation(context, request.uuid).await;
            return Some(error);
        }
        let may_retry =
            request.rest.get("filter_properties").and_then(|f| f.get("retry")).is_some_and(|retry| !retry.is_null());
        let mut given_back = false;
        if leftovers.is_none() && error.is_reschedulable() && may_retry {
            let asked = async {
                self.give_back(context, request).await?;
                given_back = true;
                self.ask_for_another_host(context, request, &error).await
            };
            match asked.await {
                Ok(()) => return None,
                Err(problem) => warn!(%problem, "cannot ask for another host"),
            }
        }
        let error = match leftovers {
            Some(cleanup) => Error::Cleanup { error: Box::new(error), cleanup },
            None => error,
        };
        self.error_out(context, request, &error, given_back).await;
        Some(error)
    }

    /// Container, namespace, ports: each is tried, and what stays is reported.
    async fn undo_build(&self, context: &Context, request: &BuildRequest) -> Option<String> {
        let mut failures = Vec::new();
        if let Err(error) = self.driver.remove(request.uuid, End::Replaced).await {
            failures.push(error.to_string());
        }
        if let Err(error) = self.release_network(context, request.uuid, &request.instance).await {
            failures.push(error.to_string());
        }
        if failures.is_empty() {
            return None;
        }
        let failures = failures.join("; ");
        warn!(failures, "cannot remove everything of the failed build");
        Some(failures)
    }

    /// Takes the instance off this host, and drops what it holds here: what it holds from now on is the next host's.
    async fn give_back(&self, context: &Context, request: &mut BuildRequest) -> Result<(), Error> {
        let mut system_metadata = request.instance.system_metadata();
        system_metadata.insert("network_allocated".to_owned(), "False".to_owned());
        let fields = json!({
            "host": null, "node": null, "compute_id": null, "launched_on": null, "availability_zone": null,
            "task_state": TaskState::Scheduling, "system_metadata": system_metadata,
        });
        self.save(context, &mut request.instance, fields, Expected::of_build()).await?;
        self.drop_allocation(context, request.uuid).await;
        Ok(())
    }

    /// The conductor takes the next host of the scheduler's list.
    async fn ask_for_another_host(
        &self,
        context: &Context,
        request: &BuildRequest,
        error: &Error,
    ) -> Result<(), Error> {
        let argument = |name: &str| request.rest.get(name).cloned().unwrap_or_default();
        let mut filter_properties = argument("filter_properties");
        if let Some(retry) = filter_properties.get_mut("retry").and_then(Value::as_object_mut) {
            retry.insert("exc".to_owned(), json!([format!("{error}\n")]));
            retry.insert("exc_reason".to_owned(), error.to_string().into());
        }
        let build = BuildInstances {
            instance: request.instance.clone(),
            image: request.image.clone(),
            filter_properties,
            admin_password: argument("admin_password"),
            injected_files: argument("injected_files"),
            requested_networks: argument("requested_networks"),
            security_groups: argument("security_groups"),
            request_spec: argument("request_spec"),
            host_list: argument("host_list"),
        };
        self.conductor.build_instances(context, build).await?;
        info!("asked the conductor for another host");
        Ok(())
    }

    /// The user sees ERROR and the fault. The host is taken off, so a later delete is the API's own.
    async fn error_out(&self, context: &Context, request: &BuildRequest, error: &Error, given_back: bool) {
        self.record_fault(context, request.uuid, error).await;
        let state = json!({
            "host": null, "node": null, "compute_id": null, "numa_topology": null,
            "vm_state": VmState::Error, "task_state": null,
        });
        let is_ours = self.set_state(context, request.uuid, state, &tasks(given_back)).await;
        if is_ours && !given_back {
            self.drop_allocation(context, request.uuid).await;
        }
    }
}

/// The tasks that a build which failed may have. Who asked for another host may not know whether it was heard: then the next tasks are
/// that host's.
fn tasks(given_back: bool) -> Expected {
    if given_back { Expected::task(TaskState::Scheduling) } else { Expected::of_build() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_was_given_back_is_not_set_to_error_once_another_host_has_begun_it() {
        use TaskState::{BlockDeviceMapping, Networking, Scheduling, Spawning};
        let (Expected::OneOf(ours), Expected::OneOf(given_back)) = (tasks(false), tasks(true)) else {
            panic!("a save over any task");
        };
        for begun in [None, Some(Networking), Some(BlockDeviceMapping), Some(Spawning)] {
            assert!(ours.contains(&begun) && !given_back.contains(&begun), "{begun:?}");
        }
        assert!(given_back.contains(&Some(Scheduling)), "nobody has taken it");
    }
}
