//! Server groups, looked at once more when an instance is this host's: of launches at the same time the scheduler may have chosen
//! hosts that do not go together (`_validate_instance_group_policy` of nova-compute).

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Map, Value};
use tracing::info;
use uuid::Uuid;

use crate::compute::{Compute, error::Error};
use crate::{
    locks::InstanceLocks,
    messaging::Context,
    objects::{InstanceGroup, RequestSpec},
};

const APART: &str = "anti-affinity";
const TOGETHER: &str = "affinity";

/// The builds under way whose group has not been looked at.
///
/// All that came at the same time are this host's by then. They do not count against one another, or none of them would be built:
/// each counts those that were looked at before it.
#[derive(Default)]
pub(in crate::compute) struct GroupChecks {
    unchecked: Mutex<HashSet<Uuid>>,
    /// One build of a group at a time.
    locks: InstanceLocks,
}

/// A build, from its begin to its end.
pub(in crate::compute) struct Unchecked<'a> {
    checks: &'a GroupChecks,
    uuid: Uuid,
}

impl GroupChecks {
    /// A build begins.
    pub(in crate::compute) fn begin(&self, uuid: Uuid) -> Unchecked<'_> {
        self.unchecked().insert(uuid);
        Unchecked { checks: self, uuid }
    }

    fn unchecked(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.unchecked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed(&self, uuid: Uuid) {
        self.unchecked().remove(&uuid);
    }
}

impl Drop for Unchecked<'_> {
    fn drop(&mut self) {
        self.checks.passed(self.uuid);
    }
}

impl Compute {
    /// Whether the instance, which is this host's by now, may stay here beside the others of its group.
    ///
    /// # Errors
    /// [`Error::GroupPolicy`], or nobody could say.
    pub(in crate::compute) async fn check_group_policy(
        &self,
        context: &Context,
        uuid: Uuid,
        arguments: &Map<String, Value>,
    ) -> Result<(), Error> {
        if self.config.disable_group_policy_check_upcall {
            return Ok(());
        }
        let Some(hint) = group_hint(arguments) else { return Ok(()) };
        let Some(group) = self.conductor.instance_group(context, &hint).await? else { return Ok(()) };
        let Some(id) = group.uuid().and_then(|id| Uuid::parse_str(id).ok()) else { return Ok(()) };
        let _turn = self.group_checks.locks.lock(id).await;
        match group.policy() {
            Some(APART) => self.check_apart(context, uuid, id).await?,
            Some(TOGETHER) => {
                let hosts = self.conductor.hosts_of_group(context, group, uuid).await?;
                if !is_together(&hosts, &self.host) {
                    info!(group = %id, ?hosts, "the server group is on another host");
                    return Err(Error::GroupPolicy("Affinity"));
                }
            }
            _ => {}
        }
        self.group_checks.passed(uuid);
        Ok(())
    }

    async fn check_apart(&self, context: &Context, uuid: Uuid, group: Uuid) -> Result<(), Error> {
        let (instances, moves) = tokio::try_join!(
            self.conductor.uuids_by_host(context, &self.host),
            self.conductor.migrations_under_way(context, &self.host, &self.node),
        )?;
        let coming = moves.iter().filter_map(|migration| migration.instance_uuid().map(str::to_owned));
        let here: HashSet<String> = instances.into_iter().chain(coming).collect();
        // Its members of now.
        let Some(group) = self.conductor.instance_group(context, &group.to_string()).await? else { return Ok(()) };
        let others = others_here(&group, &here, uuid, &self.group_checks.unchecked());
        if others >= group.max_server_per_host() {
            info!(group = group.uuid(), others, "this host has as many instances of the server group as it may have");
            return Err(Error::GroupPolicy("Anti-affinity"));
        }
        Ok(())
    }
}

