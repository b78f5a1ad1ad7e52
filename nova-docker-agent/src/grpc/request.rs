//! The metadata of a call.

use secrecy::SecretString;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::cloud::Caller;

const REQUEST_ID: &str = "x-openstack-request-id";
const TOKEN: &str = "x-auth-token";
/// `req-` and a UUID, and room for those who do it differently.
const REQUEST_ID_CHARS: usize = 64;

/// The caller's request id; a new one where there is none that may stand in a log.
pub(super) fn request_id(metadata: &MetadataMap) -> String {
    let given = metadata.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let harmless = |id: &&str| {
        (1..=REQUEST_ID_CHARS).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    given.filter(harmless).map_or_else(|| format!("req-{}", Uuid::new_v4()), str::to_owned)
}

/// The user whose token came with the call, or the agent itself.
pub(super) fn caller(metadata: &MetadataMap) -> Caller {
    let id = request_id(metadata);
    match metadata.get(TOKEN).and_then(|value| value.to_str().ok()).filter(|token| !token.is_empty()) {
        Some(token) => Caller::user(SecretString::from(token.to_owned()), id),
        None => Caller::service(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(id: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(REQUEST_ID, id.parse().unwrap());
        metadata
    }

    #[test]
    fn the_callers_request_id_is_kept_unless_it_would_spoil_a_log() {
        assert_eq!(request_id(&metadata("req-12ab")), "req-12ab");
        for bad in ["", "req 1", "req-\u{7f}1", &"x".repeat(65)] {
            let Ok(value) = bad.parse() else { continue };
            let mut metadata = MetadataMap::new();
            metadata.insert(REQUEST_ID, value);
            assert!(request_id(&metadata).starts_with("req-") && request_id(&metadata) != bad, "{bad:?}");
        }
    }
}
