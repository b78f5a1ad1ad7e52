//! From an RPC method to its operation, or to its refusal.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};
use tracing::{Instrument as _, debug, info_span};
use uuid::Uuid;

use super::{
    Compute,
    admission::{admission, is_operation},
    defect::caught_or,
    error::Error,
    operation::Operation,
};
use crate::{
    conductor::unless_in_doubt,
    messaging::{Admission, Endpoint, Failure, Handler, Request},
};

/// What Nova's RPC clients may ask for: the compute API that this service's version promises, and the base API.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::new(None, "6.5"), Endpoint::new(Some("baseapi"), "1.1")]
}

/// The compute service as a server of RPC requests.
pub(super) struct Dispatcher(pub Arc<Compute>);

impl Handler for Dispatcher {
    fn admission(&self, request: &Request) -> Admission {
        if let Some(instance) = addressed(&request.args) {
            self.0.arrivals.note(instance, request.context.request_id());
        }
        admission(request)
    }

    fn handle(&self, request: Request) -> BoxFuture<'static, Result<Value, Failure>> {
        let compute = self.0.clone();
        let span = info_span!("rpc", method = request.method, request_id = request.context.request_id());
        Box::pin(
            async move {
                if request.namespace.as_deref() == Some("baseapi") {
                    return base_api(&request);
                }
                let dispatched = caught_or(compute.dispatch(request), |defect| Err(defect.to_failure()));
                unless_in_doubt(dispatched).await.unwrap_or_else(|| Err(given_up()))
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

fn given_up() -> Failure {
    let words = "given up: nobody knows what has become of a change, and the agent stops; its next start looks";
    Error::exception("NovaException", words, Value::Null).to_failure()
}

impl Compute {
    async fn dispatch(self: Arc<Self>, request: Request) -> Result<Value, Failure> {
        let Request { context, method, args, is_call, .. } = request;
        let instance = addressed(&args);
        let operation = match Operation::parse(&method, args) {
            Ok(Some(operation)) => Ok(operation),
            Ok(None) => return Err(Failure::no_such_method(&method)),
            Err(error) => Err(error),
        };
        if let Some(instance) = instance {
            if let Ok(operation) = &operation {
                operation.clear_the_way(&self).await;
            }
            self.recovered(instance).await;
            if is_operation(&method) {
                self.arrivals.begin(instance);
            }
        }
        let result = match operation {
            Ok(operation) => operation.run(self, &context).await,
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

/// The instance that a request is about; none for those about the host.
fn addressed(args: &Map<String, Value>) -> Option<Uuid> {
    Uuid::parse_str(args.get("instance")?.pointer("/nova_object.data/uuid")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Instance;

    #[test]
    fn a_request_waits_for_the_recovery_of_the_instance_that_it_names() {
        let uuid = "6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8";
        let instance = Instance::slim(uuid).into_object().to_value();
        let args = Map::from_iter([("instance".to_owned(), instance)]);
        assert_eq!(addressed(&args), Uuid::parse_str(uuid).ok());
        assert_eq!(addressed(&Map::new()), None);
    }
}