/// The server group that the launch names, from whichever of the two arguments has hints.
fn group_hint(arguments: &Map<String, Value>) -> Option<String> {
    let spec = arguments.get("request_spec").cloned().and_then(|spec| RequestSpec::try_from(spec).ok());
    let of_spec = spec.as_ref().and_then(|spec| spec.get("scheduler_hints"));
    let of_filters = arguments.get("filter_properties").and_then(|properties| properties.get("scheduler_hints"));
    let has_hints = |hints: &&Value| hints.as_object().is_some_and(|hints| !hints.is_empty());
    let hint = of_spec.filter(has_hints).or(of_filters)?.get("group")?;
    // The request spec has a list for every hint.
    let hint = hint.as_array().map_or(Some(hint), |values| values.first())?;
    hint.as_str().filter(|hint| !hint.is_empty()).map(str::to_owned)
}

/// A group that is nowhere yet may begin anywhere.
fn is_together(hosts: &[String], host: &str) -> bool {
    hosts.is_empty() || hosts.iter().any(|other| other == host)
}

/// How many other instances of a group are on a host, without those whose turn has not come.
fn others_here(group: &InstanceGroup, here: &HashSet<String>, uuid: Uuid, unchecked: &HashSet<Uuid>) -> usize {
    let counts = |id: &Uuid| *id != uuid && here.contains(&id.to_string()) && !unchecked.contains(id);
    let members: HashSet<Uuid> = group.members().into_iter().filter_map(|id| Uuid::parse_str(id).ok()).collect();
    members.iter().filter(|id| counts(id)).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::Object;

    fn hint(arguments: Value) -> Option<String> {
        group_hint(arguments.as_object().unwrap())
    }

    fn spec(hints: Value) -> Value {
        let mut spec = Object::new("RequestSpec", "1.14");
        spec.set("scheduler_hints", hints);
        spec.to_value()
    }

    #[test]
    fn a_group_is_named_in_the_request_spec_or_as_older_conductors_do_it() {
        let named = |text: &str| Some(text.to_owned());
        assert_eq!(hint(json!({"request_spec": spec(json!({"group": ["a"]}))})), named("a"));
        let filters = json!({"scheduler_hints": {"group": "b"}});
        assert_eq!(hint(json!({"filter_properties": filters, "request_spec": null})), named("b"));
        assert_eq!(hint(json!({"filter_properties": filters, "request_spec": spec(json!({}))})), named("b"));
        let other = spec(json!({"same_host": ["x"]}));
        assert_eq!(hint(json!({"filter_properties": filters, "request_spec": other})), None, "the hints are complete");
        for nothing in [json!({}), json!({"request_spec": spec(json!(null))}), json!({"filter_properties": null})] {
            assert_eq!(hint(nothing.clone()), None, "{nothing}");
        }
    }

    #[test]
    fn of_launches_at_the_same_time_the_first_that_is_looked_at_stays_and_the_next_one_goes() {
        let [one, two, here_before, elsewhere] = [1, 2, 3, 4].map(Uuid::from_u128);
        let mut group = InstanceGroup::empty();
        group.set("members", json!([one, two, elsewhere]));
        let here: HashSet<String> = [one, two, here_before].map(|id| id.to_string()).into();
        let checks = GroupChecks::default();
        let (first, _second) = (checks.begin(one), checks.begin(two));
        assert_eq!(others_here(&group, &here, one, &checks.unchecked()), 0, "the second has not had its turn");
        checks.passed(one);
        assert_eq!(others_here(&group, &here, two, &checks.unchecked()), 1);
        drop(first);
        assert_eq!(others_here(&group, &here, two, &checks.unchecked()), 1, "it was built, and is here");
        assert_eq!(others_here(&group, &HashSet::new(), two, &checks.unchecked()), 0, "it failed, and has gone");
    }

    #[test]
    fn a_group_is_together_where_one_of_it_is_and_begins_anywhere() {
        let hosts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert!(is_together(&hosts(&[]), "here") && is_together(&hosts(&["there", "here"]), "here"));
        assert!(!is_together(&hosts(&["there"]), "here"));
    }

    #[test]
    fn a_launch_that_does_not_go_with_its_group_is_tried_on_another_host() {
        let error = Error::GroupPolicy("Anti-affinity");
        assert!(error.is_reschedulable() && !error.is_gone());
        assert_eq!(error.to_string(), "Anti-affinity instance group policy was violated");
    }
}
