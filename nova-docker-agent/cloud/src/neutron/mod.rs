//! Neutron: ports, networks, subnets, floating IPs and security groups.

mod agents;
mod extensions;
mod types;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

pub use agents::Agent;
pub use types::{FixedIp, FloatingIp, HostRoute, Network, NewPort, Port, PortUpdate, SecurityGroup, Subnet};

use self::extensions::Extensions;
use super::client::{Call, Rest};
use super::{Caller, Error, Greeting, ServiceConfig, Session};

/// What a refresh of the extensions may take while there is an older list.
const PATIENCE: Duration = Duration::from_secs(10);

/// Client of neutron.
#[derive(Clone)]
pub struct Neutron {
    rest: Rest,
    extensions: Arc<Extensions>,
    extension_sync_interval: Duration,
}

impl Neutron {
    /// Makes the client; opens no connection.
    ///
    /// # Errors
    /// [`Error::Tls`] when a certificate or key file cannot be used.
    pub fn new(session: Option<Session>, service: Option<Session>, config: &ServiceConfig) -> Result<Self, Error> {
        Ok(Self {
            rest: Rest::new("neutron", session, service, config)?,
            extensions: Arc::default(),
            extension_sync_interval: Duration::from_secs(600),
        })
    }

    /// What neutron says of itself to anybody.
    ///
    /// # Errors
    /// [`Error`] of neutron.
    pub async fn greeting(&self) -> Result<Greeting, Error> {
        self.rest.greeting().await
    }

    /// `[neutron] extension_sync_interval`: how long the list of extensions is kept. 10 minutes if never set.
    #[must_use]
    pub fn with_extension_sync_interval(mut self, interval: Duration) -> Self {
        self.extension_sync_interval = interval;
        self
    }

    /// # Errors
    /// [`Error`] of neutron; 404 for a port that is unknown to the caller.
    pub async fn port(&self, caller: &Caller, id: Uuid) -> Result<Port, Error> {
        Ok(self.rest.json::<PortBody>(caller, Call::get(format!("/v2.0/ports/{id}"))).await?.port)
    }

    /// Ports that match all filters; a name given twice matches either value.
    ///
    /// # Errors
    /// [`Error`] of neutron.
    pub async fn ports(&self, caller: &Caller, filters: &[(&str, &str)]) -> Result<Vec<Port>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            ports: Vec<Port>,
        }
        Ok(self.rest.json::<Answer>(caller, Call::get("/v2.0/ports").query(filters)).await?.ports)
    }

    /// # Errors
    /// [`Error`] of neutron.
    pub async fn create_port(&self, caller: &Caller, port: &NewPort) -> Result<Port, Error> {
        let call = Call::post("/v2.0/ports").json(&json!({ "port": port }));
        Ok(self.rest.json::<PortBody>(caller, call).await?.port)
    }

    /// # Errors
    /// [`Error`] of neutron; 404 for a port that is unknown to the caller.
    pub async fn update_port(&self, caller: &Caller, id: Uuid, update: &PortUpdate) -> Result<Port, Error> {
        let call = Call::put(format!("/v2.0/ports/{id}")).json(&json!({ "port": update }));
        Ok(self.rest.json::<PortBody>(caller, call).await?.port)
    }

    /// Deletes a port; whether there was one.
    ///
    /// # Errors
    /// [`Error`] of neutron.
    pub async fn delete_port(&self, caller: &Caller, id: Uuid) -> Result<bool, Error> {
        self.rest.delete(caller, format!("/v2.0/ports/{id}")).await
    }

    /// # Errors
    /// [`Error`] of neutron.
    pub async fn networks(&self, caller: &Caller, filters: &[(&str, &str)]) -> Result<Vec<Network>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            networks: Vec<Network>,
        }
        Ok(self.rest.json::<Answer>(caller, Call::get("/v2.0/networks").query(filters)).await?.networks)
    }

    /// # Errors
    /// [`Error`] of neutron.
    pub async fn subnets(&self, caller: &Caller, filters: &[(&str, &str)]) -> Result<Vec<Subnet>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            subnets: Vec<Subnet>,
        }
        Ok(self.rest.json::<Answer>(caller, Call::get("/v2.0/subnets").query(filters)).await?.subnets)
    }

    /// Floating IPs that match; none where neutron has no routers (404).
    ///
    /// # Errors
    /// [`Error`] of neutron.
    pub async fn floating_ips(&self, caller: &Caller, filters: &[(&str, &str)]) -> Result<Vec<FloatingIp>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            floatingips: Vec<FloatingIp>,
        }
        match self.rest.json::<Answer>(caller, Call::get("/v2.0/floatingips").query(filters)).await {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            result => Ok(result?.floatingips),
        }
    }

    /// Security groups that match: id and name only, since their rules can be many.
    ///
    /// # Errors
    /// [`Error`] of neutron.
    pub async fn security_groups(
        &self,
        caller: &Caller,
        filters: &[(&str, &str)],
    ) -> Result<Vec<SecurityGroup>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            security_groups: Vec<SecurityGroup>,
        }
        let call = Call::get("/v2.0/security-groups").query(&[("fields", "id"), ("fields", "name")]).query(filters);
        Ok(self.rest.json::<Answer>(caller, call).await?.security_groups)
    }

    /// The network that neutron makes for a project that has none (`auto-allocated-topology`).
    ///
    /// # Errors
    /// [`Error`] of neutron; a conflict (409) when the deployment has no prerequisites for it.
    pub async fn auto_allocated_network(&self, caller: &Caller, project_id: &str) -> Result<Uuid, Error> {
        #[derive(Deserialize)]
        struct Answer {
            auto_allocated_topology: Topology,
        }
        #[derive(Deserialize)]
        struct Topology {
            id: Uuid,
        }
        let call = Call::get(format!("/v2.0/auto-allocated-topology/{project_id}"));
        Ok(self.rest.json::<Answer>(caller, call).await?.auto_allocated_topology.id)
    }

    /// Whether neutron has an extension, by alias; the list is kept for `extension_sync_interval`.
    ///
    /// # Errors
    /// [`Error`] of neutron.
    pub async fn has_extension(&self, caller: &Caller, alias: &str) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Answer {
            extensions: Vec<Extension>,
        }
        #[derive(Deserialize)]
        struct Extension {
            alias: String,
        }
        let read = async {
            let answer: Answer = self.rest.json(caller, Call::get("/v2.0/extensions")).await?;
            Ok::<_, Error>(answer.extensions.into_iter().map(|extension| extension.alias).collect())
        };
        Ok(self.extensions.get(self.extension_sync_interval, PATIENCE, read).await?.contains(alias))
    }
}

#[derive(Deserialize)]
struct PortBody {
    port: Port,
}
