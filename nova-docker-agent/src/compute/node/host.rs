//! Calls about this host, of no instance.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::compute::{Compute, arguments::Arguments, error::Error, operation::Method};
use crate::{cloud::Caller, messaging::Context};

/// `set_host_enabled`. Nova's API has changed the service's row already; the scheduler looks at the trait.
pub(in crate::compute) struct SetHostEnabled {
    enabled: bool,
}

impl Method for SetHostEnabled {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { enabled: arguments.flag("enabled", true) })
    }

    async fn run(self, compute: Arc<Compute>, _: &Context) -> Result<Value, Error> {
        let _status = compute.status.lock().await;
        compute.sync_traits(&Caller::own(), !self.enabled).await?;
        Ok(if self.enabled { "enabled" } else { "disabled" }.into())
    }
}

/// `cache_images`. Pulling images ahead of a launch is not offered; Nova's word for that is `unsupported`.
pub(in crate::compute) struct CacheImages {
    images: Vec<String>,
}

impl Method for CacheImages {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        let images = arguments.get("image_ids").and_then(Value::as_array);
        let images = images.into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned)).collect();
        Ok(Self { images })
    }

    async fn run(self, _: Arc<Compute>, _: &Context) -> Result<Value, Error> {
        Ok(self.images.into_iter().map(|id| (id, json!("unsupported"))).collect::<Map<_, _>>().into())
    }
}

/// `check_instance_shared_storage`: there is none.
pub(in crate::compute) struct CheckSharedStorage;

impl Method for CheckSharedStorage {
    fn parse(_: Arguments) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(self, _: Arc<Compute>, _: &Context) -> Result<Value, Error> {
        Ok(json!(false))
    }
}
