//! Files that an instance finds in its root file system when it first starts, as cloud-init leaves them in a machine:
//! `/etc/hosts`, `/etc/resolv.conf`, root's `authorized_keys`.
//!
//! They are written once, before the first start, and belong to the instance from then on. Docker's own mounts for the first
//! two are not to be had without Docker's own network set-up, which disables IPv6 in the namespace and so flushes the
//! addresses that the agent has put there.

use std::collections::BTreeSet;
use std::fmt::Write;

use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;

use super::{Docker, Error};
use crate::guest::{Guest, PublicKey};
use crate::network::Interface;

/// Name servers that resolvers look at.
const MAX_DNS: usize = 3;

/// A file to be, owned by root.
#[derive(Debug, PartialEq)]
struct File {
    /// Directories above it, from the top, with the modes of those that have to be made.
    directories: Vec<(&'static str, u32)>,
    path: &'static str,
    mode: u32,
    content: String,
}

impl Docker {
    /// Puts the instance's files into a container that has not started.
    pub(super) async fn put_files(
        &self,
        id: &str,
        guest: &Guest,
        hostname: &str,
        interfaces: &[Interface],
    ) -> Result<(), Error> {
        let mut files = vec![hosts(hostname, interfaces)];
        files.extend(resolv_conf(interfaces));
        files.extend(guest.key.as_ref().filter(|_| self.inner.config.inject_key).map(authorized_keys));
        let mut present = BTreeSet::new();
        for (directory, _) in files.iter().flat_map(|file| &file.directories) {
            if !present.contains(directory) && self.path_exists(id, directory).await? {
                present.insert(*directory);
            }
        }
        let archive = archive(&files, &present)
            .map_err(|source| Error::System { action: "pack the instance's files".to_owned(), source })?;
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let body = bollard::body_full(Bytes::from(archive));
        let uploaded = self.engine().docker.upload_to_container(id, Some(options), body).await;
        uploaded.map_err(|error| self.engine().error("put files into container", id, error))
    }

    async fn path_exists(&self, id: &str, path: &str) -> Result<bool, Error> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        match self.engine().docker.get_container_archive_info(id, Some(options)).await {
            Ok(_) => Ok(true),
            Err(error) => match self.engine().error("look into container", id, error) {
                Error::NotFound { .. } => Ok(false),
                other => Err(other),
            },
        }
    }
}

/// The usual names, and the instance's own for its first fixed IP.
fn hosts(hostname: &str, interfaces: &[Interface]) -> File {
    let mut content = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
        ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned();
    let first = interfaces.iter().flat_map(|interface| &interface.addresses).next();
    let own = first.map_or("127.0.1.1".to_owned(), |address| address.addr().to_string());
    let short = hostname.split('.').next().unwrap_or(hostname);
    let alias = if short == hostname { String::new() } else { format!(" {short}") };
    // Writing to a string cannot fail.
    writeln!(content, "{own}\t{hostname}{alias}").ok();
    File { directories: vec![("/etc", 0o755)], path: "etc/hosts", mode: 0o644, content }
}

/// The interfaces' name servers, each once, in order; none where Neutron names none: the image's own file stays.
fn resolv_conf(interfaces: &[Interface]) -> Option<File> {
    let mut lines: Vec<String> = Vec::new();
    for server in interfaces.iter().flat_map(|interface| &interface.dns) {
        let line = format!("nameserver {server}\n");
        if !lines.contains(&line) && lines.len() < MAX_DNS {
            lines.push(line);
        }
    }
    (!lines.is_empty()).then(|| File {
        directories: vec![("/etc", 0o755)],
        path: "etc/resolv.conf",
        mode: 0o644,
        content: lines.concat(),
    })
}

/// The only authorised key, whatever the image had: whoever launches decides who may log in. Has the modes that sshd
/// requires.
fn authorized_keys(key: &PublicKey) -> File {
    File {
        directories: vec![("/root", 0o700), ("/root/.ssh", 0o700)],
        path: "root/.ssh/authorized_keys",
        mode: 0o600,
        content: format!("{}\n", key.data.trim()),
    }
}

/// A tar archive of the files, and of their directories that are not `present`: Docker would make those, open to all.
fn archive(files: &[File], present: &BTreeSet<&'static str>) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mtime = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut append = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(mtime);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content)
    };
    let mut made = present.clone();
    for file in files {
        for (directory, mode) in &file.directories {
            if made.insert(directory) {
                append(&format!("{}/", &directory[1..]), tar::EntryType::Directory, *mode, &[])?;
            }
        }
        append(file.path, tar::EntryType::Regular, file.mode, file.content.as_bytes())?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(packed: &[u8]) -> Vec<(String, u32)> {
        let mut archive = tar::Archive::new(packed);
        let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
        };
        archive.entries().unwrap().map(entry).collect()
    }

    #[test]
    fn directories_are_made_once_and_only_where_they_are_missing() {
        let key = PublicKey { name: "k".to_owned(), data: "ssh-ed25519 AAAA me\n".to_owned() };
        let files = [hosts("h", &[]), authorized_keys(&key)];
        let packed = archive(&files, &["/root"].into()).unwrap();
        let expected =
            [("etc/", 0o755), ("etc/hosts", 0o644), ("root/.ssh/", 0o700), ("root/.ssh/authorized_keys", 0o600)];
        assert_eq!(entries(&packed), expected.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn an_instance_without_an_address_still_knows_its_own_name() {
        assert!(hosts("web-1.example.org", &[]).content.ends_with("127.0.1.1\tweb-1.example.org web-1\n"));
    }

    #[test]
    fn without_name_servers_the_images_file_stays() {
        assert_eq!(resolv_conf(&[]), None);
    }
}
