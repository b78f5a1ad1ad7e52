//! Giving an instance's ports back.

use uuid::Uuid;

use super::{NetworkInfo, Neutron};
use crate::cloud::{Caller, Error};

/// Ports that could not be given back; all others were.
#[derive(Debug, thiserror::Error)]
#[error("{} port(s) could not be released: {}", failures.len(), failures.iter().map(|(port, error)| format!("{port}: {error}")).collect::<Vec<_>>().join("; "))]
pub struct DeallocateError {
    pub failures: Vec<(Uuid, Error)>,
}

impl Neutron {
    /// Deletes the ports that were made for an instance, and unbinds those that belong to the user: `requested_ports` (of a failed
    /// launch) and those that the cache marks `preserve_on_delete`. Ports that are gone are fine.
    ///
    /// # Errors
    /// [`DeallocateError`] with every port that failed; the others were released.
    pub async fn deallocate(
        &self,
        _caller: &Caller,
        _instance_uuid: Uuid,
        _requested_ports: &[Uuid],
        _cache: &NetworkInfo,
    ) -> Result<(), DeallocateError> {
        todo!()
    }
}
