//! From an RPC method to its operation, or to its refusal.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tracing::{Instrument as _, debug, info_span};

use super::{Compute, defect::caught_or, error::Error, operation::Operation};
use crate::messaging::{Endpoint, Failure, Handler, Request};

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
                caught_or(compute.dispatch(request), |defect| Err(defect.to_failure())).await
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
        let result = match Operation::parse(&method, args) {
            Ok(Some(operation)) => operation.run(self, &context).await,
            Ok(None) => return Err(Failure::no_such_method(&method)),
            Err(error) => Err(error),
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
}
