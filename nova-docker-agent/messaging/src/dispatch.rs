//! Which endpoint a request is for, how a request for none is answered, and which requests came before.

use std::collections::{HashSet, VecDeque};

use super::{Endpoint, Failure, Request};

/// How many unique ids are remembered. A connection that breaks may take the acknowledgements of all requests with it that
/// began shortly before; oslo.messaging remembers 16, which are fewer than it executes at a time.
const MEMORY: usize = 1024;

/// Says whether one of the endpoints serves the request.
///
/// # Errors
/// What the caller gets when none does.
pub(super) fn dispatch(endpoints: &[Endpoint], request: &Request) -> Result<(), Failure> {
    let served = endpoints
        .iter()
        .any(|endpoint| endpoint.namespace == request.namespace && compatible(&endpoint.version, &request.version));
    if !served {
        return Err(Failure::unsupported_version(&request.version, &request.method));
    }
    // Names that are private in Python are no methods of an interface.
    if request.method.starts_with('_') { Err(Failure::no_such_method(&request.method)) } else { Ok(()) }
}

/// Asks whether the server is alive (oslo.messaging, `PingEndpoint`).
pub(super) fn is_ping(request: &Request) -> bool {
    request.method == "oslo_rpc_server_ping" && request.namespace.is_none() && compatible("1.0", &request.version)
}

/// The same major version, and at most the minor version that is offered.
fn compatible(offered: &str, requested: &str) -> bool {
    match (version(offered), version(requested)) {
        (Some((major, minor)), Some((wanted_major, wanted_minor))) => major == wanted_major && wanted_minor <= minor,
        _ => false,
    }
}

/// `x.y` or `x.y.z`; the third part is of no importance.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.splitn(3, '.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        (Some(Ok(major)), None) => Some((major, 0)),
        _ => None,
    }
}

/// The unique ids of the last requests. A broker, or a sender that lost its connection, may deliver a request twice.
#[derive(Default)]
pub(super) struct Duplicates {
    known: HashSet<String>,
    /// The oldest first.
    seen: VecDeque<String>,
}

impl Duplicates {
    /// Remembers an id; true when it was known.
    pub(super) fn check(&mut self, unique_id: &str) -> bool {
        if unique_id.is_empty() {
            return false;
        }
        if !self.known.insert(unique_id.to_owned()) {
            return true;
        }
        if self.seen.len() == MEMORY
            && let Some(oldest) = self.seen.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.seen.push_back(unique_id.to_owned());
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::Context;

    fn request(namespace: Option<&str>, version: &str, method: &str) -> Request {
        Request {
            context: Context::admin(),
            method: method.to_owned(),
            args: Map::new(),
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
            unique_id: String::new(),
            is_call: true,
        }
    }

    #[test]
    fn minor_versions_up_to_the_offered_one_are_served() {
        let endpoints = [Endpoint::new(None, "6.5"), Endpoint::new(Some("baseapi"), "1.1")];
        for (namespace, version) in
            [(None, "6.0"), (None, "6.5"), (None, "6"), (None, "6.4.9"), (Some("baseapi"), "1.0")]
        {
            assert_eq!(dispatch(&endpoints, &request(namespace, version, "m")), Ok(()), "{namespace:?} {version}");
        }
        for (namespace, version) in
            [(None, "6.6"), (None, "5.0"), (None, "x"), (Some("baseapi"), "6.0"), (Some("y"), "6.0")]
        {
            let failure = dispatch(&endpoints, &request(namespace, version, "m")).unwrap_err();
            assert_eq!(failure.class, "UnsupportedVersion", "{namespace:?} {version}");
            assert_eq!(failure.module, "oslo_messaging.rpc.dispatcher");
        }
    }

    #[test]
    fn a_ping_is_of_the_first_version_and_of_no_namespace() {
        assert!(is_ping(&request(None, "1.0", "oslo_rpc_server_ping")));
        assert!(!is_ping(&request(None, "1.0", "ping")));
        assert!(!is_ping(&request(None, "2.0", "oslo_rpc_server_ping")));
        assert!(!is_ping(&request(Some("baseapi"), "1.0", "oslo_rpc_server_ping")));
    }

    #[test]
    fn private_methods_are_no_methods() {
        let failure = dispatch(&[Endpoint::new(None, "6.5")], &request(None, "6.0", "_destroy")).unwrap_err();
        assert_eq!(failure.class, "NoSuchMethod");
    }

    #[test]
    fn ids_are_remembered_until_a_thousand_came_after_them() {
        let mut duplicates = Duplicates::default();
        for id in 0..=MEMORY {
            assert!(!duplicates.check(&id.to_string()));
        }
        assert!(duplicates.check(&MEMORY.to_string()) && duplicates.check("1"));
        assert!(!duplicates.check("0"), "the oldest is forgotten");
        assert!(!duplicates.check("") && !duplicates.check(""), "messages without an id are no duplicates");
    }
}
