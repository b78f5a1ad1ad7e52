//! Walks a tar archive from header to header, without input or output of its own: it says which bytes it needs next, and is
//! given them. So the same walk serves an archive that is read by range and one that streams by.
//!
//! The archive is a tenant's: every number and name in it is checked before it is used.

use std::collections::HashMap;
use std::ops::Range;

use tar::{EntryType, Header};

use crate::Problem;
use crate::store::holes::{Records, is_header, until_zero};

const BLOCK: u64 = 512;
/// `docker save` writes four entries for each layer in its older layout, two in its newer one.
pub const MAX_ENTRIES: usize = 8192;
const MAX_PATH: usize = 1024;
/// All names together, in bytes: they are kept in memory.
const MAX_PATHS: usize = 1024 * 1024;
/// Extended headers: long names, PAX records.
const MAX_EXTENSION: u64 = 64 * 1024;

/// One member of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative, without `.` and `..`, without a trailing slash.
    pub path: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bytes of the archive that are the file's content.
    File(Range<u64>),
    /// A second name of the entry with this path.
    Link(String),
    /// Directories, devices, pipes: of no use here.
    Other,
}

/// What a header before an entry says of that entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

enum Next {
    Header,
    /// The content of an extended header of this type.
    Extension(EntryType, u64),
    End,
}

/// The state of one walk.
pub struct Walker {
    size: u64,
    position: u64,
    next: Next,
    extensions: Extensions,
    entries: usize,
    /// Bytes of the names so far.
    paths: usize,
}

