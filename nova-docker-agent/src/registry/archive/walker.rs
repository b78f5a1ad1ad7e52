//! Walks a tar archive from header to header, without input or output of its own: it says which bytes it needs next, and is
//! given them. So the same walk serves an archive that is read by range and one that streams by.
//!
//! The archive is a tenant's: every number and name in it is checked before it is used.

use std::collections::HashMap;
use std::ops::Range;

use tar::{EntryType, Header};

use super::super::error::Problem;

const BLOCK: u64 = 512;
/// `docker save` writes four entries for each layer in its older layout, two in its newer one.
pub const MAX_ENTRIES: usize = 8192;
const MAX_PATH: usize = 1024;
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
}

impl Walker {
    /// A walk through an archive of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self { size, position: 0, next: Next::Header, extensions: Extensions::default(), entries: 0 }
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
        if !checksum_is_right(block) {
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
        Ok(Entry { path, kind })
    }

    fn extension(&mut self, kind: EntryType, bytes: &[u8]) -> Result<(), Problem> {
        match kind {
            EntryType::GNULongName => self.extensions.path = Some(until_zero(bytes)),
            EntryType::GNULongLink => self.extensions.link = Some(until_zero(bytes)),
            EntryType::XHeader => {
                let records = pax_records(bytes).ok_or_else(|| self.damaged("a PAX header is not readable"))?;
                if records.keys().any(|key| key.starts_with("GNU.sparse")) {
                    return Err(self.damaged("an entry is of a type that `docker save` does not write"));
                }
                if let Some(size) = records.get("size") {
                    let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
                    let size = size.ok_or_else(|| self.damaged("the size of an entry is not a number"))?;
                    self.extensions.size = Some(size);
                }
                let own = |key: &str| records.get(key).map(|value| value.to_vec());
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

fn until_zero(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|byte| *byte != 0).collect()
}

/// The records "LENGTH KEY=VALUE\n" of a PAX header. Values may contain anything, newlines too.
fn pax_records(mut bytes: &[u8]) -> Option<HashMap<String, &[u8]>> {
    let mut records = HashMap::new();
    while !bytes.is_empty() && bytes[0] != 0 {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let key = std::str::from_utf8(&record[..equals]).ok()?;
        records.insert(key.to_owned(), &record[equals + 1..]);
        bytes = &bytes[length..];
    }
    Some(records)
}

/// The sum of a header's bytes, its own field counted as spaces, is in its field.
fn checksum_is_right(block: &[u8]) -> bool {
    let field = 148..156;
    let sum: u32 =
        block.iter().enumerate().map(|(at, byte)| if field.contains(&at) { 32 } else { u32::from(*byte) }).sum();
    let stored = Header::from_byte_slice(block).cksum();
    stored.is_ok_and(|stored| stored == sum)
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
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<Vec<Entry>, Problem> {
        walk_as(bytes, bytes.len() as u64)
    }

    fn walk_as(bytes: &[u8], size: u64) -> Result<Vec<Entry>, Problem> {
        let mut walker = Walker::new(size);
        let mut entries = vec![];
        while let Some(range) = walker.wants()? {
            let wanted = &bytes[range.start as usize..range.end as usize];
            entries.extend(walker.feed(wanted)?);
        }
        Ok(entries)
    }

    fn append(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, path: &str, link: Option<&str>, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        match link {
            Some(link) => builder.append_link(&mut header, path, link).unwrap(),
            None => builder.append_data(&mut header, path, content).unwrap(),
        }
    }

    fn archive(entries: &[(EntryType, &str, Option<&str>, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(vec![]);
        for (kind, path, link, content) in entries {
            append(&mut builder, *kind, path, *link, content);
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_are_found_where_their_content_is() {
        let bytes = archive(&[
            (EntryType::Directory, "abc/", None, b""),
            (EntryType::Regular, "abc/layer.tar", None, &[7; 1000]),
            (EntryType::Regular, "./manifest.json", None, b"[]"),
        ]);
        let entries = walk(&bytes).unwrap();
        assert_eq!(entries[0], Entry { path: "abc".into(), kind: Kind::Other });
        assert_eq!(entries[1], Entry { path: "abc/layer.tar".into(), kind: Kind::File(1024..2024) });
        assert_eq!(entries[2], Entry { path: "manifest.json".into(), kind: Kind::File(2560..2562) });
    }

    #[test]
    fn names_longer_than_a_header_are_whole() {
        let long = format!("{}/layer.tar", "d".repeat(200));
        let bytes = archive(&[(EntryType::Regular, &long, None, b"x"), (EntryType::Symlink, "l", Some(&long), b"")]);
        let entries = walk(&bytes).unwrap();
        assert_eq!(entries[0].path, long);
        assert_eq!(entries[1].kind, Kind::Link(long));
    }

    #[test]
    fn pax_headers_name_and_size_their_entry_only() {
        let long = "p".repeat(150);
        let mut builder = tar::Builder::new(vec![]);
        builder.append_pax_extensions([("path", long.as_bytes()), ("size", b"3"), ("comment", b"a\nb")]).unwrap();
        append(&mut builder, EntryType::Regular, "short", None, b"abc");
        append(&mut builder, EntryType::Regular, "next", None, b"abcd");
        let entries = walk(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(entries[0].path, long);
        assert_eq!(entries[1], Entry { path: "next".into(), kind: Kind::File(2560..2564) });
    }

    #[test]
    fn a_symbolic_link_is_seen_from_its_directory_and_a_hard_link_from_the_root() {
        let bytes = archive(&[
            (EntryType::Symlink, "a/layer.tar", Some("../b/layer.tar"), b""),
            (EntryType::Link, "c/layer.tar", Some("b/layer.tar"), b""),
            (EntryType::Symlink, "d", Some("/etc/passwd"), b""),
            (EntryType::Symlink, "e", Some("../../etc/passwd"), b""),
        ]);
        let kinds: Vec<_> = walk(&bytes).unwrap().into_iter().map(|entry| entry.kind).collect();
        let target = Kind::Link("b/layer.tar".into());
        assert_eq!(kinds, [target.clone(), target, Kind::Other, Kind::Other]);
    }

    #[test]
    fn a_size_beyond_eight_gigabytes_is_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_path("layer.tar").unwrap();
        header.set_size(20 << 30);
        header.set_cksum();
        let mut walker = Walker::new(30 << 30);
        let entry = walker.feed(header.as_bytes()).unwrap().unwrap();
        assert_eq!(entry.kind, Kind::File(512..512 + (20 << 30)));
        assert_eq!(walker.wants().unwrap(), Some(512 + (20 << 30)..1024 + (20 << 30)));
    }

    #[test]
    fn an_entry_that_goes_on_past_the_end_is_truncated() {
        let bytes = archive(&[(EntryType::Regular, "layer.tar", None, &[7; 5000])]);
        let problem = walk(&bytes[..2000]).unwrap_err();
        assert_eq!(problem, Problem::Truncated { what: "layer.tar".into(), needed: 5512, size: 2000 });
    }

    #[test]
    fn an_archive_without_closing_zeros_is_whole() {
        let bytes = archive(&[(EntryType::Regular, "a", None, &[7; 512])]);
        assert_eq!(walk(&bytes[..1024]).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_tar_archive_is_told_by_its_first_bytes() {
        for (start, part) in
            [(&b"\x1f\x8b\x08"[..], "gzip"), (b"QFI\xfb", "qcow2"), (b"hello", "no tar header"), (b"", "zeros")]
        {
            let mut file = vec![0; 4096];
            file[..start.len()].copy_from_slice(start);
            let problem = walk(&file).unwrap_err();
            assert!(matches!(problem, Problem::NotATar { found } if found.contains(part)), "{problem}");
        }
    }

    #[test]
    fn damage_between_entries_is_found() {
        let mut bytes = archive(&[(EntryType::Regular, "a", None, b"1"), (EntryType::Regular, "b", None, b"2")]);
        bytes[1024 + 3] ^= 1;
        assert!(matches!(walk(&bytes).unwrap_err(), Problem::Damaged { offset: 1024, .. }));
    }

    #[test]
    fn paths_out_of_the_archive_and_sparse_files_are_refused() {
        for (kind, path) in
            [(EntryType::Regular, "../../etc/passwd"), (EntryType::Regular, "/x"), (EntryType::GNUSparse, "x")]
        {
            let mut header = Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_cksum();
            let problem = Walker::new(4096).feed(header.as_bytes()).unwrap_err();
            assert!(matches!(problem, Problem::Damaged { .. }), "{path}: {problem}");
        }
    }

    #[test]
    fn an_endless_list_of_entries_and_an_oversized_extended_header_are_refused() {
        let mut header = Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_size(0);
        header.set_cksum();
        let bytes: Vec<u8> =
            std::iter::repeat_n(header.as_bytes().as_slice(), MAX_ENTRIES + 1).flatten().copied().collect();
        assert!(matches!(walk(&bytes).unwrap_err(), Problem::NotADockerArchive { .. }));
        header.set_entry_type(EntryType::XHeader);
        header.set_size(MAX_EXTENSION + 1);
        header.set_cksum();
        let problem = walk_as(header.as_bytes(), 1 << 30).unwrap_err();
        assert!(matches!(problem, Problem::TooLarge { .. }), "{problem}");
    }

    #[test]
    fn a_size_that_overflows_is_damage() {
        let mut walker = Walker::new(1 << 20);
        let mut pax = tar::Builder::new(vec![]);
        pax.append_pax_extensions([("size", u64::MAX.to_string().as_bytes())]).unwrap();
        append(&mut pax, EntryType::Regular, "a", None, b"");
        let bytes = pax.into_inner().unwrap();
        let problem = loop {
            let range = walker.wants().unwrap().unwrap();
            match walker.feed(&bytes[range.start as usize..range.end as usize]) {
                Ok(_) => {}
                Err(problem) => break problem,
            }
        };
        assert!(matches!(problem, Problem::Damaged { .. }), "{problem}");
    }
}
