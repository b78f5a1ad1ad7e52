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

#[test]
fn names_that_would_fill_the_memory_are_refused() {
    let name = "n".repeat(1000);
    let entries = vec![(EntryType::Regular, name.as_str(), None, &b""[..]); MAX_PATHS / 1000 + 1];
    assert!(walk(&archive(&entries[1..])).is_ok());
    let problem = walk(&archive(&entries)).unwrap_err();
    assert!(matches!(&problem, Problem::NotADockerArchive { reason } if reason.contains("names")), "{problem}");
}