impl Walker {
    /// A walk through an archive of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self { size, position: 0, next: Next::Header, extensions: Extensions::default(), entries: 0, paths: 0 }
    }

    /// The bytes to be given to [`Walker::feed`] next; `None` at the end of the archive.
    ///
    /// # Errors
    /// The archive ends before them.
    pub fn wants(&self) -> Result<Option<Range<u64>>, Problem> {
        let length = match self.next {
            Next::End => return Ok(None),
            // Some tools leave out the blocks of zeros at the end.
            Next::Header if self.position == self.size && self.entries > 0 => return Ok(None),
            Next::Header => BLOCK,
            Next::Extension(_, length) => length,
        };
        let end = self.position + length;
        if end > self.size {
            return Err(Problem::Truncated { what: "the header of an entry".into(), needed: end, size: self.size });
        }
        Ok(Some(self.position..end))
    }

    /// Takes the bytes that were wanted; returns an entry when they complete one.
    ///
    /// # Errors
    /// They are not tar, or not within bounds.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Entry>, Problem> {
        match std::mem::replace(&mut self.next, Next::Header) {
            Next::End => Ok(None),
            Next::Extension(kind, length) => {
                self.extension(kind, bytes)?;
                self.position += length.next_multiple_of(BLOCK);
                Ok(None)
            }
            Next::Header => self.header(bytes),
        }
    }

    fn header(&mut self, block: &[u8]) -> Result<Option<Entry>, Problem> {
        if block.iter().all(|byte| *byte == 0) {
            if self.entries == 0 {
                return Err(Problem::NotATar { found: "it begins with zeros" });
            }
            self.next = Next::End;
            return Ok(None);
        }
        if !is_header(block) {
            return Err(match self.position {
                0 => Problem::NotATar { found: looks_like(block) },
                _ => self.damaged("there is no tar header where one should be"),
            });
        }
        let header = Header::from_byte_slice(block);
        let length = header.entry_size().map_err(|_| self.damaged("the size of an entry is not a number"))?;
        let kind = header.entry_type();
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            let reason = format!("it has more than {MAX_ENTRIES} entries");
            return Err(Problem::NotADockerArchive { reason });
        }
        self.position += BLOCK;
        if matches!(
            kind,
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
        ) {
            if length > MAX_EXTENSION {
                let what = "an extended header of its archive".into();
                return Err(Problem::TooLarge { what, found: length, limit: MAX_EXTENSION });
            }
            self.next = Next::Extension(kind, length);
            return Ok(None);
        }
        self.entry(header, kind, length).map(Some)
    }

    fn entry(&mut self, header: &Header, kind: EntryType, length: u64) -> Result<Entry, Problem> {
        let extensions = std::mem::take(&mut self.extensions);
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = self.path(&path, "")?;
        let start = self.position;
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous => {
                let length = extensions.size.unwrap_or(length);
                let end = start.checked_add(length).ok_or_else(|| self.damaged("an entry has an impossible size"))?;
                if end > self.size {
                    return Err(Problem::Truncated { what: path, needed: end, size: self.size });
                }
                self.position = start + length.next_multiple_of(BLOCK);
                // The padding after the last entry may be all that is missing.
                self.position = self.position.min(self.size);
                Kind::File(start..end)
            }
            EntryType::Symlink | EntryType::Link => {
                let link = extensions.link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
                let link = link.ok_or_else(|| self.damaged("a link has no target"))?;
                // A hard link is named from the root of the archive, a symbolic link from the link's own directory.
                let base = if kind == EntryType::Symlink { parent(&path) } else { "" };
                // Links out of the archive lead nowhere; they matter only if the manifest needs them.
                self.path(&link, base).map_or(Kind::Other, Kind::Link)
            }
            EntryType::Directory | EntryType::Char | EntryType::Block | EntryType::Fifo => Kind::Other,
            _ => return Err(self.damaged("an entry is of a type that `docker save` does not write")),
        };
        let link = if let Kind::Link(target) = &kind { target.len() } else { 0 };
        self.paths += path.len() + link;
        if self.paths > MAX_PATHS {
            let reason = format!("the names in it have more than {MAX_PATHS} bytes");
            return Err(Problem::NotADockerArchive { reason });
        }
        Ok(Entry { path, kind })
    }

    fn extension(&mut self, kind: EntryType, bytes: &[u8]) -> Result<(), Problem> {
        match kind {
            EntryType::GNULongName => self.extensions.path = Some(until_zero(bytes).to_vec()),
            EntryType::GNULongLink => self.extensions.link = Some(until_zero(bytes).to_vec()),
            EntryType::XHeader => {
                // Some tools fill it up with zeros.
                let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let records: Option<HashMap<&[u8], &[u8]>> = Records(&bytes[..length]).collect();
                let records = records.ok_or_else(|| self.damaged("a PAX header is not readable"))?;
                if records.keys().any(|key| key.starts_with(b"GNU.sparse")) {
                    return Err(self.damaged("an entry is of a type that `docker save` does not write"));
                }
                if let Some(size) = records.get(&b"size"[..]) {
                    let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
                    let size = size.ok_or_else(|| self.damaged("the size of an entry is not a number"))?;
                    self.extensions.size = Some(size);
                }
                let own = |key: &str| records.get(key.as_bytes()).map(|value| value.to_vec());
                self.extensions.path = own("path").or_else(|| self.extensions.path.take());
                self.extensions.link = own("linkpath").or_else(|| self.extensions.link.take());
            }
            // A global header: comments, such as git's.
            _ => {}
        }
        Ok(())
    }

    /// A path inside the archive: `name`, as seen from `base`.
    fn path(&self, name: &[u8], base: &str) -> Result<String, Problem> {
        let bad = |reason| self.damaged(reason);
        if name.len() > MAX_PATH {
            return Err(bad("a path is too long"));
        }
        let name = std::str::from_utf8(name).map_err(|_| bad("a path is not UTF-8"))?;
        if name.contains('\0') {
            return Err(bad("a path has a NUL in it"));
        }
        resolve(base, name).ok_or_else(|| bad("a path leads out of the archive"))
    }

    fn damaged(&self, reason: &str) -> Problem {
        Problem::Damaged { offset: self.position, reason: reason.into() }
    }
}

/// `name` as seen from the directory `base`; `None` when it leads out of the archive.
pub fn resolve(base: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// What a file that is no tar archive seems to be.
fn looks_like(block: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 9] = [
        (b"\x1f\x8b", "it is compressed with gzip, and must not be"),
        (b"\x28\xb5\x2f\xfd", "it is compressed with zstd, and must not be"),
        (b"\xfd7zXZ\0", "it is compressed with xz, and must not be"),
        (b"BZh", "it is compressed with bzip2, and must not be"),
        (b"QFI\xfb", "it is a qcow2 disk"),
        (b"KDMV", "it is a VMDK disk"),
        (b"hsqs", "it is a squashfs file system"),
        (b"PK\x03\x04", "it is a zip archive"),
        (b"\x7fELF", "it is a program"),
    ];
    if block.ends_with(b"\x55\xaa") {
        return "it is a disk with a boot record";
    }
    KNOWN.iter().find(|(magic, _)| block.starts_with(magic)).map_or("it has no tar header", |(_, name)| name)
}

#[cfg(test)]
mod tests;
