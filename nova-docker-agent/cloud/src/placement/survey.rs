//! Placement, as an operator asks about it.

use serde::Deserialize;

use super::{Placement, ResourceProvider};
use crate::client::Call;
use crate::{Caller, Error, Greeting};

impl Placement {
    /// What placement says of itself to anybody.
    ///
    /// # Errors
    /// [`Error`] of placement.
    pub async fn greeting(&self) -> Result<Greeting, Error> {
        self.rest.greeting().await
    }

    /// The resource provider of this name.
    ///
    /// # Errors
    /// [`Error`] of placement.
    pub async fn provider_named(&self, caller: &Caller, name: &str) -> Result<Option<ResourceProvider>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            resource_providers: Vec<ResourceProvider>,
        }
        let call = Call::get("/resource_providers").query(&[("name", name)]);
        Ok(self.json::<Answer>(caller, "1.20", call).await?.resource_providers.into_iter().next())
    }
}
