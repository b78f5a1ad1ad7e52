//! What a service says of itself to anybody: its versions, and its clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::Client;
use reqwest::header::DATE;
use serde_json::Value;
use url::Url;

use super::Error;
use super::answer::{self, Asked};
use super::tls::reason;

/// An answer that needs no rights.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a service says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeting {
    /// Its base, without a version.
    pub url: Url,
    /// The newest version first, with its range of microversions where it has them: `v1.0 (1.0 to 1.39)`.
    pub versions: Vec<String>,
    /// The newest microversion.
    pub newest: Option<String>,
    /// How far its clock is ahead of ours, in seconds; nothing where it tells no time.
    pub ahead: Option<f64>,
}

/// Asks for the list of versions. Services answer with it whatever the status: glance says 300.
pub(super) async fn greeting(service: &'static str, http: &Client, url: Url) -> Result<Greeting, Error> {
    let asked = Asked { service, method: "GET".into(), path: url.path().into() };
    let (begun, from) = (Instant::now(), Timestamp::now());
    let answer = http.get(url.clone()).timeout(PATIENCE).send().await;
    let answer = answer.map_err(|error| asked.clone().unreachable(reason(&error.without_url())))?;
    let middle = from + jiff::SignedDuration::try_from(begun.elapsed() / 2).unwrap_or_default();
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(parse_date);
    if answer.status().is_server_error() {
        return Err(answer::refusal(answer, asked).await);
    }
    let body: Value = answer::json(answer, asked).await?;
    let (versions, newest) = versions(&body);
    Ok(Greeting { url, versions, newest, ahead: date.map(|date| ahead(date, middle)) })
}

fn parse_date(text: &str) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
}

/// The header knows whole seconds only: half of one is the best guess for the rest.
fn ahead(date: Timestamp, now: Timestamp) -> f64 {
    date.duration_since(now).as_secs_f64() + 0.5
}

/// `{"versions": [...]}`, keystone's `{"versions": {"values": [...]}}`, or one `{"version": {...}}`.
fn versions(body: &Value) -> (Vec<String>, Option<String>) {
    let list = body.pointer("/versions/values").or_else(|| body.get("versions")).and_then(Value::as_array);
    let entries: Vec<&Value> = match list {
        Some(list) => list.iter().collect(),
        None => body.get("version").into_iter().collect(),
    };
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let newest = entries.iter().find_map(|entry| text(entry, "max_version").or_else(|| text(entry, "version")));
    let newest = newest.filter(|version| !version.is_empty());
    let current = |entry: &&&Value| text(entry, "status").is_none_or(|status| status.eq_ignore_ascii_case("current"));
    let stable = |entry: &&&Value| text(entry, "status").is_some_and(|status| status.eq_ignore_ascii_case("stable"));
    let shown = entries.iter().filter(|entry| current(entry) || stable(entry));
    let names = shown.filter_map(|entry| {
        let id = text(entry, "id")?;
        Some(match (text(entry, "min_version"), text(entry, "max_version")) {
            (Some(least), Some(most)) => format!("{id} ({least} to {most})"),
            _ => id,
        })
    });
    (names.collect(), newest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_service_has_its_own_form_of_a_list_of_versions() {
        let glance = json!({"versions": [{"id": "v2.17", "status": "CURRENT"}, {"id": "v2.1", "status": "SUPPORTED"}]});
        assert_eq!(versions(&glance), (vec!["v2.17".to_owned()], None));
        let placement = json!({"versions": [
            {"id": "v1.0", "min_version": "1.0", "max_version": "1.39", "status": "CURRENT"}]});
        assert_eq!(versions(&placement), (vec!["v1.0 (1.0 to 1.39)".to_owned()], Some("1.39".to_owned())));
        let keystone = json!({"versions": {"values": [{"id": "v3.14", "status": "stable"}]}});
        assert_eq!(versions(&keystone).0, ["v3.14"]);
        assert_eq!(versions(&json!({"version": {"id": "v3.14"}})).0, ["v3.14"]);
        assert_eq!(versions(&json!("a web page")), (vec![], None));
    }

    #[test]
    fn the_clocks_are_compared_to_the_second() {
        let date = parse_date("Sun, 29 Nov 2026 21:47:35 GMT").unwrap();
        assert_eq!(date.to_string(), "2026-11-29T21:47:35Z");
        assert!((ahead(date, "2026-11-29T21:47:05.5Z".parse().unwrap()) - 30.0).abs() < 1e-6);
        assert_eq!(parse_date("yesterday"), None);
    }
}
