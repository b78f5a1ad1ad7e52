//! Health checks, as Compose writes them.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Result, time};
use crate::guest::configuration::Health;

/// A check is a process in the container, and work for Docker.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const MOST_RETRIES: i64 = 1000;
/// Docker's own.
const INTERVAL: Duration = Duration::from_secs(30);
const RETRIES: i64 = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    test: Option<Value>,
    interval: Option<String>,
    timeout: Option<String>,
    start_period: Option<String>,
    retries: Option<Value>,
    disable: Option<Value>,
}

/// A JSON object in Compose's form; none when it turns checks off.
pub(in crate::guest::configuration) fn healthcheck(text: &str) -> Result<Option<Health>> {
    let check: Check = serde_json::from_str(text)
        .map_err(|_| "it is no JSON object of test, interval, timeout, retries, start_period and disable")?;
    if check.disable.is_some_and(|flag| flag == true || flag == "true") {
        return Ok(None);
    }
    let Some(test) = test(check.test.ok_or("it has no test")?)? else { return Ok(None) };
    Ok(Some(Health {
        test,
        interval: duration(check.interval, SHORTEST, INTERVAL)?,
        timeout: duration(check.timeout, SHORTEST, INTERVAL)?,
        start_period: duration(check.start_period, Duration::ZERO, Duration::ZERO)?,
        retries: retries(check.retries)?,
    }))
}

/// In Docker's form; none for `NONE`.
fn test(test: Value) -> Result<Option<Vec<String>>> {
    const FORM: &str = "its test is neither a command nor a list that begins with CMD, CMD-SHELL or NONE";
    let words: Vec<String> = match test {
        Value::String(line) => vec!["CMD-SHELL".to_owned(), line],
        list => serde_json::from_value(list).map_err(|_| FORM)?,
    };
    if words.iter().any(|word| word.contains('\0')) {
        return Err("its test has a zero byte");
    }
    match (words.first().map(String::as_str), words.len()) {
        (Some("NONE"), 1) => Ok(None),
        (Some("CMD-SHELL"), 2) | (Some("CMD"), 2..) => Ok(Some(words)),
        _ => Err(FORM),
    }
}

fn duration(text: Option<String>, least: Duration, usual: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(usual) };
    let time = time::parse(&text).ok_or("a time of it is not as 1m30s")?;
    if time < least || time > LONGEST { Err("a time of it is less than 1s or more than 24h") } else { Ok(time) }
}

fn retries(value: Option<Value>) -> Result<i64> {
    let number = match value {
        None => Some(RETRIES),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_i64(),
    };
    number.filter(|number| (1..=MOST_RETRIES).contains(number)).ok_or("its retries are no number from 1 to 1000")
}
