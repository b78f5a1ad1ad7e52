//! What neutron knows of its agents.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Neutron;
use crate::client::Call;
use crate::{Caller, Error};

/// An agent of neutron.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Agent {
    /// `Open vSwitch agent`, `OVN Controller agent`, `DHCP agent`, ...
    pub agent_type: String,
    pub host: String,
    #[serde(default)]
    pub alive: bool,
    #[serde(default)]
    pub admin_state_up: Option<bool>,
    /// What the agent reports of its own settings.
    #[serde(default)]
    pub configurations: Map<String, Value>,
}

impl Neutron {
    /// Agents that match all filters.
    ///
    /// # Errors
    /// [`Error`] of neutron; 403 for whoever may not see them.
    pub async fn agents(&self, caller: &Caller, filters: &[(&str, &str)]) -> Result<Vec<Agent>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            agents: Vec<Agent>,
        }
        Ok(self.rest.json::<Answer>(caller, Call::get("/v2.0/agents").query(filters)).await?.agents)
    }
}
