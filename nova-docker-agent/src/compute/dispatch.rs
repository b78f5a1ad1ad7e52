//! From an RPC method to its operation, or to its refusal.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};
use tracing::{Instrument as _, debug, info_span};

use super::{
    Compute,
    arguments::instance_uuid,
    arguments::{flag, instance_argument, text},
    error::Error,
    instance::request::BuildRequest,
    ports::attach,
    refusal::table::refusal,
};
use crate::{
    messaging::{Context, Endpoint, Failure, Handler, Request},
    objects::Instance,
};

/// What Nova's RPC clients may ask for: the compute API that this service's version promises, and the base API.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::new(None, "6.5"), Endpoint::new(Some("baseapi"), "1.1")]
}

/// The compute service as a server of RPC requests.
pub(super) struct Dispatcher(pub Arc<Compute>);

impl Handler for Dispatcher {
    fn handle(&self, request: Request) -> BoxFuture<'static, Result<Value, Failure>> {
        let compute = self.0.clone();
        let span = info_span!("rpc", method = request.method, request_id = request.context.request_id());
        Box::pin(
            async move {
                if request.namespace.as_deref() == Some("baseapi") {
                    return base_api(&request);
                }
                compute.dispatch(request).await
            }
            .instrument(span),
        )
    }
}

fn base_api(request: &Request) -> Result<Value, Failure> {
    match request.method.as_str() {
        "ping" => Ok(json!({"service": "compute", "arg": request.args.get("arg")})),
        "get_backdoor_port" => Ok(Value::Null),
        other => Err(Failure::no_such_method(other)),
    }
}

impl Compute {
    async fn dispatch(self: Arc<Self>, request: Request) -> Result<Value, Failure> {
        let Request { context, method, args, is_call, .. } = request;
        let result = match method.as_str() {
            "external_instance_event" => self.external_instance_event(&args).await,
            "set_host_enabled" => self.set_host_enabled(&args).await,
            "cache_images" => Ok(cache_images(&args)),
            "check_instance_shared_storage" => Ok(json!(false)),
            "validate_console_port" => Ok(json!(false)),
            method => match self.on_instance(&context, method, args).await {
                Some(result) => result,
                None => return Err(Failure::no_such_method(method)),
            },
        };
        match result {
            // Nobody waits for an answer, and Nova has been told what happened to the instance.
            Err(error) if !is_call && !matches!(error, Error::BadRequest { .. }) => {
                debug!(%error, "a cast failed");
                Ok(Value::Null)
            }
            result => result.map_err(|error| error.to_failure()),
        }
    }

    /// Methods that work on one instance; none when there is no such method.
    async fn on_instance(
        self: Arc<Self>,
        context: &Context,
        method: &str,
        mut args: Map<String, Value>,
    ) -> Option<Result<Value, Error>> {
        let instance = match method {
            "build_and_run_instance"
            | "terminate_instance"
            | "stop_instance"
            | "start_instance"
            | "reboot_instance"
            | "pause_instance"
            | "unpause_instance"
            | "snapshot_instance"
            | "attach_interface"
            | "detach_interface"
            | "get_console_output"
            | "inject_network_info" => instance_argument(method, &mut args),
            method => {
                let refusal = refusal(method)?;
                return Some(self.refuse(context, method, refusal, args).await);
            }
        };
        let instance = match instance {
            Ok(instance) => instance,
            Err(error) => return Some(Err(error)),
        };
        Some(self.operation(context, method, instance, args).await)
    }

    async fn operation(
        self: Arc<Self>,
        context: &Context,
        method: &str,
        instance: Instance,
        args: Map<String, Value>,
    ) -> Result<Value, Error> {
        let done = match method {
            "get_console_output" => return self.console_output(&instance, args.get("tail_length")).await,
            "attach_interface" => return self.attach_interface(context, &instance, attach::wanted(&args)?).await,
            "detach_interface" => self.detach_interface(context, &instance, &text(&args, "port_id", method)?).await,
            "build_and_run_instance" => self.build(context, BuildRequest::new(instance, args)?).await,
            "terminate_instance" => self.terminate(context, instance).await,
            "stop_instance" => self.stop(context, instance, flag(&args, "clean_shutdown", true)).await,
            "start_instance" => self.start(context, instance).await,
            "reboot_instance" => {
                let hard = args.get("reboot_type").and_then(Value::as_str) == Some("HARD");
                self.reboot(context, instance, hard).await
            }
            "pause_instance" => self.pause(context, instance).await,
            "unpause_instance" => self.unpause(context, instance).await,
            "snapshot_instance" => self.snapshot(context, instance, text(&args, "image_id", method)?).await,
            _ => self.inject_network_info(instance).await,
        };
        done.map(|()| Value::Null)
    }

    /// Nova's API has changed the service's row already; the scheduler looks at the trait.
    async fn set_host_enabled(&self, args: &Map<String, Value>) -> Result<Value, Error> {
        let enabled = flag(args, "enabled", true);
        let _status = self.status.lock().await;
        self.sync_traits(&crate::cloud::Caller::own(), !enabled).await?;
        Ok(if enabled { "enabled" } else { "disabled" }.into())
    }

    async fn inject_network_info(&self, instance: Instance) -> Result<(), Error> {
        self.refresh_network_info(instance_uuid(&instance)?).await
    }
}

/// Pulling images ahead of a launch is not offered yet; Nova's word for that is `unsupported`.
fn cache_images(args: &Map<String, Value>) -> Value {
    let images = args.get("image_ids").and_then(Value::as_array).cloned().unwrap_or_default();
    images.iter().filter_map(|id| Some((id.as_str()?.to_owned(), json!("unsupported")))).collect::<Map<_, _>>().into()
}
