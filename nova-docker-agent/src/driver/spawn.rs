//! A new guest: image and network at the same time, then the container.

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Driver, Error};
use crate::{
    cloud::Caller,
    docker,
    guest::Guest,
    network::Interface,
    registry::{ImageDescriptor, Lease},
};

/// The image of a new guest, read with the rights of its caller.
pub struct Image<'a> {
    pub caller: Caller,
    pub descriptor: &'a ImageDescriptor,
    /// Whether it must fit on the flavor's disk; what a guest has written itself has been there before.
    pub is_bounded: bool,
}

impl Image<'_> {
    /// GiB that the image may take for this guest; 0 is unlimited.
    pub(super) fn most_gb(&self, guest: &Guest) -> u64 {
        if self.is_bounded { guest.root_gb } else { 0 }
    }
}

impl Driver {
    /// Makes a guest; started it is not. Docker pulls the image while `network` makes the interfaces and plugs them with
    /// [`plug_new`](Self::plug_new). `pulled` runs as soon as the image is there. Returns what `network` has besides the
    /// interfaces.
    ///
    /// Whichever fails first stops the pull. `network` always comes to its end: dropped half-way, it could finish after it
    /// was undone.
    ///
    /// # Errors
    /// The network's, the image's, Docker's; [`Error::Cancelled`] once `stop` is. What was made before is still there:
    /// [`remove`](Self::remove) undoes it.
    pub async fn spawn<T, E: From<Error>>(
        &self,
        guest: &Guest,
        image: Image<'_>,
        pulled: impl Future<Output = ()>,
        network: impl Future<Output = Result<(Vec<Interface>, T), E>>,
        stop: &CancellationToken,
    ) -> Result<T, E> {
        self.check_asked(guest)?;
        let _images = self.use_images().await;
        let stop_pull = stop.child_token();
        let (lease, network) = tokio::join!(
            async {
                let lease = self.pull_until(guest, image, &stop_pull).await?;
                pulled.await;
                Ok::<_, Error>(lease)
            },
            async { network.await.inspect_err(|_| stop_pull.cancel()) },
        );
        let (interfaces, rest) = network?;
        let lease = lease?;
        check(guest.uuid, stop)?;
        self.docker.create(guest, &lease.reference.name, &interfaces).await.map_err(Error::from)?;
        check(guest.uuid, stop)?;
        Ok(rest)
    }

    /// What can be said of a guest before anything of it is made.
    pub(super) fn check_asked(&self, guest: &Guest) -> Result<(), Error> {
        docker::check_volumes(guest)?;
        self.docker.lacks(guest).map_or(Ok(()), |lack| Err(Error::Unsupported(lack)))
    }

    async fn pull_until(&self, guest: &Guest, image: Image<'_>, stop: &CancellationToken) -> Result<Lease, Error> {
        let most_gb = image.most_gb(guest);
        tokio::select! {
            () = stop.cancelled() => Err(Error::Cancelled(guest.uuid)),
            lease = Box::pin(self.pull(image.caller, image.descriptor, most_gb)) => lease,
        }
    }

    /// Plugs the interfaces of a guest that has no container yet.
    ///
    /// # Errors
    /// An interface cannot be plugged.
    pub async fn plug_new(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        let _lock = self.plugging.lock(uuid).await;
        self.plumber.declare(uuid, false).await?;
        self.plumber.plug(uuid, interfaces).await?;
        Ok(())
    }
}

fn check(guest: Uuid, stop: &CancellationToken) -> Result<(), Error> {
    if stop.is_cancelled() { Err(Error::Cancelled(guest)) } else { Ok(()) }
}
