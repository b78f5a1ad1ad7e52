//! Guests that are there: their power, console and interfaces, and their end.

use std::time::Duration;

use futures::Stream;
use tracing::warn;
use uuid::Uuid;

use super::{Driver, End, Error};
use crate::{
    docker,
    guest::{ConfigDrive, Configuration, Event, GuestSummary, HostResources, Password, PowerState},
    limits::StopTimeout,
    network::Interface,
};

impl Driver {
    /// What the host has.
    ///
    /// # Errors
    /// Docker's.
    pub async fn host(&self) -> Result<HostResources, Error> {
        Ok(self.docker.host().await?)
    }

    /// Whether Docker takes new connections: one that is about to end answers on the old ones only.
    ///
    /// # Errors
    /// Docker's.
    pub async fn takes_connections(&self) -> Result<(), Error> {
        Ok(self.docker.takes_connections().await?)
    }

    /// What happens to guests and to Docker, from now on.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + use<> {
        self.docker.events()
    }

    /// Every guest that has a container here.
    ///
    /// # Errors
    /// Docker's.
    pub async fn guests(&self) -> Result<Vec<GuestSummary>, Error> {
        Ok(self.docker.list().await?)
    }

    /// Every guest that has a namespace or a switch port here.
    ///
    /// # Errors
    /// Open vSwitch's or the kernel's.
    pub async fn plugged(&self) -> Result<Vec<Uuid>, Error> {
        Ok(self.plumber.list().await?)
    }

    /// One guest; none when it has no container.
    ///
    /// # Errors
    /// Docker's.
    pub async fn guest(&self, uuid: Uuid) -> Result<Option<GuestSummary>, Error> {
        Ok(self.docker.summary(uuid).await?)
    }

    /// What a guest's container is doing; none when there is none.
    ///
    /// # Errors
    /// Docker's.
    pub async fn power_state(&self, uuid: Uuid) -> Result<Option<PowerState>, Error> {
        Ok(self.docker.state(uuid).await?)
    }

    /// Whether a guest was given configs and secrets that are not on this host any more.
    ///
    /// # Errors
    /// Docker's.
    pub async fn lacks_given(&self, uuid: Uuid) -> Result<bool, Error> {
        Ok(self.docker.lacks_given(uuid).await?)
    }

    /// Gives a guest the configs and secrets that its user data has, if it lacks them.
    ///
    /// # Errors
    /// The host's.
    pub async fn give_again(&self, uuid: Uuid, user_data: &str) -> Result<(), Error> {
        if !self.lacks_given(uuid).await? {
            return Ok(());
        }
        Ok(self.docker.give_again(uuid, &Configuration::given_by(user_data)).await?)
    }

    /// Whether a guest is down that Docker would have started again, had it not been stopped itself.
    ///
    /// # Errors
    /// Docker's.
    pub async fn is_to_restart(&self, uuid: Uuid) -> Result<bool, Error> {
        Ok(self.docker.is_to_restart(uuid).await?)
    }

    /// The last `lines` lines that a guest has written; all that is kept when none.
    ///
    /// # Errors
    /// There is no such guest.
    pub async fn console(&self, uuid: Uuid, lines: Option<usize>) -> Result<String, Error> {
        Ok(self.docker.console(uuid, lines).await?)
    }

    /// Whether a guest has a config drive.
    pub fn has_config_drive(&self, uuid: Uuid) -> bool {
        self.docker.has_config_drive(uuid)
    }

    /// Writes the config drive that a guest will see whose container is about to be made. It goes with the guest's last container.
    ///
    /// # Errors
    /// The host's.
    pub async fn write_config_drive(&self, uuid: Uuid, drive: ConfigDrive) -> Result<(), Error> {
        Ok(self.docker.write_config_drive(uuid, drive).await?)
    }

    /// Sets the password of an account in a guest, running or not.
    ///
    /// # Errors
    /// There is no such guest; [`docker::Error::Lacking`] when it has no such account.
    pub async fn set_password(&self, uuid: Uuid, user: &str, password: &Password) -> Result<(), Error> {
        Ok(self.docker.set_password(uuid, user, password).await?)
    }

    /// Stops a guest; it has `timeout` to end by itself.
    ///
    /// # Errors
    /// There is no such guest.
    pub async fn stop(&self, uuid: Uuid, timeout: StopTimeout) -> Result<(), Error> {
        Ok(self.docker.stop(uuid, timeout).await?)
    }

    /// As [`stop`](Self::stop); a guest that still runs after `limit` is killed.
    ///
    /// # Errors
    /// There is no such guest.
    pub async fn stop_within(&self, uuid: Uuid, timeout: StopTimeout, limit: Duration) -> Result<(), Error> {
        Ok(self.docker.stop_within(uuid, timeout, limit).await?)
    }

    /// Freezes a guest's processes.
    ///
    /// # Errors
    /// There is no such guest.
    pub async fn pause(&self, uuid: Uuid) -> Result<(), Error> {
        Ok(self.docker.pause(uuid).await?)
    }

    /// Lets a guest's processes go on.
    ///
    /// # Errors
    /// There is no such guest.
    pub async fn unpause(&self, uuid: Uuid) -> Result<(), Error> {
        self.docker.unpause(uuid).await?;
        // Its interfaces were down, as before a start.
        self.tell_neighbours(uuid, false).await;
        Ok(())
    }

    /// Removes the named volumes that nobody has used for as long as an operator wants to keep them.
    ///
    /// # Errors
    /// Docker's.
    pub async fn reap_volumes(&self) -> Result<(), Error> {
        self.volumes.reap().await
    }

    /// Removes a guest's namespace and switch ports; what is absent is fine.
    ///
    /// # Errors
    /// Open vSwitch's or the kernel's.
    pub async fn unplug(&self, uuid: Uuid) -> Result<(), Error> {
        let _lock = self.plugging.lock(uuid).await;
        Ok(self.plumber.unplug(uuid, &[]).await?)
    }

    /// Tells the neighbours of a guest whose ports were wired just now which MAC addresses its addresses have.
    pub async fn announce(&self, uuid: Uuid) {
        self.tell_neighbours(uuid, true).await;
    }

    pub(super) async fn tell_neighbours(&self, uuid: Uuid, anew: bool) {
        if let Err(error) = self.plumber.announce(uuid, anew).await {
            warn!(instance = %uuid, %error, "neighbours may look for the instance's addresses at the old place for a while");
        }
    }

    /// Starts a container that is plugged. One that never ran before is watched for so long.
    ///
    /// # Errors
    /// It does not start, or ended while it was watched.
    pub async fn start_guest(&self, uuid: Uuid, watch: Duration) -> Result<(), Error> {
        let is_first = self.docker.start(uuid).await?;
        // Its interfaces are up now, and what came while they were down nobody has heard.
        self.tell_neighbours(uuid, false).await;
        if is_first {
            self.docker.run_script(uuid);
            self.docker.started_well(uuid, watch).await?;
        }
        Ok(())
    }

    /// Why the last run of a container was shorter than `grace`; none when it was not, or runs.
    ///
    /// # Errors
    /// There is no such guest.
    pub async fn short_run(&self, uuid: Uuid, grace: Duration) -> Result<Option<Error>, Error> {
        Ok(self.docker.short_run(uuid, grace).await?.map(Error::from))
    }

    /// Plugs what is not plugged (the host may have been restarted) and starts the container. One that never ran before must run
    /// for the host's `build_grace_seconds`.
    ///
    /// # Errors
    /// There is no such guest, it cannot be plugged, does not start, or ended at once.
    pub async fn power_on(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        self.plug(uuid, interfaces).await?;
        self.start_guest(uuid, self.build_grace).await
    }

    /// Plugs what is not plugged of a guest that has a container, and brings what is plugged to what `interfaces`, all of the
    /// guest's, say. Nobody would ever unplug one that has no container.
    ///
    /// # Errors
    /// There is no such guest, or an interface cannot be plugged.
    pub async fn plug(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        let _lock = self.plugging.lock(uuid).await;
        self.check_container(uuid).await?;
        self.plug_locked(uuid, interfaces).await
    }

    /// As [`plug`](Self::plug) for a guest that is plugged; another one has the interfaces when it is started.
    ///
    /// # Errors
    /// An interface cannot be brought to what it shall be.
    pub async fn follow(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        let _lock = self.plugging.lock(uuid).await;
        if self.docker.state(uuid).await?.is_none() || !self.plumber.is_plugged(uuid)? {
            return Ok(());
        }
        self.plug_locked(uuid, interfaces).await
    }

    async fn plug_locked(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        self.declare(uuid).await?;
        self.plumber.plug(uuid, interfaces).await?;
        // The network is right, and that is what counts.
        if let Err(error) = self.docker.update_network_files(uuid, interfaces).await {
            warn!(instance = %uuid, %error, "cannot bring resolv.conf and hosts to what the network is now");
        }
        Ok(())
    }

    /// Says whether a container runs that was started before anybody wrote that down.
    async fn declare(&self, uuid: Uuid) -> Result<(), Error> {
        if !self.plumber.is_declared(uuid).await? {
            let runs = self.docker.state(uuid).await? == Some(PowerState::Running);
            self.plumber.declare(uuid, runs).await?;
        }
        Ok(())
    }

    async fn check_container(&self, uuid: Uuid) -> Result<(), Error> {
        match self.docker.state(uuid).await? {
            Some(_) => Ok(()),
            None => Err(docker::Error::NotFound { what: format!("the container of instance {uuid}") }.into()),
        }
    }

    /// Plugs one more interface into a guest, running or not, and returns its name inside. A default route that there is stays.
    ///
    /// # Errors
    /// There is no such guest, or the interface cannot be plugged.
    pub async fn attach(&self, uuid: Uuid, interface: Interface) -> Result<String, Error> {
        let _lock = self.plugging.lock(uuid).await;
        self.check_container(uuid).await?;
        self.declare(uuid).await?;
        let plugged = self.plumber.plug(uuid, &[interface]).await?;
        Ok(plugged.into_iter().map(|interface| interface.name).collect())
    }

    /// Unplugs one interface of a guest. One that is not plugged, or not into this guest, stays what it is.
    ///
    /// # Errors
    /// Open vSwitch's or the kernel's.
    pub async fn detach(&self, uuid: Uuid, port: Uuid) -> Result<(), Error> {
        let _lock = self.plugging.lock(uuid).await;
        Ok(self.plumber.unplug_port(uuid, port).await?)
    }

    /// Plugs the only interface of a guest that does not run once more, so that its port is new to whoever wires it. `unplugged` is
    /// called when the old plug has ended. Of one of several, the way out would lead through another one, and stay there.
    ///
    /// # Errors
    /// Open vSwitch's or the kernel's: the port may be unplugged.
    pub async fn plug_anew(&self, uuid: Uuid, only: &Interface, unplugged: impl FnOnce()) -> Result<(), Error> {
        let _lock = self.plugging.lock(uuid).await;
        self.plumber.unplug_port(uuid, only.port_id).await?;
        unplugged();
        self.plumber.plug(uuid, std::slice::from_ref(only)).await?;
        Ok(())
    }

    /// Both that an instance may have. Docker's names of the named volumes that stay.
    async fn remove_containers(&self, uuid: Uuid) -> Result<Vec<String>, Error> {
        // Docker removes the anonymous volumes of a container that nobody else uses.
        let mut volumes = self.docker.remove(uuid).await?;
        volumes.extend(self.docker.remove_aside(uuid).await?);
        Ok(volumes)
    }

    /// Removes container, namespace and switch ports; what is absent is fine. What becomes of named volumes is up to `end`, and no
    /// failure.
    ///
    /// # Errors
    /// Everything was tried; the first failure, with the second if there were two.
    pub async fn remove(&self, uuid: Uuid, end: End) -> Result<(), Error> {
        let container = match self.remove_containers(uuid).await {
            Ok(volumes) => {
                self.volumes.ended(&volumes, end).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        let network = self.unplug(uuid).await;
        match (container, network) {
            (Err(error), Err(cleanup)) => Err(Error::Cleanup { error: Box::new(error), cleanup: cleanup.to_string() }),
            (container, network) => container.and(network),
        }
    }
}
