//! What an image calls its volumes. The registry serves images without them, so that what is below these paths is a part of the server's
//! own files; it says in a label which they were.
//!
//! Docker makes the directory of a volume where the image has none, and leaves it writable where the root file system is not: so
//! does this.

use bollard::models::ContainerCreateBody;
use uuid::Uuid;

use super::files::directory;
use super::{Docker, Error};
use crate::guest::Guest;
use crate::registry::volumes;

/// Bytes of a path, and names in it: Docker is asked for each of the directories.
const LONGEST: usize = 1024;
const DEEPEST: usize = 16;

impl Docker {
    /// The paths that the image calls volumes. One that is not there has none: who makes a container of it hears that from Docker.
    pub(super) async fn image_volumes(&self, image: &str) -> Result<Vec<String>, Error> {
        let config = match self.image_config(image).await {
            Err(Error::NotFound { .. }) => return Ok(Vec::new()),
            found => found?,
        };
        let Some(config) = config else {
            tracing::warn!(image, "Docker does not tell which volumes an image has: they are taken for none");
            return Ok(Vec::new());
        };
        let labels = config.labels.unwrap_or_default();
        Ok(labels.get(volumes::LABEL).map(|label| volumes::paths(label)).unwrap_or_default())
    }

    /// Makes the directories of a new container that are not there.
    pub(super) async fn make_directories(&self, uuid: Uuid, id: &str, paths: &[String]) -> Result<(), Error> {
        let mut missing = Vec::new();
        for path in paths.iter().filter(|path| is_plain(path)) {
            for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
                let above = &path[..end];
                if !missing.contains(&above) && !self.leads_somewhere(id, above).await? {
                    missing.push(above);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        tracing::debug!(instance = %uuid, directories = ?missing, "the image has no such directories; making them");
        let made: Vec<_> = missing.into_iter().map(directory).collect();
        self.upload(id, &made).await
    }
}

/// Volumes after all, for a server whose root file system is read-only, and one that may mount: a Docker in it needs another file
/// system there than a container's own.
pub(super) fn add(body: &mut ContainerCreateBody, guest: &Guest, paths: &[String]) {
    let asked = &guest.configuration;
    let mounts = |capability: &String| ["SYS_ADMIN", "ALL"].contains(&capability.as_str());
    let may_mount = asked.privileges.privileged == Some(true) || asked.cap_add.iter().any(mounts);
    if !paths.is_empty() && (asked.read_only == Some(true) || may_mount) {
        body.volumes = Some(paths.to_vec());
    }
}

/// Whether a path leads from the root to somewhere below it, without a detour.
fn is_plain(path: &str) -> bool {
    let Some(names) = path.strip_prefix('/') else { return false };
    let is_bounded = path.len() <= LONGEST && names.split('/').count() <= DEEPEST;
    is_bounded && !path.contains('\0') && names.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::container::an_instance;
    use crate::guest::Configuration;
    use crate::guest::configuration::Sources;

    #[test]
    fn who_cannot_write_there_or_may_mount_has_volumes_and_nobody_else() {
        let volumes = |key: &str, value: &str| {
            let extra_specs = [(format!("docker:{key}"), value.to_owned())].into();
            let sources = Sources { extra_specs, memory_mb: 64, ..Sources::default() };
            let guest = Guest { configuration: Configuration::parse(&sources).unwrap(), ..an_instance() };
            let mut body = ContainerCreateBody::default();
            add(&mut body, &guest, &["/data".to_owned()]);
            body.volumes.unwrap_or_default()
        };
        for (key, value) in [("read_only", "false"), ("privileged", "false"), ("cap_add", "NET_ADMIN")] {
            assert!(volumes(key, value).is_empty(), "{key}");
        }
        for (key, value) in
            [("read_only", "true"), ("privileged", "true"), ("cap_add", "SYS_ADMIN"), ("cap_add", "ALL")]
        {
            assert_eq!(volumes(key, value), ["/data"], "{key}");
        }
    }

    #[test]
    fn only_plain_paths_become_directories() {
        assert!(is_plain("/data") && is_plain("/var/lib/x y"));
        for other in ["", "/", "data", "/a//b", "/a/", "/a/../b", "/./a", "/a\0b"] {
            assert!(!is_plain(other), "{other:?}");
        }
        assert!(!is_plain(&format!("/{}", "a".repeat(LONGEST))));
        assert!(is_plain(&"/a".repeat(DEEPEST)) && !is_plain(&"/a".repeat(DEEPEST + 1)));
    }
}
