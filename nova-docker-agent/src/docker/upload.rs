//! Files are put into a container.
//!
//! Docker unpacks an archive inside the container's root: a link in the image leads nowhere else, and one at a file's own place is
//! replaced. So is one above it that leads nowhere. One above it that leads somewhere is Docker's to follow, and not the archive's:
//! some releases unpack nothing through a link with an absolute target, or with more dots than there are directories.

use std::collections::{BTreeMap, BTreeSet};

use bollard::container::PathStatResponse;
use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;

use super::create::wanted_wrong;
use super::files::{File, Owner};
use super::read_file::Found;
use super::{Docker, Error};

/// In the mode of a file, as Docker's Go has it.
const LINK: u32 = 1 << 27;
const ROOT: &str = "/";

/// How a directory is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Straight,
    /// It is a link to one.
    Link,
}

/// Directories that are there already.
type Present<'a> = BTreeMap<&'a str, Way>;

impl Docker {
    /// Puts files into a container.
    pub(super) async fn upload(&self, id: &str, files: &[File]) -> Result<(), Error> {
        let directories: BTreeSet<&str> =
            files.iter().flat_map(|file| &file.directories).map(|(directory, _)| &**directory).collect();
        let mut present = Present::new();
        for directory in directories {
            if let Some(way) = self.way_to(id, directory).await? {
                present.insert(directory, way);
            }
        }
        let mut by_base: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
        for file in files {
            by_base.entry(base(file, &present)).or_default().push(file);
        }
        for (base, files) in by_base {
            let archive = archive(&files, &present, base)
                .map_err(|source| Error::System { action: "pack the instance's files".to_owned(), source })?;
            let options = UploadToContainerOptionsBuilder::default().path(base).build();
            let body = bollard::body_full(Bytes::from(archive));
            let uploaded = self.engine().docker.upload_to_container(id, Some(options), body).await;
            uploaded.map_err(|error| match self.engine().error("put files into container", id, error) {
                // A file of the image's is where a directory has to be.
                Error::Docker { message, .. } if message.contains("not a directory") => wanted_wrong(message),
                other => other,
            })?;
        }
        Ok(())
    }

    pub(super) async fn path_exists(&self, id: &str, path: &str) -> Result<bool, Error> {
        Ok(self.found_at(id, path).await?.is_some())
    }

    /// Whether something is at the path. A link is what it leads to: nothing, where that is not there, or in a circle.
    pub(super) async fn leads_somewhere(&self, id: &str, path: &str) -> Result<bool, Error> {
        Ok(self.way_to(id, path).await?.is_some())
    }

