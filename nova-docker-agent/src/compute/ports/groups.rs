//! The security groups of an instance, for its metadata.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Ports, filters};
use crate::cloud::{Caller, Error};

impl Ports {
    /// The names of the groups that the instance's ports are in, each once.
    ///
    /// # Errors
    /// [`Error`] of neutron.
    pub async fn security_group_names(&self, caller: &Caller, instance: Uuid) -> Result<Vec<String>, Error> {
        let device = instance.to_string();
        let ports = self.neutron.ports(caller, &[("device_id", &device)]).await?;
        let ids: BTreeSet<String> = ports.into_iter().flat_map(|port| port.security_groups).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let groups = self.neutron.security_groups(caller, &filters("id", &ids)).await?;
        let names: BTreeSet<String> = groups.into_iter().map(|group| group.name).collect();
        Ok(names.into_iter().collect())
    }
}
