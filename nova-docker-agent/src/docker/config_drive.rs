//! Config drives: a directory of the host for each instance that has one, which its container sees read-only.
//!
//! As only root reads the disk that is a virtual machine's config drive, so only root reads this, on the host and inside. It is no part
//! of the container's file system, so that no snapshot has it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bollard::models::{Mount, MountType};
use uuid::Uuid;

use super::{Docker, Error};
use crate::guest::{ConfigDrive, Guest};

/// Where a container sees it: the label of Nova's drives, and where cloud-init looks for the content of one.
const TARGETS: [&str; 2] = ["/config-2", "/var/lib/cloud/seed/config_drive"];
/// What the name of a drive that is being written begins with.
const UNFINISHED: &str = ".new-";
/// And of one that is being replaced.
const OLD: &str = ".old-";

/// The mounts of a container that has a drive.
pub(super) fn mounts(guest: &Guest, directory: &Path) -> Vec<Mount> {
    if !guest.inside.has_config_drive {
        return Vec::new();
    }
    let mount = |target: &str| Mount {
        typ: Some(MountType::BIND),
        source: Some(directory.join(guest.uuid.to_string()).to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    };
    TARGETS.map(mount).into()
}

impl Docker {
    /// Writes the drive of an instance whose container is about to be made. One that is there is replaced.
    pub async fn write_config_drive(&self, uuid: Uuid, drive: ConfigDrive) -> Result<(), Error> {
        self.with_drives("write the config drive of instance", uuid, move |directory| write(directory, uuid, &drive))
            .await
    }

    /// Whether an instance has a drive.
    pub fn has_config_drive(&self, uuid: Uuid) -> bool {
        self.inner.config.config_drive_directory.join(uuid.to_string()).exists()
    }

    /// Removes the drive of an instance; no failure when there is none.
    pub(super) async fn remove_config_drive(&self, uuid: Uuid) -> Result<(), Error> {
        self.with_drives("remove the config drive of instance", uuid, move |directory| remove(directory, uuid)).await
    }

    /// Removes the drives that a crash has left without a container. To be called before any container is made.
    pub(super) async fn remove_stray_config_drives(&self) -> Result<(), Error> {
        let used = self.list_any().await?;
        self.with_drives("look for config drives beside", Uuid::nil(), move |directory| strays(directory, &used)).await
    }

    async fn with_drives(
        &self,
        action: &str,
        uuid: Uuid,
        work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let directory = self.inner.config.config_drive_directory.clone();
        let done = tokio::task::spawn_blocking(move || work(&directory)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|source| Error::System { action: format!("{action} {uuid}"), source })
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Under another name first: a crash leaves the old drive or the new one, and none that is half written. The old one too has another
/// name until the new one is in its place; see [`strays`].
fn write(directory: &Path, uuid: Uuid, drive: &ConfigDrive) -> io::Result<()> {
    private_directory(directory)?;
    let (unfinished, finished) = (directory.join(format!("{UNFINISHED}{uuid}")), directory.join(uuid.to_string()));
    remove_tree(&unfinished)?;
    private_directory(&unfinished)?;
    for (path, content) in drive.files() {
        let path = unfinished.join(path);
        private_directory(path.parent().unwrap_or(&unfinished))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content)?;
    }
    let old = directory.join(format!("{OLD}{uuid}"));
    remove_tree(&old)?;
    match fs::rename(&finished, &old) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(&unfinished, &finished)?;
    remove_tree(&old)
}

fn remove(directory: &Path, uuid: Uuid) -> io::Result<()> {
    remove_tree(&directory.join(uuid.to_string()))
}

fn strays(directory: &Path, used: &[Uuid]) -> io::Result<()> {
    let found = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let names: Vec<PathBuf> = found.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    for path in names {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(id) = name.strip_prefix(OLD)
            && Uuid::parse_str(id).is_ok_and(|uuid| used.contains(&uuid))
            && !directory.join(id).exists()
        {
            tracing::info!(drive = id, "a config drive that was being replaced is there again");
            fs::rename(&path, directory.join(id))?;
            continue;
        }
        let marked = name.strip_prefix(UNFINISHED).or_else(|| name.strip_prefix(OLD));
        let of_drive = Uuid::parse_str(marked.unwrap_or(name)).ok();
        // What has another name is not ours.
        if of_drive.is_some_and(|uuid| marked.is_some() || !used.contains(&uuid)) {
            tracing::info!(drive = name, "removing a config drive that no container has");
            remove_tree(&path)?;
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);

    fn drive(text: &str) -> ConfigDrive {
        let mut drive = ConfigDrive::default();
        drive.add("openstack/latest/user_data", text).unwrap();
        drive
    }

    #[test]
    fn a_drive_is_roots_alone_and_a_new_one_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let drives = directory.path().join("drives");
        write(&drives, ONE, &drive("old")).unwrap();
        write(&drives, ONE, &drive("new")).unwrap();
        let file = drives.join(ONE.to_string()).join("openstack/latest/user_data");
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&drives), mode(file.parent().unwrap()), mode(&file)), (0o700, 0o700, 0o600));
        assert_eq!(fs::read_dir(&drives).unwrap().count(), 1);
        remove(&drives, ONE).unwrap();
        remove(&drives, ONE).unwrap();
        assert_eq!(fs::read_dir(&drives).unwrap().count(), 0);
    }

    #[test]
    fn drives_that_no_container_has_go_and_what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let two = Uuid::from_u128(2);
        for name in [ONE.to_string(), two.to_string(), format!("{UNFINISHED}{ONE}"), "notes".to_owned()] {
            fs::create_dir(at(&name)).unwrap();
        }
        let three = Uuid::from_u128(3);
        fs::create_dir(at(&format!("{OLD}{ONE}"))).unwrap();
        fs::create_dir(at(&format!("{OLD}{three}"))).unwrap();
        strays(directory.path(), &[ONE, three]).unwrap();
        assert!(at(&three.to_string()).exists(), "a crash came between the two names");
        assert!(!at(&format!("{OLD}{ONE}")).exists());
        assert!(at(&ONE.to_string()).exists() && at("notes").exists());
        assert!(!at(&two.to_string()).exists() && !at(&format!("{UNFINISHED}{ONE}")).exists());
        strays(&at("nowhere"), &[]).unwrap();
    }
}
