//! The console log: what an instance's processes wrote to stdout and stderr, in the order in which they wrote it.

use std::collections::VecDeque;

use bollard::query_parameters::LogsOptionsBuilder;
use futures::TryStreamExt;
use uuid::Uuid;

use super::{Docker, Error, labels, log_file, state::Found};

/// What Nova's own console logs are cut to.
pub(super) const MAX_BYTES: usize = 100 * 1024;
/// Docker keeps a line longer than this in several entries, and counts entries.
const ENTRY_BYTES: usize = 16 * 1024;

impl Docker {
    /// The last `tail` lines of stdout and stderr, in order, at most the last 100 KiB; all of that without `tail`. Lines are
    /// counted as Nova does: what follows the last line end is one, even if it is nothing.
    pub async fn console(&self, uuid: Uuid, tail: Option<usize>) -> Result<String, Error> {
        let found = self.get(uuid).await?;
        let lines = match tail {
            Some(0) => return Ok(String::new()),
            Some(lines) => lines,
            None => usize::MAX,
        };
        let mut kept = Tail::new(MAX_BYTES);
        let read = async {
            self.push_log(&found, lines, &mut kept).await?;
            // What a rescue writes is no part of its server's log, nor the other way round.
            if !found.rescues && !kept.holds(lines) {
                kept.put_before(&self.past_log(uuid, &found).await?);
            }
            Ok(())
        };
        read.await.map_err(|error| match error {
            Error::NotFound { .. } => Error::NotFound { what: format!("container {}", labels::container_name(uuid)) },
            other => other,
        })?;
        Ok(kept.last_lines(lines))
    }

    /// The last `lines` lines of a container's log, at most the last `bytes` bytes of them.
    pub(super) async fn read_log(&self, found: &Found, lines: usize, bytes: usize) -> Result<String, Error> {
        let mut kept = Tail::new(bytes);
        self.push_log(found, lines, &mut kept).await?;
        Ok(kept.last_lines(lines))
    }

    async fn push_log(&self, found: &Found, lines: usize, kept: &mut Tail) -> Result<(), Error> {
        let (path, bytes) = (found.log_path.clone(), kept.bound);
        // A byte more tells whether something is cut.
        let read = tokio::task::spawn_blocking(move || log_file::last_bytes(&path, bytes.saturating_add(1))).await;
        match read {
            Ok(Ok(text)) => kept.push(&text),
            // Docker's files are not where this process could read them, or there are none yet.
            _ => self.ask_for_log(&found.id, lines, kept).await?,
        }
        Ok(())
    }

    async fn ask_for_log(&self, id: &str, lines: usize, kept: &mut Tail) -> Result<(), Error> {
        let bytes = kept.bound;
        // A line has one byte at least, and within the bound there are at most so many lines of several entries.
        let entries = lines.min(bytes) + bytes.div_ceil(ENTRY_BYTES) + 1;
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&entries.to_string()).build();
        let mut log = self.engine().docker.logs(id, Some(options));
        while let Some(chunk) =
            log.try_next().await.map_err(|error| self.engine().error("read the log of container", id, error))?
        {
            kept.push(chunk.as_ref());
        }
        Ok(())
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

    /// Whether it has `lines` lines, or has no room for more.
    fn holds(&self, lines: usize) -> bool {
        self.bytes.len() >= self.bound || self.bytes.iter().filter(|&&byte| byte == b'\n').count() >= lines
    }

    /// Adds what was there before all else, as far as there is room.
    fn put_before(&mut self, earlier: &[u8]) {
        let room = self.bound.saturating_sub(self.bytes.len());
        let begin = earlier.len().saturating_sub(room);
        self.cut |= begin > 0;
        for &byte in earlier[begin..].iter().rev() {
            self.bytes.push_front(byte);
        }
    }

    /// The last `count` lines, of which the last one is what follows the last line end. A line that lost its beginning is
    /// dropped, unless it is the only one.
    fn last_lines(mut self, count: usize) -> String {
        let bytes = self.bytes.make_contiguous();
        let mut start = match bytes.iter().position(|&byte| byte == b'\n') {
            Some(end) if self.cut && end + 1 < bytes.len() => end + 1,
            _ => 0,
        };
        let mut ends = bytes.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at);
        if let Some(end) = ends.nth(count.saturating_sub(1)) {
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
    fn lines_are_counted_as_nova_counts_them() {
        assert_eq!(last("a\nb\nc\n", 100, 2), "c\n");
        assert_eq!(last("a\nb\nc", 100, 2), "b\nc");
        assert_eq!(last("a\nb\n", 100, 5), "a\nb\n");
        assert_eq!(last("a\n\n\n", 100, 3), "\n\n");
        assert_eq!(last("a\n", 100, 1), "");
        assert_eq!(last("", 100, 2), "");
    }

    #[test]
    fn a_line_that_was_cut_by_the_bound_is_dropped() {
        assert_eq!(last("first\nsecond\nthird\n", 10, 100), "third\n");
        assert_eq!(last("only one long line", 4, 100), "line");
    }

    #[test]
    fn what_was_before_is_added_as_far_as_it_is_asked_for_and_there_is_room() {
        let mut tail = Tail::new(12);
        tail.push(b"c\nd");
        assert!(tail.holds(1) && !tail.holds(2));
        tail.put_before(b"a line\nb\n");
        assert!(tail.holds(3));
        assert_eq!(tail.last_lines(3), "b\nc\nd");

        let mut full = Tail::new(6);
        full.push(b"c\nd");
        full.put_before(b"a line\nb\n");
        assert!(full.holds(usize::MAX));
        assert_eq!(full.last_lines(usize::MAX), "b\nc\nd", "of a line that was cut nothing is told");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut tail = Tail::new(100);
        tail.push(b"a\xff\xfeb\n");
        assert_eq!(tail.last_lines(2), "a\u{fffd}\u{fffd}b\n");
    }
}
