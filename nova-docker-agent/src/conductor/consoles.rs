//! What lets users into consoles: tokens, of which Nova keeps a hash.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Conductor, kwargs, malformed};
use crate::{
    console::Access,
    messaging::{CallError, Context},
    objects::Object,
};

const CLASS: &str = "ConsoleAuthToken";

impl Conductor {
    /// Makes a token that opens an instance's console for as long as `life`. `url` is where users reach the proxy.
    pub async fn authorize_console(
        &self,
        context: &Context,
        uuid: &str,
        console_type: &str,
        access: &Access,
        url: &str,
        life: Duration,
    ) -> Result<String, CallError> {
        let mut token = Object::new(CLASS, "1.1");
        token.set("console_type", console_type);
        token.set("host", access.host.as_str());
        token.set("port", access.port);
        token.set("internal_access_path", access.internal_access_path.as_str());
        token.set("instance_uuid", uuid);
        token.set("access_url_base", url);
        let args = vec![life.as_secs().into()];
        let made = self.object_action(context, &mut token, "authorize", args, Map::new()).await?;
        made.as_str().map(str::to_owned).ok_or_else(|| malformed("ConsoleAuthToken.authorize", "there is no token"))
    }

    /// Revokes the console URLs of an instance.
    pub async fn clean_console_auths(&self, context: &Context, uuid: &str) -> Result<(), CallError> {
        let args: Vec<Value> = vec![uuid.into()];
        self.class_action(context, CLASS, "clean_console_auths_for_instance", args, kwargs([])).await.map(drop)
    }

    /// Removes the tokens of all instances that have expired.
    pub async fn clean_expired_console_auths(&self, context: &Context) -> Result<(), CallError> {
        self.class_action(context, CLASS, "clean_expired_console_auths", vec![], kwargs([])).await.map(drop)
    }
}
