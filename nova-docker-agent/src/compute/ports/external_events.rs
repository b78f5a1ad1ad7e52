//! `external_instance_event`: what Neutron tells about the ports of our instances.

use std::sync::Arc;

use serde_json::Value;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::compute::{Compute, arguments::Arguments, error::Error, operation::Method};
use crate::{
    messaging::Context,
    objects::{ExternalEvent, Object},
};

/// `external_instance_event`.
pub(in crate::compute) struct ExternalInstanceEvent {
    events: Vec<Value>,
}

impl Method for ExternalInstanceEvent {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        let events = arguments.get("events").and_then(Value::as_array).cloned();
        Ok(Self { events: events.ok_or_else(|| arguments.bad("the argument `events` is missing".to_owned()))? })
    }

    async fn run(self, compute: Arc<Compute>, _: &Context) -> Result<Value, Error> {
        compute.external_instance_event(self.events).await;
        Ok(Value::Null)
    }
}

impl Compute {
    /// Handles each event of the message; one that fails does not stop the others. Takes no instance lock: a build holds
    /// it while it waits for these very events.
    async fn external_instance_event(&self, events: Vec<Value>) {
        for event in events {
            let handled = match Object::from_value(event).and_then(ExternalEvent::try_from) {
                Ok(event) => self.external_event(&event).await,
                Err(error) => Err(bad(&error.to_string())),
            };
            if let Err(error) = handled {
                warn!(%error, "cannot handle an external event");
            }
        }
    }

    async fn external_event(&self, event: &ExternalEvent) -> Result<(), Error> {
        let name = event.str("name").ok_or_else(|| bad("an event has no name"))?;
        let uuid = event
            .instance_uuid()
            .and_then(|uuid| Uuid::parse_str(uuid).ok())
            .ok_or_else(|| bad("an event has no instance"))?;
        debug!(name, instance = %uuid, tag = event.tag(), status = event.status(), "external event");
        match (name, event.tag()) {
            ("network-vif-plugged" | "network-vif-unplugged", Some(port)) => {
                if name == "network-vif-plugged"
                    && !self.waiters.deliver(uuid, port, event.status().unwrap_or_default())
                {
                    debug!(instance = %uuid, port, "nobody waits for this port");
                    // It was attached to an instance that runs, or wired anew: what it said before, nobody has heard.
                    self.driver.announce(uuid).await;
                }
                Ok(())
            }
            ("network-changed", _) => self.refresh_network_info(uuid).await,
            ("network-vif-deleted", Some(port)) => self.port_deleted(uuid, port).await,
            _ => {
                info!(name, instance = %uuid, "ignored an external event that containers have no use for");
                Ok(())
            }
        }
    }

    /// A user deleted a port in Neutron: the container loses the interface.
    async fn port_deleted(&self, uuid: Uuid, port: &str) -> Result<(), Error> {
        let _lock = self.cache_locks.lock(uuid).await;
        let context = Context::admin();
        let mut network = self.load_network_info(&context, uuid).await?;
        let Some(position) = network.0.iter().position(|vif| vif.id.to_string() == port) else {
            return Ok(());
        };
        let vif = network.0.remove(position);
        info!(instance = %uuid, port, "the port was deleted; unplugging it");
        self.forget_interface(&context, uuid, vif.id).await?;
        self.forget_marks(&context, uuid, &vif).await?;
        self.save_network_info(&context, uuid, &network).await?;
        self.follow_network(uuid, &network).await;
        Ok(())
    }
}

fn bad(problem: &str) -> Error {
    Error::BadRequest { method: "external_instance_event".to_owned(), problem: problem.to_owned() }
}
