//! Reads answers, and the many forms of errors of OpenStack services.

use futures::StreamExt;
use reqwest::Response;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;
use super::tls::reason;

/// How much of an error page is read, and how much of its text is kept.
const MAX_ERROR_BODY: usize = 64 * 1024;
const MAX_MESSAGE: usize = 1000;
/// Of an answer: users write into many of them, as properties of images.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// What was asked of whom; becomes part of every error.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) service: &'static str,
    pub(super) method: String,
    pub(super) path: String,
}

impl Asked {
    pub(super) fn unreachable(self, reason: impl Into<String>) -> Error {
        Error::Unreachable { service: self.service, method: self.method, path: self.path, reason: reason.into() }
    }

    pub(super) fn unexpected(self, reason: impl Into<String>) -> Error {
        Error::Unexpected { service: self.service, method: self.method, path: self.path, reason: reason.into() }
    }
}

/// The body as JSON, of at most [`MAX_BODY`] bytes.
pub(super) async fn json<T: DeserializeOwned>(response: Response, asked: Asked) -> Result<T, Error> {
    let mut body = vec![];
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) if body.len() + chunk.len() > MAX_BODY => {
                return Err(asked.unexpected(format!("more than {MAX_BODY} bytes")));
            }
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(error) => return Err(asked.unreachable(reason(&error.without_url()))),
        }
    }
    serde_json::from_slice(&body).map_err(|error| asked.unexpected(error.to_string()))
}

/// The error that an answer with an error status means.
pub(super) async fn refusal(response: Response, asked: Asked) -> Error {
    let status = response.status().as_u16();
    let request_id = header(&response, "x-openstack-request-id");
    let body = start_of_body(response).await;
    let (code, message) = explain(&body, status);
    Error::Refused { service: asked.service, method: asked.method, path: asked.path, status, code, message, request_id }
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

async fn start_of_body(response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    // A body that breaks off still explains something.
    while let Some(Ok(chunk)) = stream.next().await {
        body.extend_from_slice(&chunk);
        if body.len() >= MAX_ERROR_BODY {
            body.truncate(MAX_ERROR_BODY);
            break;
        }
    }
    body
}

/// The service's code and message of an error body.
fn explain(body: &[u8], status: u16) -> (Option<String>, String) {
    let (code, message) = match serde_json::from_slice::<Value>(body) {
        Ok(value) => explain_json(&value),
        Err(_) => (None, String::from_utf8_lossy(body).into_owned()),
    };
    // Glance puts line breaks of HTML into its JSON, placement blank lines.
    let message = html_text(&message);
    let message = if message.is_empty() { format!("status {status} without explanation") } else { message };
    (code, message.chars().take(MAX_MESSAGE).collect())
}

fn explain_json(value: &Value) -> (Option<String>, String) {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    // Neutron: {"NeutronError": {"type", "message", "detail"}}, rarely with a bare string.
    if let Some(error) = value.get("NeutronError") {
        let message = error.as_str().map(str::to_owned).or_else(|| text(error, "message")).unwrap_or_default();
        return (text(error, "type"), message);
    }
    // The API working group's form (placement): {"errors": [{"code", "detail", "title"}]}
    if let Some(error) = value.get("errors").and_then(|errors| errors.get(0)) {
        let detail = text(error, "detail").filter(|detail| !detail.trim().is_empty());
        return (text(error, "code"), detail.or_else(|| text(error, "title")).unwrap_or_default().trim().to_owned());
    }
    // Keystone: {"error": {"code": 401, "message", "title"}}; nova and others: {"badRequest": {"code": 400, "message"}}
    let nested = value.as_object().and_then(|object| object.values().find(|inner| inner.get("message").is_some()));
    let message = nested.and_then(|inner| text(inner, "message")).or_else(|| text(value, "message"));
    (None, message.unwrap_or_else(|| value.to_string()))
}

/// The words of an HTML page (glance, and web servers in front), without head, tags and line breaks. Other text keeps its words: a
/// tag begins with a letter or a slash.
fn html_text(page: &str) -> String {
    let mut rest = page.find("<body").map_or(page, |start| &page[start..]);
    let mut text = String::new();
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        let inner = &rest[start + 1..];
        let is_tag = inner.starts_with(|c: char| c == '/' || c == '!' || c.is_ascii_alphabetic());
        match inner.find('>').filter(|_| is_tag) {
            Some(end) => {
                text.push(' ');
                rest = &inner[end + 1..];
            }
            None => {
                text.push('<');
                rest = inner;
            }
        }
    }
    text.push_str(rest);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neutron_error_gives_its_type_and_message() {
        let body = br#"{"NeutronError": {"type": "IpAddressGenerationFailure", "message": "No more IP addresses available on network x.", "detail": ""}}"#;
        let (code, message) = explain(body, 409);
        assert_eq!(code.as_deref(), Some("IpAddressGenerationFailure"));
        assert_eq!(message, "No more IP addresses available on network x.");
    }

    #[test]
    fn a_placement_error_gives_its_code_and_detail() {
        let body = br#"{"errors": [{"status": 409, "title": "Conflict", "detail": "There was a conflict\n\n resource provider generation conflict  ", "code": "placement.concurrent_update", "request_id": "req-1"}]}"#;
        let (code, message) = explain(body, 409);
        assert_eq!(code.as_deref(), Some("placement.concurrent_update"));
        assert_eq!(message, "There was a conflict resource provider generation conflict");
    }

    #[test]
    fn markup_in_glances_messages_goes() {
        let body = br#"{"message": "No image found with ID x<br /><br />\n\n\n", "code": "404 Not Found", "title": "Not Found"}"#;
        assert_eq!(explain(body, 404).1, "No image found with ID x");
    }

    #[test]
    fn a_keystone_error_gives_its_message() {
        let (code, message) = explain(br#"{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}"#, 401);
        assert_eq!((code, message.as_str()), (None, "The request you have made requires authentication."));
    }

    #[test]
    fn an_html_page_gives_its_words() {
        let page = b"<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  No image found with ID x<br /><br />\n\n\n </body>\n</html>";
        assert_eq!(explain(page, 404).1, "404 Not Found No image found with ID x");
    }

    #[test]
    fn a_comparison_is_not_a_tag() {
        assert_eq!(explain(br#"{"message": "1 < 2 and 3 > 2"}"#, 400).1, "1 < 2 and 3 > 2");
    }

    #[test]
    fn an_empty_body_still_says_the_status() {
        assert!(explain(b"", 503).1.contains("503"));
    }

    #[test]
    fn a_long_error_page_is_cut() {
        assert_eq!(explain(&vec![b'x'; 10_000], 500).1.len(), MAX_MESSAGE);
    }
}
