//! What of the gRPC contract the tests have seen, as their clients saw it.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use nova_docker_proto::DESCRIPTORS;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::transport::{Channel, Error};
use tonic_types::StatusExt;

const PACKAGE: &str = "nova_docker.v1";
const REASON: &str = "ERROR_REASON_";
/// What no client can see where there is no CRIU, and why.
const UNSEEN: [(&str, &str); 1] = [("CANCELLED", "a suspension to disk ends so when its guest is deleted")];

static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A connection that records the methods that were not refused, and the reasons of failures.
#[derive(Clone)]
pub struct Recorded(Channel);

impl Recorded {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(channel)
    }
}

impl Service<Request<Body>> for Recorded {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            match Status::from_header_map(answer.headers()) {
                Some(_) => see_reason(answer.headers()),
                None => see(method),
            }
            // A failure after the first message comes behind the last one.
            Ok(answer.map(|body| {
                Body::new(body.map_frame(|frame| {
                    frame.trailers_ref().into_iter().for_each(see_reason);
                    frame
                }))
            }))
        })
    }
}

fn see(what: String) {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
}

fn see_reason(headers: &HeaderMap) {
    let info = Status::from_header_map(headers).and_then(|status| status.get_details_error_info());
    info.into_iter().for_each(|info| see(info.reason));
}

/// What the contract has: methods as `PACKAGE.SERVICE/METHOD`, and reasons.
pub fn contract() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors").file;
    let ours = files.iter().filter(|file| file.package() == PACKAGE);
    let services = ours.clone().flat_map(|file| &file.service);
    let methods = services.flat_map(|service| {
        service.method.iter().map(|method| format!("{PACKAGE}.{}/{}", service.name(), method.name()))
    });
    let reasons = ours.flat_map(|file| &file.enum_type).filter(|kind| kind.name() == "ErrorReason");
    let reasons = reasons.flat_map(|kind| &kind.value).filter(|value| value.number() != 0);
    methods.chain(reasons.map(|reason| reason.name().trim_start_matches(REASON).to_owned())).collect()
}

/// After all tests: what of the contract none of them has seen, and what stands wrongly among the exceptions; as lines. `has_criu`:
/// whether those of suspend to disk were among them.
pub fn complaints(has_criu: bool) -> Vec<String> {
    let unseen = if has_criu { &[][..] } else { &UNSEEN };
    compare(&contract(), &SEEN.lock().unwrap_or_else(PoisonError::into_inner), unseen)
}

/// What of `contract` is neither seen nor excepted, and which exceptions are wrong.
pub fn compare(contract: &BTreeSet<String>, seen: &BTreeSet<String>, unseen: &[(&str, &str)]) -> Vec<String> {
    let excepted: BTreeSet<String> = unseen.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missed = contract.iter().filter(|name| !seen.contains(*name) && !excepted.contains(*name));
    let missed = missed.map(|name| format!("no test has seen {name}"));
    let wrong = excepted.iter().filter(|name| seen.contains(*name) || !contract.contains(*name));
    let wrong = wrong.map(|name| format!("{name} was seen, or is not in the contract: it is no exception"));
    missed.chain(wrong).collect()
}
