//! `set_admin_password`: a new password for the container's administrator.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    instance::guest::admin_user,
    operation::Method,
};
use crate::{
    docker, driver,
    guest::Password,
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState},
};

/// `set_admin_password`.
pub(in crate::compute) struct SetAdminPassword {
    instance: Instance,
    password: Password,
}

impl Method for SetAdminPassword {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let password = Password::new(arguments.text("new_pass")?);
        Ok(Self { password, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.set_admin_password(context, self.instance, &self.password).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// Nova sets passwords of instances that run only.
    async fn set_admin_password(
        &self,
        context: &Context,
        mut instance: Instance,
        password: &Password,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_set_admin_password", &[TaskState::UpdatingPassword]), async {
            // The request may have waited, and recovery have given the task up.
            let updating = json!({"task_state": TaskState::UpdatingPassword});
            self.save(context, &mut instance, updating, Expected::task(TaskState::UpdatingPassword)).await?;
            if self.power_state(uuid).await? != PowerState::Running {
                return Err(not_set(uuid, &format!("instance {uuid} is not running")));
            }
            let set = self.driver.set_password(uuid, &admin_user(&instance), password).await;
            set.map_err(|error| told(error, uuid))?;
            let done = json!({"task_state": null});
            self.save(context, &mut instance, done, Expected::task(TaskState::UpdatingPassword)).await
        })
        .await
    }
}

/// The API answers a conflict, with the text, to these two alone.
fn told(error: driver::Error, instance: Uuid) -> Error {
    match error {
        driver::Error::Docker(docker::Error::Lacking { reason }) => {
            Error::exception("SetAdminPasswdNotSupported", reason, Value::Null)
        }
        error => not_set(instance, &error.to_string()),
    }
}

fn not_set(instance: Uuid, reason: &str) -> Error {
    let message = format!("Failed to set admin password on {instance} because {reason}");
    Error::exception("InstancePasswordSetFailed", message, json!({"instance": instance, "reason": reason}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_container_lacks_is_told_as_it_is_and_other_failures_name_the_instance() {
        let lacking = docker::Error::Lacking { reason: "the container has no /etc/shadow".to_owned() };
        let failure = told(lacking.into(), Uuid::nil()).to_failure();
        assert_eq!(
            (failure.class.as_str(), failure.message.as_str()),
            ("SetAdminPasswdNotSupported", "the container has no /etc/shadow")
        );
        let away = docker::Error::NotFound { what: "container x".to_owned() };
        let failure = told(away.into(), Uuid::nil()).to_failure();
        assert_eq!(failure.class, "InstancePasswordSetFailed");
        assert!(failure.message.contains("container x"), "{}", failure.message);
    }
}