    async fn way_to(&self, id: &str, path: &str) -> Result<Option<Way>, Error> {
        match self.found_at(id, path).await {
            // Docker has followed it as far as it goes.
            Ok(Some(found)) if found.file_mode & LINK != 0 => {
                Ok(self.path_exists(id, &found.link_target).await?.then_some(Way::Link))
            }
            Ok(found) => Ok(found.map(|_| Way::Straight)),
            // Why, Docker says only where it is asked for the content.
            Err(Error::Docker { status: 500, .. }) => match self.read_file(id, path).await {
                Err(Error::Docker { message, .. }) if is_circle(&message) => Ok(None),
                Ok(found) => Ok((found != Found::Absent).then_some(Way::Straight)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn found_at(&self, id: &str, path: &str) -> Result<Option<PathStatResponse>, Error> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        match self.engine().docker.get_container_archive_info(id, Some(options)).await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match self.engine().error("look into container", id, error) {
                Error::NotFound { .. } => Ok(None),
                other => Err(other),
            },
        }
    }
}

/// Whether Docker has followed links for as long as it does: in its own words, or in those of the kernel, which newer ones pass on.
fn is_circle(message: &str) -> bool {
    ["too many links", "too many levels of symbolic links"].iter().any(|words| message.contains(words))
}

/// Where a file's archive is unpacked: at the root, or, where a link is on the way, as far down as there is something.
fn base<'a>(file: &'a File, present: &Present<'_>) -> &'a str {
    let there = file.directories.iter().filter_map(|(path, _)| Some((&**path, *present.get(&**path)?)));
    let there: Vec<(&str, Way)> = there.collect();
    if there.iter().any(|(_, way)| *way == Way::Link) { there.last().map_or(ROOT, |(path, _)| path) } else { ROOT }
}

/// A tar archive of the files, to be unpacked at `base`, and of their directories that are not `present`: Docker would make those, open
/// to all.
fn archive(files: &[&File], present: &Present<'_>, base: &str) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mtime = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    // Of paths without the slash at their beginning.
    let below = |path: &str| {
        let path = path.strip_prefix(base.trim_start_matches('/')).unwrap_or(path);
        path.trim_start_matches('/').to_owned()
    };
    let mut append = |path: &str, kind: tar::EntryType, owner: Owner, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.user);
        header.set_gid(owner.group);
        header.set_mtime(mtime);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, below(path), content)
    };
    let mut made: Vec<&str> = Vec::new();
    for file in files {
        for (directory, mode) in &file.directories {
            if !present.contains_key(&**directory) && !made.contains(&&**directory) {
                made.push(directory);
                append(&format!("{}/", &directory[1..]), tar::EntryType::Directory, Owner::default(), *mode, &[])?;
            }
        }
        if !file.path.is_empty() {
            append(&file.path, tar::EntryType::Regular, file.owner, file.mode, &file.content)?;
        }
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::files::authorized_keys;
    use crate::docker::files::hosts_file;
    use crate::guest::{InjectedFile, PublicKey};

    /// Where the files are unpacked, and what each archive has then.
    fn packed(files: &[File], present: &[(&'static str, Way)]) -> Vec<(String, String, u32)> {
        let present: Present<'_> = present.iter().copied().collect();
        let mut all = vec![];
        for file in files {
            let base = base(file, &present);
            let packed = archive(&[file], &present, base).unwrap();
            for entry in tar::Archive::new(&*packed).entries().unwrap() {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                all.push((base.to_owned(), path, entry.header().mode().unwrap()));
            }
        }
        all
    }

    fn expected(entries: &[(&str, &str, u32)]) -> Vec<(String, String, u32)> {
        entries.iter().map(|(base, path, mode)| ((*base).to_owned(), (*path).to_owned(), *mode)).collect()
    }

    fn injected(path: &str) -> File {
        File::injected(&InjectedFile::new(path, b"x".to_vec()).unwrap())
    }

    fn key() -> File {
        authorized_keys(&PublicKey { name: "k".to_owned(), data: "ssh-ed25519 AAAA me\n".to_owned() })
    }

    #[test]
    fn only_links_that_go_on_for_ever_lead_nowhere() {
        assert!(is_circle("evalSymlinksInScope: too many links in /circle"));
        assert!(is_circle("lstat /circle: too many levels of symbolic links"));
        assert!(!is_circle("container is marked for removal") && !is_circle("open /proc: too many open files"));
    }

    #[test]
    fn a_file_of_the_users_has_its_missing_directories_and_is_roots() {
        let found = packed(&[injected("/srv/a/b.conf")], &[("/srv", Way::Straight)]);
        assert_eq!(found, expected(&[("/", "srv/a/", 0o755), ("/", "srv/a/b.conf", 0o644)]));
    }

    #[test]
    fn directories_are_made_once_and_only_where_they_are_missing() {
        let files = [hosts_file(String::new()), hosts_file(String::new()), key()];
        let present = [("/root", Way::Straight)].into();
        let packed = archive(&files.iter().collect::<Vec<_>>(), &present, ROOT).unwrap();
        let mut archive = tar::Archive::new(&*packed);
        let paths = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        let expected = ["etc/", "etc/hosts", "etc/hosts", "root/.ssh/", "root/.ssh/authorized_keys"];
        assert_eq!(paths.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_link_on_the_way_is_left_to_docker_to_follow() {
        let present = [("/var", Way::Straight), ("/var/run", Way::Link), ("/var/run/app", Way::Straight)];
        let found = packed(&[injected("/var/run/app/new/a"), injected("/var/b")], &present);
        let wanted = [("/var/run/app", "new/", 0o755), ("/var/run/app", "new/a", 0o644), ("/", "var/b", 0o644)];
        assert_eq!(found, expected(&wanted));
        let found = packed(&[key()], &[("/root", Way::Link)]);
        assert_eq!(found, expected(&[("/root", ".ssh/", 0o700), ("/root", ".ssh/authorized_keys", 0o600)]));
    }
}
