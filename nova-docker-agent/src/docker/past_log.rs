//! What earlier containers of an instance wrote: its console log goes on when it is rebuilt or resized, or a hard reboot makes its
//! container anew.
//!
//! A note for each such instance: the id of the last container whose log is in it, a line end, and as much of the log as Nova shows.

use std::collections::HashSet;

use uuid::Uuid;

use super::console::MAX_BYTES;
use super::{Docker, Error, state::Found};

impl Docker {
    /// Keeps what a container wrote that is about to be removed, and whose instance is not. Without it the log only begins later.
    pub(super) async fn keep_log(&self, uuid: Uuid, found: &Found) {
        let name = uuid.to_string();
        let note = self.inner.past_logs.read(&name).await.unwrap_or_default();
        let (last, past) = parts(&note);
        if last == found.id.as_bytes() {
            // A crash came between this and the removal.
            return;
        }
        let kept = async {
            let written = self.read_log(found, usize::MAX, MAX_BYTES).await?;
            if written.is_empty() {
                return Ok(());
            }
            let note = joined(&found.id, past, written.as_bytes());
            let failed = |source| Error::System { action: "keep a console log".to_owned(), source };
            self.inner.past_logs.write(&name, note).await.map_err(failed)
        };
        if let Err(error) = kept.await {
            tracing::warn!(instance = %uuid, %error, "the console log loses what the former container wrote");
        }
    }

    /// What the instance's earlier containers wrote, one that is set aside among them: whole lines.
    pub(super) async fn past_log(&self, uuid: Uuid) -> Result<Vec<u8>, Error> {
        let note = self.inner.past_logs.read(&uuid.to_string()).await.unwrap_or_default();
        let (last, past) = parts(&note);
        let mut log = past.to_vec();
        if let Some(aside) = self.find_aside(uuid).await?.filter(|aside| aside.id.as_bytes() != last) {
            log.extend_from_slice(self.read_log(&aside, usize::MAX, MAX_BYTES).await?.as_bytes());
            end_line(&mut log);
        }
        Ok(log)
    }

    /// Whether something is kept of the instance.
    pub(super) async fn has_past_log(&self, uuid: Uuid) -> bool {
        self.inner.past_logs.has(&uuid.to_string()).await
    }

    /// To be called when the instance has no container any more. What fails is made up for at the next start.
    pub(super) async fn forget_past_log(&self, uuid: Uuid) {
        self.inner.past_logs.remove(&uuid.to_string()).await;
    }

    /// Removes the logs of instances that have gone.
    pub(super) async fn remove_stray_past_logs(&self) -> Result<(), Error> {
        let used: HashSet<String> = self.list_any().await?.iter().map(Uuid::to_string).collect();
        self.inner.past_logs.retain(|name| used.contains(name)).await
    }
}

/// Whose log is the last one in a note, and all of it.
fn parts(note: &[u8]) -> (&[u8], &[u8]) {
    match note.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&note[..end], &note[end + 1..]),
        None => (note, &[]),
    }
}

fn joined(id: &str, past: &[u8], written: &[u8]) -> Vec<u8> {
    let room = MAX_BYTES.saturating_sub(written.len());
    let begin = past.len().saturating_sub(room);
    let mut note = [id.as_bytes(), b"\n", &past[begin..], written].concat();
    end_line(&mut note);
    note
}

fn end_line(log: &mut Vec<u8>) {
    if log.last().is_some_and(|&last| last != b'\n') {
        log.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_on_in_a_line_of_its_own_and_the_oldest_of_it_is_lost_first() {
        let first = joined("one", b"", b"first\nhalf a line");
        assert_eq!(parts(&first), (&b"one"[..], &b"first\nhalf a line\n"[..]));
        let second = joined("two", parts(&first).1, b"second\n");
        assert_eq!(parts(&second), (&b"two"[..], &b"first\nhalf a line\nsecond\n"[..]));

        let long = vec![b'x'; MAX_BYTES - 3];
        let third = joined("three", parts(&second).1, &long);
        let log = parts(&third).1;
        assert!(log.starts_with(b"nd\nx") && log.len() == MAX_BYTES + 1, "{}", log.len());
        assert_eq!(parts(b""), (&b""[..], &b""[..]));
    }
}
