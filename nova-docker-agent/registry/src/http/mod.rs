//! What the registries of a host and of a cloud have in common of HTTP.
//!
//! ```text
//! listener     connections: how many (seats), TLS, how slow each may be (pace), the end of all
//! endpoint     the path of a request
//! auth         HTTP Basic
//! content      manifests and blobs as answers, or parts of them
//! error        refusals
//! access_log   one line for each request
//! unread_body  what a refused client still sends
//! ```

pub mod access_log;
pub mod auth;
pub mod content;
pub mod endpoint;
pub mod error;
pub mod listener;
pub mod pace;
mod seats;
pub mod unread_body;

use std::borrow::Cow;

use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use url::form_urlencoded;

pub use seats::{client, one_client};

/// Says that this is a registry. dockerd looks for it on every answer.
pub const API_VERSION: (HeaderName, &str) =
    (HeaderName::from_static("docker-distribution-api-version"), "registry/2.0");

/// An answer in JSON.
pub fn json(value: impl ToString) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// The values of a parameter of a query.
pub fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    pairs.filter(move |(key, _)| key == name).map(|(_, value)| value)
}

/// The value of a header, if it is text.
pub fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// How many bytes the body has, where its sender says.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    header(headers, CONTENT_LENGTH)?.parse().ok()
}

/// Whether a method changes nothing.
pub fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
