//! The list of Neutron's extensions, kept for a while.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Error;

/// How long a failed refresh is not repeated, as long as there is an older list.
const REST: Duration = Duration::from_secs(30);

/// What the first list may take, with all repetitions.
const FIRST: Duration = Duration::from_secs(60);

/// The list, and who refreshes it.
#[derive(Default)]
pub(super) struct Extensions {
    kept: Mutex<Option<Kept>>,
    refresh: tokio::sync::Mutex<()>,
    /// When the first list was last asked for in vain, and why. Held while somebody asks for it.
    failed: tokio::sync::Mutex<Option<(Instant, String)>>,
}

#[derive(Clone)]
struct Kept {
    aliases: Arc<HashSet<String>>,
    read_at: Instant,
    /// Not asked for again before this.
    rests_until: Instant,
}

impl Extensions {
    /// The list; `read` gets it where it is older than `lifetime`. One caller at a time asks. The others are given the older list,
    /// if there is one, and so is everybody when Neutron does not answer within `patience`.
    ///
    /// # Errors
    /// There is no older list, and `read` fails.
    pub(super) async fn get(
        &self,
        lifetime: Duration,
        patience: Duration,
        read: impl Future<Output = Result<HashSet<String>, Error>>,
    ) -> Result<Arc<HashSet<String>>, Error> {
        let older = match self.kept() {
            Some(kept) if kept.read_at.elapsed() < lifetime || Instant::now() < kept.rests_until => {
                return Ok(kept.aliases);
            }
            older => older,
        };
        let Some(older) = older else { return self.first(FIRST.max(patience), read).await };
        let Ok(_refresh) = self.refresh.try_lock() else { return Ok(older.aliases) };
        match tokio::time::timeout(patience, read).await {
            Ok(Ok(aliases)) => Ok(self.keep(Arc::new(aliases), Duration::ZERO)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot read neutron's extensions; the older list is used");
                Ok(self.keep(older.aliases, REST))
            }
            Err(_) => {
                tracing::warn!(?patience, "neutron does not tell its extensions; the older list is used");
                Ok(self.keep(older.aliases, REST))
            }
        }
    }

    /// Nobody can do without the first list. Who waited while somebody asked in vain has that failure, and does not wait as long again.
    async fn first(
        &self,
        patience: Duration,
        read: impl Future<Output = Result<HashSet<String>, Error>>,
    ) -> Result<Arc<HashSet<String>>, Error> {
        let since = Instant::now();
        let mut failed = self.failed.lock().await;
        if let Some(kept) = self.kept() {
            return Ok(kept.aliases);
        }
        if let Some((at, reason)) = failed.as_ref().filter(|(at, _)| *at >= since) {
            tracing::debug!(?at, "somebody else has asked neutron for its extensions in vain");
            return Err(unreachable(reason.clone()));
        }
        let read = tokio::time::timeout(patience, read).await;
        match read.unwrap_or_else(|_| Err(unreachable(format!("no answer in {} s", patience.as_secs())))) {
            Ok(aliases) => Ok(self.keep(Arc::new(aliases), Duration::ZERO)),
            Err(error) => {
                *failed = Some((Instant::now(), error.to_string()));
                Err(error)
            }
        }
    }

    fn kept(&self) -> Option<Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, aliases: Arc<HashSet<String>>, rest: Duration) -> Arc<HashSet<String>> {
        let now = Instant::now();
        let kept = Kept { aliases: aliases.clone(), read_at: now, rests_until: now + rest };
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        aliases
    }
}

fn unreachable(reason: String) -> Error {
    Error::Unreachable { service: "neutron", method: "GET".to_owned(), path: "/v2.0/extensions".to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    type Listed = Result<HashSet<String>, Error>;

    fn list(alias: &str) -> Listed {
        Ok([alias.to_owned()].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_neutron_that_does_not_answer_leaves_the_older_list() {
        let extensions = Extensions::default();
        extensions.get(Duration::ZERO, LONG, async { list("old") }).await.unwrap();
        let kept = extensions.get(Duration::ZERO, LONG, std::future::pending()).await.unwrap();
        assert!(kept.contains("old"));
        // And is not asked again at once.
        let kept = extensions.get(Duration::ZERO, LONG, async { panic!("asked again") as Listed }).await.unwrap();
        assert!(kept.contains("old"));
    }

    #[tokio::test]
    async fn others_are_given_the_older_list_while_one_asks() {
        let extensions = Arc::new(Extensions::default());
        extensions.get(Duration::ZERO, LONG, async { list("old") }).await.unwrap();
        let asking = tokio::spawn({
            let extensions = extensions.clone();
            async move { extensions.get(Duration::ZERO, LONG, std::future::pending()).await.map(drop) }
        });
        tokio::task::yield_now().await;
        let kept = extensions.get(Duration::ZERO, LONG, async { panic!("asked twice") as Listed }).await.unwrap();
        assert!(kept.contains("old") && !asking.is_finished());
        asking.abort();
    }

    #[tokio::test]
    async fn a_list_that_is_too_old_is_read_again() {
        let extensions = Extensions::default();
        extensions.get(Duration::ZERO, LONG, async { list("old") }).await.unwrap();
        assert!(extensions.get(Duration::ZERO, LONG, async { list("new") }).await.unwrap().contains("new"));
        assert!(extensions.get(LONG, LONG, async { panic!("asked") as Listed }).await.unwrap().contains("new"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_list_is_not_waited_for_without_end_and_a_failure_is_shared() {
        let extensions = Extensions::default();
        let began = tokio::time::Instant::now();
        let ask = || extensions.get(LONG, Duration::from_secs(10), std::future::pending());
        let (one, other) = tokio::join!(ask(), ask());
        assert!(one.is_err() && other.is_err());
        assert_eq!(began.elapsed(), FIRST);
        assert!(extensions.get(LONG, LONG, async { list("new") }).await.unwrap().contains("new"));
    }
}
