//! Reading a small file of a container, without a process in it.

use std::io::Read;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures::StreamExt;

use super::files::Owner;
use super::{Docker, Error};

/// Nobody reads longer ones to the end.
const MAX_FILE: usize = 64 << 10;
/// A header and the padding of a tar archive of one file.
const TAR_OVERHEAD: usize = 8 << 10;

/// What is at a path.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Nothing.
    Absent,
    /// A link, a directory, or something that is no text of a usual size.
    Other,
    Text(Text),
}

/// A plain text file.
#[derive(Debug, PartialEq)]
pub(super) struct Text {
    pub(super) content: String,
    pub(super) owner: Owner,
    pub(super) mode: u32,
}

impl Docker {
    /// A text file of a container.
    pub(super) async fn read_file(&self, id: &str, path: &str) -> Result<Found, Error> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let docker = &self.engine().docker;
        let mut stream = std::pin::pin!(docker.download_from_container(id, Some(options)));
        let mut archive = Vec::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => archive.extend_from_slice(&chunk),
                Err(error) => {
                    return match self.engine().error("read a file of container", id, error) {
                        Error::NotFound { .. } => Ok(Found::Absent),
                        other => Err(other),
                    };
                }
            }
            if archive.len() > MAX_FILE + TAR_OVERHEAD {
                return Ok(Found::Other);
            }
        }
        Ok(text(&archive).map_or(Found::Other, Found::Text))
    }

    /// The content of a text file; none when there is no such thing.
    pub(super) async fn read_text(&self, id: &str, path: &str) -> Result<Option<String>, Error> {
        Ok(match self.read_file(id, path).await? {
            Found::Text(text) => Some(text.content),
            Found::Absent | Found::Other => None,
        })
    }
}

fn text(archive: &[u8]) -> Option<Text> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    let header = entry.header();
    let owner = Owner { user: header.uid().ok()?, group: header.gid().ok()? };
    let mode = header.mode().ok()? & 0o7777;
    let is_plain = header.entry_type().is_file();
    let mut content = String::new();
    (is_plain && entry.read_to_string(&mut content).is_ok()).then_some(Text { content, owner, mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_uid(0);
        header.set_gid(42);
        header.set_mode(0o640);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, "shadow", content).unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn a_plain_file_is_read_with_its_owner_and_mode() {
        let found = text(&packed(tar::EntryType::Regular, b"root:*:\n")).unwrap();
        let owner = Owner { user: 0, group: 42 };
        assert_eq!(found, Text { content: "root:*:\n".to_owned(), owner, mode: 0o640 });
    }

    #[test]
    fn a_link_or_bytes_that_are_no_text_are_no_file_to_read() {
        assert_eq!(text(&packed(tar::EntryType::Symlink, b"")), None);
        assert_eq!(text(&packed(tar::EntryType::Regular, &[0xff, 0xfe])), None);
        assert_eq!(text(b""), None);
    }
}
