//! The Range header (RFC 9110, section 14), as far as clients of a registry use it: one range of bytes.

use std::ops::Range;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    All,
    Part(Range<u64>),
    /// A range that begins after the end: 416.
    Unsatisfiable,
}

/// The part of `size` bytes that the header asks for. A header that is not understood is ignored, as the RFC wants it.
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((first, last)) = header.and_then(|header| header.strip_prefix("bytes=")?.split_once('-')) else {
        return Wanted::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (number(first), number(last)) {
        (Some(first), _) if last.trim().is_empty() => part(first, size, size),
        (Some(first), Some(last)) if first <= last => part(first, last.saturating_add(1).min(size), size),
        (None, Some(0)) if first.trim().is_empty() => Wanted::Unsatisfiable,
        (None, Some(length)) if first.trim().is_empty() => part(size.saturating_sub(length), size, size),
        _ => Wanted::All,
    }
}

fn part(start: u64, end: u64, size: u64) -> Wanted {
    if start >= size { Wanted::Unsatisfiable } else { Wanted::Part(start..end) }
}

#[cfg(test)]
mod tests;
