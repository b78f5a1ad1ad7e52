//! What earlier containers of an instance wrote: its console log goes on when it is rebuilt or resized, or a hard reboot makes its
//! container anew.
//!
//! A note for each such instance has as much of that as Nova shows. Its first line says which container was the last one, and how many
//! of the bytes are that one's: they do not count when it has come back, or is still there because its removal failed.

use std::collections::HashSet;

use uuid::Uuid;

use super::console::MAX_BYTES;
use super::{Docker, Error, state::Found};

impl Docker {
    /// Keeps what a container wrote that is about to be removed, and whose instance is not. Without it the log only begins later.
    pub(super) async fn keep_log(&self, uuid: Uuid, found: &Found) {
        let name = uuid.to_string();
        let kept = async {
            let written = self.read_log(found, usize::MAX, MAX_BYTES).await?;
            let note = self.inner.past_logs.read(&name).await.unwrap_or_default();
            let note = joined(&found.id, before(&note, &found.id), written.as_bytes());
            let failed = |source| Error::System { action: "keep a console log".to_owned(), source };
            self.inner.past_logs.write(&name, note).await.map_err(failed)
        };
        if let Err(error) = kept.await {
            tracing::warn!(instance = %uuid, %error, "the console log loses what the former container wrote");
        }
    }

    /// What the containers of the instance wrote that were there before `current`, one that is set aside among them: whole lines.
    pub(super) async fn past_log(&self, uuid: Uuid, current: &Found) -> Result<Vec<u8>, Error> {
        let aside = self.find_aside(uuid).await?.filter(|aside| aside.id != current.id);
        let (first, mut written) = match &aside {
            None => (current, Vec::new()),
            Some(aside) => match self.read_log(aside, usize::MAX, MAX_BYTES).await {
                Ok(text) => (aside, text.into_bytes()),
                // It has gone meanwhile: the note, which is read after this, has its log.
                Err(Error::NotFound { .. }) => (current, Vec::new()),
                Err(error) => return Err(error),
            },
        };
        end_line(&mut written);
        let note = self.inner.past_logs.read(&uuid.to_string()).await.unwrap_or_default();
        Ok([before(&note, &first.id), &written].concat())
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

/// What a note has of the containers before this one.
fn before<'a>(note: &'a [u8], id: &str) -> &'a [u8] {
    let Some(end) = note.iter().position(|&byte| byte == b'\n') else { return &[] };
    let log = &note[end + 1..];
    let said = std::str::from_utf8(&note[..end]).ok().and_then(|line| line.split_once(' '));
    let its_own = said.filter(|(last, _)| *last == id).and_then(|(_, bytes)| bytes.parse().ok());
    &log[..log.len().saturating_sub(its_own.unwrap_or(0))]
}

/// A note whose last container is this one.
fn joined(id: &str, past: &[u8], written: &[u8]) -> Vec<u8> {
    let mut written = written.to_vec();
    end_line(&mut written);
    let cut = past.len().saturating_sub(MAX_BYTES.saturating_sub(written.len()));
    let begin = match past[..cut].last() {
        // Of a line that loses its beginning nothing is left.
        Some(&last) if last != b'\n' => {
            past[cut..].iter().position(|&byte| byte == b'\n').map_or(past.len(), |at| cut + at + 1)
        }
        _ => cut,
    };
    [format!("{id} {}\n", written.len()).as_bytes(), &past[begin..], &written].concat()
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
    fn a_log_goes_on_in_a_line_of_its_own() {
        let first = joined("one", b"", b"first\nhalf a line");
        assert_eq!(before(&first, "two"), b"first\nhalf a line\n");
        let second = joined("two", before(&first, "two"), b"second\n");
        assert_eq!(before(&second, "three"), b"first\nhalf a line\nsecond\n");
        assert_eq!(
            [before(b"", "one"), before(b"damaged", "one"), before(b"damaged\nlog\n", "one")],
            [&b""[..], b"", b"log\n"]
        );
    }

    #[test]
    fn what_a_container_wrote_that_is_still_there_counts_once() {
        let kept = joined("two", before(&joined("one", b"", b"first\n"), "two"), b"second");
        assert_eq!(before(&kept, "two"), b"first\n");
        let again = joined("two", before(&kept, "two"), b"second, and more\n");
        assert_eq!(before(&again, "three"), b"first\nsecond, and more\n");
    }

    #[test]
    fn the_oldest_lines_are_lost_first_and_as_a_whole() {
        let long = vec![b'x'; MAX_BYTES - 12];
        let of = |past: &[u8]| before(&joined("two", past, &long), "three").to_vec();
        let whole = of(b"first\nsecond\nthird\n");
        assert!(whole.starts_with(b"third\nx"), "{:?}", &whole[..20]);
        assert!(of(b"one\ntwo\nthree\n").starts_with(b"two\nthree\nx"), "not even one line is lost without need");
        assert!(of(b"a line that is longer than the room").starts_with(b"x"));
    }
}
