//! The console log: what a container's processes wrote to stdout and stderr, in the order in which they wrote it.

use std::collections::VecDeque;

use bollard::query_parameters::LogsOptionsBuilder;
use futures::TryStreamExt;
use uuid::Uuid;

use super::{Docker, Error, labels};

/// What Nova's own console logs are cut to.
const MAX_BYTES: usize = 100 * 1024;
/// Docker keeps a line longer than this in several entries, and counts entries.
const ENTRY_BYTES: usize = 16 * 1024;

impl Docker {
    /// The last `tail` lines of stdout and stderr, in order, at most the last 100 KiB; all of that without `tail`.
    pub async fn console(&self, uuid: Uuid, tail: Option<usize>) -> Result<String, Error> {
        let found = self.get(uuid).await?;
        match tail {
            Some(0) => Ok(String::new()),
            Some(lines) => self.read_log(&found.id, lines, MAX_BYTES).await,
            None => self.read_log(&found.id, MAX_BYTES, MAX_BYTES).await,
        }
        .map_err(|error| match error {
            Error::NotFound { .. } => Error::NotFound { what: format!("container {}", labels::container_name(uuid)) },
            other => other,
        })
    }

    /// The last `lines` lines of a container's log, at most the last `bytes` bytes of them.
    pub(super) async fn read_log(&self, id: &str, lines: usize, bytes: usize) -> Result<String, Error> {
        // A line has one byte at least, and within the bound there are at most so many lines of several entries.
        let entries = lines.min(bytes) + bytes.div_ceil(ENTRY_BYTES) + 1;
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&entries.to_string()).build();
        let mut log = self.engine().docker.logs(id, Some(options));
        let mut kept = Tail::new(bytes);
        while let Some(chunk) =
            log.try_next().await.map_err(|error| self.engine().error("read the log of container", id, error))?
        {
            kept.push(chunk.as_ref());
        }
        Ok(kept.last_lines(lines))
    }
}

/// The last bytes of a stream.
struct Tail {
    bytes: VecDeque<u8>,
    bound: usize,
    cut: bool,
}

impl Tail {
    fn new(bound: usize) -> Self {
        Self { bytes: VecDeque::new(), bound, cut: false }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend(chunk);
        let excess = self.bytes.len().saturating_sub(self.bound);
        if excess > 0 {
            self.bytes.drain(..excess);
            self.cut = true;
        }
    }

    /// The last `count` lines; the last one may lack its end. A line that lost its beginning is dropped, unless it is the only
    /// one.
    fn last_lines(mut self, count: usize) -> String {
        let bytes = self.bytes.make_contiguous();
        let mut start = match bytes.iter().position(|&byte| byte == b'\n') {
            Some(end) if self.cut && end + 1 < bytes.len() => end + 1,
            _ => 0,
        };
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let ends = body.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at);
        if let Some(end) = ends.take(count).nth(count.saturating_sub(1)) {
            start = start.max(end + 1);
        }
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(text: &str, bound: usize, count: usize) -> String {
        let mut tail = Tail::new(bound);
        for chunk in text.as_bytes().chunks(3) {
            tail.push(chunk);
        }
        tail.last_lines(count)
    }

    #[test]
    fn exactly_the_last_lines_are_given() {
        assert_eq!(last("a\nb\nc\n", 100, 2), "b\nc\n");
        assert_eq!(last("a\nb\nc", 100, 2), "b\nc");
        assert_eq!(last("a\nb\n", 100, 5), "a\nb\n");
        assert_eq!(last("a\n\n\n", 100, 2), "\n\n");
        assert_eq!(last("", 100, 2), "");
    }

    #[test]
    fn a_line_that_was_cut_by_the_bound_is_dropped() {
        assert_eq!(last("first\nsecond\nthird\n", 10, 100), "third\n");
        assert_eq!(last("only one long line", 4, 100), "line");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut tail = Tail::new(100);
        tail.push(b"a\xff\xfeb\n");
        assert_eq!(tail.last_lines(1), "a\u{fffd}\u{fffd}b\n");
    }
}
