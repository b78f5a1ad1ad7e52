//! Where Docker keeps containers, and whether it holds them to a size.

use std::path::{Path, PathBuf};

use bollard::models::SystemInfo;

use super::{Docker, Error};

/// What an operator can do where root disks are not held to their size.
pub(crate) const ADVICE: &str = "put Docker's directory on btrfs (storage driver btrfs) or on XFS mounted with `prjquota` \
    (overlay2), without the containerd image store, or have servers that outgrow their disks stopped ([docker] storage_overuse = stop)";

/// Where Docker keeps containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// Docker's storage driver: `overlay2`.
    pub driver: String,
    /// The file system below it: `ext4`. Empty where neither the kernel nor Docker tells.
    pub file_system: String,
    /// Docker's directory.
    pub root: PathBuf,
    /// Whether a container cannot grow beyond the size that it was made with.
    pub quota_enforced: bool,
    /// Whether images are in containerd's store, and not in Docker's own.
    pub image_store: bool,
}

impl Storage {
    /// By what Docker says of itself, and the kernel of its mounts.
    pub(super) fn of(info: &SystemInfo, mountinfo: &str) -> Self {
        let root = PathBuf::from(info.docker_root_dir.clone().unwrap_or_default());
        let mount = mount_of(mountinfo, &root);
        let file_system = mount.map(|(kind, _)| kind.to_owned()).or_else(|| backing(info)).unwrap_or_default();
        let image_store = in_image_store(info);
        let quota_enforced = match info.driver.as_deref() {
            // Whatever its name: it takes the option and ignores it.
            _ if image_store => false,
            Some("btrfs" | "zfs" | "devicemapper") => true,
            Some("overlay2") => mount.is_some_and(|(kind, options)| kind == "xfs" && has_project_quotas(options)),
            _ => false,
        };
        Self { driver: info.driver.clone().unwrap_or_default(), file_system, root, quota_enforced, image_store }
    }

    /// By a Docker that answered, and the kernel.
    pub(super) async fn look(info: &SystemInfo) -> Result<Self, Error> {
        // Of the thread: tests have mounts that the process has not.
        const MOUNTS: &str = "/proc/thread-self/mountinfo";
        let mountinfo = tokio::fs::read_to_string(MOUNTS)
            .await
            .map_err(|source| Error::System { action: format!("read {MOUNTS}"), source })?;
        Ok(Self::of(info, &mountinfo))
    }

    /// Names the storage driver, its directory and the file system.
    pub(crate) fn described(&self) -> String {
        let file_system = if self.file_system.is_empty() { "an unknown file system" } else { &self.file_system };
        format!("{} in {} on {file_system}", self.driver, self.root.display())
    }
}

impl Docker {
    /// Whether `root_gb` is a limit here.
    pub(crate) fn quota_enforced(&self) -> bool {
        self.inner.storage.quota_enforced
    }
}

fn has_project_quotas(options: &str) -> bool {
    options.split(',').any(|option| option == "prjquota")
}

/// Docker's own word for the file system: `extfs`.
fn backing(info: &SystemInfo) -> Option<String> {
    status(info, "Backing Filesystem")
}

/// Whether Docker has the containerd image store. Then its storage driver is a snapshotter of containerd's.
fn in_image_store(info: &SystemInfo) -> bool {
    status(info, "driver-type").is_some_and(|kind| kind.starts_with("io.containerd.snapshotter"))
}

/// What Docker's storage driver says of itself under `name`.
fn status(info: &SystemInfo, name: &str) -> Option<String> {
    let lines = info.driver_status.as_ref()?;
    let line = lines.iter().find(|line| line.first().is_some_and(|first| first == name))?;
    line.get(1).cloned()
}

/// Type and options of the file system that holds `path`, from `/proc/self/mountinfo`:
/// `36 35 98:0 /root /mount/point rw,noatime shared:1 - xfs /dev/sda rw,prjquota`.
fn mount_of<'a>(mountinfo: &'a str, path: &Path) -> Option<(&'a str, &'a str)> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let point = Path::new(place.split(' ').nth(4)?);
        let mut words = kind.split(' ');
        Some((point, words.next()?, words.nth(1)?))
    });
    // The last of equal ones lies on top.
    let best =
        mounts.filter(|(point, ..)| path.starts_with(point)).max_by_key(|(point, ..)| point.components().count());
    best.map(|(_, kind, options)| (kind, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
        2 1 8:2 / /srv/docker rw,noatime shared:2 - xfs /dev/sdb rw,attr2,prjquota\n";

    fn storage(driver: &str, root: &str) -> Storage {
        let info = SystemInfo {
            driver: Some(driver.to_owned()),
            docker_root_dir: Some(root.to_owned()),
            driver_status: Some(vec![vec!["Backing Filesystem".to_owned(), "extfs".to_owned()]]),
            ..Default::default()
        };
        Storage::of(&info, MOUNTS)
    }

    #[test]
    fn overlay_enforces_a_size_on_xfs_with_project_quotas_only() {
        assert!(storage("overlay2", "/srv/docker").quota_enforced);
        assert!(!storage("overlay2", "/var/lib/docker").quota_enforced);
        assert!(!storage("overlayfs", "/srv/docker").quota_enforced);
        assert!(!storage("vfs", "/srv/docker").quota_enforced);
    }

    #[test]
    fn a_snapshotter_of_containerd_enforces_no_size_whatever_its_name() {
        for driver in ["btrfs", "overlayfs", "zfs"] {
            let kind = ["driver-type", "io.containerd.snapshotter.v1"].map(str::to_owned).to_vec();
            let info = SystemInfo {
                driver: Some(driver.to_owned()),
                docker_root_dir: Some("/srv/docker".to_owned()),
                driver_status: Some(vec![kind]),
                ..Default::default()
            };
            let found = Storage::of(&info, MOUNTS);
            assert!(!found.quota_enforced && found.image_store, "{driver}");
        }
        let own = storage("btrfs", "/srv/docker");
        assert!(own.quota_enforced && !own.image_store);
    }

    #[test]
    fn the_file_system_is_named_as_the_kernel_does_or_else_as_docker_does() {
        assert_eq!(storage("overlay2", "/srv/docker").described(), "overlay2 in /srv/docker on xfs");
        assert_eq!(storage("overlay2", "/var/lib/docker").described(), "overlay2 in /var/lib/docker on ext4");
        assert_eq!(storage("overlay2", "relative").described(), "overlay2 in relative on extfs");
        let unknown = Storage { driver: "vfs".to_owned(), root: "/d".into(), ..Storage::default() };
        assert_eq!(unknown.described(), "vfs in /d on an unknown file system");
    }
}
