//! Files that say since when something on the host is not used.
//!
//! Losing one costs nobody anything: what is not in it is unused from now on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// Since when things are not used, by their names.
pub(super) type Times = BTreeMap<String, Timestamp>;

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    unused_since: Times,
}

/// The record, and a copy that outlives a disk to which nothing can be written.
#[derive(Debug)]
pub(super) struct Record {
    /// What it is of, in the plural.
    what: &'static str,
    path: PathBuf,
    /// None: not read yet.
    times: Option<Times>,
}

impl Record {
    pub(super) fn new(what: &'static str, path: PathBuf) -> Self {
        Self { what, path, times: None }
    }

    /// What it says.
    pub(super) async fn read(&mut self) -> Times {
        if let Some(times) = &self.times {
            return times.clone();
        }
        let path = self.path.clone();
        let times = blocking(move || load(&path)).await.unwrap_or_else(|error| {
            let (what, path) = (self.what, self.path.display());
            warn!(%path, %error, "cannot read since when {what} are unused: they are from now on");
            Times::new()
        });
        self.times = Some(times.clone());
        times
    }

    /// Takes down that these have been used until now.
    pub(super) async fn forget(&mut self, names: &[String]) {
        let mut times = self.read().await;
        times.retain(|name, _| !names.contains(name));
        self.write(times).await;
    }

    /// Takes down that these, and no others, are unused `now`. Returns since when they are.
    pub(super) async fn update(&mut self, unused: &BTreeSet<&str>, now: Timestamp) -> Times {
        let before = self.read().await;
        // A time to come is that of a clock that was wrong.
        let since = |name: &str| before.get(name).copied().filter(|since| *since <= now).unwrap_or(now);
        let times: Times = unused.iter().map(|name| ((*name).to_owned(), since(name))).collect();
        self.write(times.clone()).await;
        times
    }

    async fn write(&mut self, times: Times) {
        if self.times.as_ref() == Some(&times) {
            return;
        }
        self.times = Some(times.clone());
        let path = self.path.clone();
        if let Err(error) = blocking(move || save(&path, times)).await {
            warn!(path = %self.path.display(), %error, "cannot write down since when {} are unused", self.what);
        }
    }
}

/// Runs what may block, off the threads that must not.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

fn load(path: &Path) -> std::io::Result<Times> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice::<Content>(&bytes)?.unused_since),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Times::new()),
        Err(error) => Err(error),
    }
}

/// Whole or not at all, also when the host loses power.
fn save(path: &Path, times: Times) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&serde_json::to_vec(&Content { unused_since: times })?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn times<const N: usize>(pairs: [(&str, i64); N]) -> Times {
        pairs.map(|(name, second)| (name.to_owned(), at(second))).into()
    }

    #[tokio::test]
    async fn a_volume_is_unused_since_it_was_first_seen_so_and_a_restart_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/volumes.json");
        let mut record = Record::new("volumes", path.clone());
        assert_eq!(record.update(&["a"].into(), at(10)).await, times([("a", 10)]));
        assert_eq!(record.update(&["a", "b"].into(), at(20)).await, times([("a", 10), ("b", 20)]));
        let mut record = Record::new("volumes", path);
        assert_eq!(record.update(&["a", "b"].into(), at(30)).await, times([("a", 10), ("b", 20)]));
        assert_eq!(record.update(&["b"].into(), at(40)).await, times([("b", 20)]), "a is used");
        assert_eq!(record.update(&["a", "b"].into(), at(50)).await, times([("a", 50), ("b", 20)]));
        record.forget(&["b".to_owned()]).await;
        assert_eq!(record.update(&["a", "b"].into(), at(60)).await, times([("a", 50), ("b", 60)]));
    }

    #[tokio::test]
    async fn a_damaged_record_only_begins_the_time_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volumes.json");
        for damage in ["", "{", "[]", "nonsense", r#"{"unused_since":{"a":"yesterday"}}"#, "{\"unused_since\":1}", "\0"]
        {
            std::fs::write(&path, damage).unwrap();
            let mut record = Record::new("volumes", path.clone());
            assert_eq!(record.update(&["a"].into(), at(10)).await, times([("a", 10)]), "{damage:?}");
            assert_eq!(load(&path).unwrap(), times([("a", 10)]), "{damage:?}");
        }
    }

    #[tokio::test]
    async fn a_time_to_come_begins_anew_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volumes.json");
        save(&path, times([("a", 9_000_000_000)])).unwrap();
        assert_eq!(Record::new("volumes", path).update(&["a"].into(), at(10)).await, times([("a", 10)]));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_remembered_until_the_process_ends() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let mut record = Record::new("volumes", directory.path().join("file/volumes.json"));
        assert_eq!(record.update(&["a"].into(), at(10)).await, times([("a", 10)]));
        assert_eq!(record.update(&["a"].into(), at(20)).await, times([("a", 10)]));
    }
}
