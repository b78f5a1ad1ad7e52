//! What containers have on the host's disk, where nothing holds them to a size: their writable layers, if the storage driver does
//! not, and in any case the volumes that are theirs alone.
//!
//! Docker's own sizes count what a file seems to have, so that one with a hole in it would be taken for a full disk. They are
//! asked for only where Docker does not tell the directory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerSummaryStateEnum};
use bollard::query_parameters::InspectContainerOptionsBuilder;
use tokio::process::Command;
use uuid::Uuid;

use super::snapshot::COMMIT;
use super::{Docker, Error, labels, volumes};

/// For a walk through one server's files; with more of them than that it cannot be measured.
const LONGEST_WALK: Duration = Duration::from_secs(600);
const GIB: u64 = 1 << 30;

/// What a container has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Docker's id of it.
    pub container: String,
    /// Bytes on the host's disk.
    pub bytes: u64,
    /// Bytes that the flavor's disk has.
    pub disk: u64,
}

impl Docker {
    /// The instances that may be writing now, and have a disk of a size.
    pub async fn writing(&self) -> Result<Vec<Uuid>, Error> {
        let writes = |(uuid, container): &(Uuid, _)| {
            let container: &bollard::models::ContainerSummary = container;
            labels::has_name(container, &labels::container_name(*uuid))
                && container.state == Some(ContainerSummaryStateEnum::RUNNING)
                && container.labels.as_ref().and_then(disk).is_some()
        };
        Ok(self.list_all().await?.into_iter().filter(writes).map(|(uuid, _)| uuid).collect())
    }

    /// What an instance's container has written; none where it is gone, or has no disk of a size. Walks through its files, with the
    /// least right to the processors.
    pub async fn written(&self, uuid: Uuid) -> Result<Option<Written>, Error> {
        let name = labels::container_name(uuid);
        let details = match self.engine().docker.inspect_container(&name, None).await {
            Ok(details) => details,
            Err(error) => {
                return match self.engine().error("measure container", &name, error) {
                    Error::NotFound { .. } => Ok(None),
                    other => Err(other),
                };
            }
        };
        let labels = details.config.as_ref().and_then(|config| config.labels.as_ref());
        let Some(disk) = labels.and_then(disk) else { return Ok(None) };
        let mut directories = own_volumes(&details);
        let mut bytes: u64 = 0;
        if !self.quota_enforced() {
            match writable_layer(&details) {
                Some(directory) => directories.push(directory),
                None => bytes = self.counted_by_docker(&name).await?,
            }
        }
        if !directories.is_empty() {
            bytes = bytes.saturating_add(measured(&directories).await?);
        }
        Ok(Some(Written { container: details.id.unwrap_or_default(), bytes, disk }))
    }

    async fn counted_by_docker(&self, name: &str) -> Result<u64, Error> {
        let options = InspectContainerOptionsBuilder::default().size(true).build();
        let counted = self.engine().patient(COMMIT).inspect_container(name, Some(options)).await;
        let counted = counted.map_err(|error| self.engine().error("measure container", name, error))?;
        Ok(counted.size_rw.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
    }
}

/// Bytes of the flavor's disk, if it has a size.
fn disk(labels: &HashMap<String, String>) -> Option<u64> {
    let gib: u64 = labels.get(labels::ROOT_GB)?.parse().ok()?;
    (gib > 0).then(|| gib.saturating_mul(GIB))
}

/// Where Docker's storage driver has it: of the drivers that hold nobody to a size, `overlay2` says it.
fn writable_layer(details: &ContainerInspectResponse) -> Option<PathBuf> {
    details.graph_driver.as_ref()?.data.get("UpperDir").map(PathBuf::from)
}

/// Where the volumes are that go with the container.
fn own_volumes(details: &ContainerInspectResponse) -> Vec<PathBuf> {
    let own = details.mounts.iter().flatten().filter(|mount| {
        mount.driver.as_deref() == Some("local") && mount.name.as_deref().is_some_and(|name| !volumes::is_named(name))
    });
    own.filter_map(|mount| mount.source.as_deref()).map(PathBuf::from).collect()
}

/// Bytes that the directories take on the disk. `du` is at home in trees that somebody made to be in its way: deep ones, and such
/// that change under it.
async fn measured(directories: &[PathBuf]) -> Result<u64, Error> {
    let failed = |source| Error::System { action: format!("measure {directories:?}"), source };
    let mut command = Command::new("nice");
    command.args(["-n", "19", "du", "-s", "-k", "-x", "--"]).args(directories).kill_on_drop(true);
    // It complains of each file that goes while it looks, as often as a guest wants, and tells the sum all the same.
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = tokio::time::timeout(LONGEST_WALK, output).await;
    let output = output.map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    let told = sum(&output.stdout, directories.len());
    told.ok_or_else(|| failed(std::io::Error::other(format!("du: {}", output.status))))
}

/// Of `KIB<TAB>DIRECTORY` for each.
fn sum(lines: &[u8], count: usize) -> Option<u64> {
    let lines: Vec<&str> = std::str::from_utf8(lines).ok()?.lines().collect();
    let sizes = lines.iter().map(|line| line.split_once('\t')?.0.parse::<u64>().ok());
    let sizes: Option<Vec<u64>> = sizes.collect();
    sizes
        .filter(|sizes| sizes.len() == count)
        .map(|sizes| sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(size << 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_of_all_directories_or_of_none() {
        assert_eq!(sum(b"4\t/a\n8\t/b\n", 2), Some(12 << 10));
        for broken in [&b"4\t/a\n"[..], b"", b"4\t/a\nx\t/b\n", b"\xff\t/a\n4\t/b\n"] {
            assert_eq!(sum(broken, 2), None);
        }
    }

    #[tokio::test]
    async fn a_file_counts_with_what_it_takes_and_not_with_what_it_seems_to_have() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::File::create(directory.path().join("hole")).unwrap().set_len(1 << 40).unwrap();
        std::fs::write(directory.path().join("file"), vec![1; 100_000]).unwrap();
        let bytes = measured(&[directory.path().to_owned()]).await.unwrap();
        assert!((100_000..1 << 20).contains(&bytes), "{bytes}");
        assert!(measured(&[directory.path().join("absent")]).await.is_err());
    }

    #[test]
    fn a_disk_without_a_size_bounds_nothing() {
        let labelled = |value: &str| HashMap::from([(labels::ROOT_GB.to_owned(), value.to_owned())]);
        assert_eq!(disk(&labelled("2")), Some(2 * GIB));
        for none in ["0", "", "-1", "many"] {
            assert_eq!(disk(&labelled(none)), None, "{none:?}");
        }
        assert_eq!(disk(&HashMap::new()), None, "a release before this made it");
    }
}
