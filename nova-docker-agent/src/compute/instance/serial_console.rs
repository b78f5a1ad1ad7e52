//! `get_serial_console` and `validate_console_port`: a terminal in the user's browser.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    error::Error,
    operation::Method,
};
use crate::{
    config::SerialConsoleConfig,
    docker, driver,
    messaging::Context,
    objects::{Instance, VmState},
};

/// The only type of it that there is.
const SERIAL: &str = "serial";

/// `get_serial_console`.
pub(in crate::compute) struct GetSerialConsole {
    instance: Instance,
    console_type: String,
}

impl Method for GetSerialConsole {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let console_type = arguments.text("console_type").unwrap_or(SERIAL).to_owned();
        Ok(Self { console_type, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        let Self { instance, console_type } = self;
        match &compute.config.serial_console {
            Some(config) if console_type == SERIAL => compute.open_console(context, &instance, config).await,
            Some(_) => Err(unavailable(&console_type, "there is no console of this type")),
            None => Err(unavailable(&console_type, "serial consoles are switched off on the server's host")),
        }
    }
}

/// `validate_console_port`: Nova's proxies ask before they connect.
pub(in crate::compute) struct ValidateConsolePort {
    instance: Instance,
    console_type: String,
    port: String,
}

impl Method for ValidateConsolePort {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let console_type = arguments.text("console_type")?.to_owned();
        let port = arguments.text("port")?.to_owned();
        Ok(Self { console_type, port, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, _: &Context) -> Result<Value, Error> {
        let uuid = instance_uuid(&self.instance)?;
        Ok(json!(self.console_type == SERIAL && compute.driver.has_console_at(uuid, &self.port).await?))
    }
}

impl Compute {
    async fn open_console(
        &self,
        context: &Context,
        instance: &Instance,
        config: &SerialConsoleConfig,
    ) -> Result<Value, Error> {
        let uuid = instance_uuid(instance)?;
        let access = self.driver.serial_console(uuid, config.token_ttl).await;
        let access = access.map_err(|error| refused(instance, error))?;
        let (url, life) = (&config.base_url, config.token_ttl);
        let context = context.elevated();
        let token = self.conductor.authorize_console(&context, &uuid.to_string(), SERIAL, &access, url, life).await?;
        Ok(json!({
            "host": access.host,
            "port": access.port,
            "internal_access_path": access.internal_access_path,
            "token": token,
            "access_url": format!("{url}?token={token}"),
        }))
    }
}

/// In words that Nova's API passes on.
fn refused(instance: &Instance, error: driver::Error) -> Error {
    let uuid = instance.uuid();
    let id = json!({"instance_id": uuid});
    match error {
        driver::Error::Docker(docker::Error::NoConsole { reason }) => unavailable(SERIAL, reason),
        driver::Error::Docker(docker::Error::NotFound { .. }) => match instance.vm_state() {
            Some(VmState::Building) => {
                Error::exception("InstanceNotReady", format!("Instance {uuid} is not ready"), id)
            }
            _ => Error::exception("InstanceNotFound", format!("Instance {uuid} has no container on its host"), id),
        },
        error => error.into(),
    }
}

fn unavailable(console_type: &str, reason: &str) -> Error {
    let message = format!("Unavailable console type {console_type}: {reason}.");
    Error::exception("ConsoleTypeUnavailable", message, json!({"console_type": console_type}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_container_is_not_ready_while_building_and_not_found_after() {
        let missing = || docker::Error::NotFound { what: "container".to_owned() }.into();
        let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        instance.set("vm_state", VmState::Building.as_str());
        assert_eq!(refused(&instance, missing()).to_failure().class, "InstanceNotReady");
        instance.set("vm_state", VmState::Active.as_str());
        assert_eq!(refused(&instance, missing()).to_failure().class, "InstanceNotFound");
    }

    #[test]
    fn a_console_that_cannot_be_had_is_refused_with_its_reason() {
        let instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        let failure = refused(&instance, docker::Error::NoConsole { reason: "it is paused" }.into()).to_failure();
        assert_eq!((failure.class.as_str(), failure.module.as_str()), ("ConsoleTypeUnavailable", "nova.exception"));
        assert_eq!(failure.message, "Unavailable console type serial: it is paused.");
        assert_eq!(failure.kwargs["console_type"], "serial");
    }
}
