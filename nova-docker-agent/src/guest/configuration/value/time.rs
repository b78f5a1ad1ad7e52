//! Times, as Compose writes them.

use std::time::Duration;

use super::Result;
use crate::limits::LONGEST_STOP;

/// `1h2m3s`, `500ms`: whole numbers with units.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (mut rest, mut all) = (text.trim(), Duration::ZERO);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (digits, more) = rest.split_at(rest.find(|character: char| !character.is_ascii_digit())?);
        let number: u64 = digits.parse().ok()?;
        let end = more.find(|character: char| character.is_ascii_digit()).unwrap_or(more.len());
        let (unit, more) = more.split_at(end);
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        all = all.checked_add(part)?;
        rest = more;
    }
    Some(all)
}

/// How long a container may take to end: a time, or whole seconds as Nova writes them.
pub(in crate::guest::configuration) fn grace(text: &str) -> Result<Duration> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let time = if is_number {
        // Digits that do not fit are a number all the same.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        parse(text).ok_or("it is no time")?
    };
    if time > LONGEST_STOP { Err("it is more than an hour") } else { Ok(time) }
}
