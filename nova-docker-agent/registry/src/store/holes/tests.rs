use super::*;

/// A header as Go reads it: a name, a type, and a size.
fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..124 + size.len()].copy_from_slice(size);
    block[148..156].fill(b' ');
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    block
}

fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut all = header(name, kind, format!("{:011o}", content.len()).as_bytes());
    all.extend_from_slice(content);
    all.resize(all.len().next_multiple_of(BLOCK), 0);
    all
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut content = String::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|length| length.to_string().len() + rest == *length).unwrap();
        content += &format!("{length} {key}={value}\n");
    }
    entry("PaxHeaders/x", b'x', content.as_bytes())
}

fn sparse() -> Vec<u8> {
    [pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "1099511627776")]), entry("hole", b'0', b"0\n")].concat()
}

/// What is found, whatever pieces the archive comes in.
fn found(parts: &[Vec<u8>]) -> bool {
    let archive = parts.concat();
    let found = [1, 7, BLOCK, archive.len().max(1)].map(|piece| {
        let mut holes = Holes::default();
        archive.chunks(piece).for_each(|piece| holes.feed(piece));
        holes.found()
    });
    assert!(found.iter().all(|each| *each == found[0]), "{found:?}");
    found[0]
}

#[test]
fn files_with_holes_are_found_and_no_others() {
    let plain = || {
        vec![
            entry("etc/", b'5', b""),
            entry("etc/hosts", b'0', b"127.0.0.1 localhost"),
            entry("link", b'2', b""),
            pax(&[("path", "a/long/name"), ("SCHILY.xattr.user.a", "GNU.sparse.major=1")]),
            entry("short", b'0', &[b'x'; 1500]),
            entry("././@LongLink", b'L', b"another/long/name"),
            entry("another", b'0', b"23 GNU.sparse.major=1\n"),
        ]
    };
    assert!(!found(&plain()));
    assert!(found(&[plain(), vec![sparse()]].concat()));
    assert!(found(&[entry("old", b'S', b"")]));
    assert!(!found(&[b"no archive at all".repeat(100), sparse()]));
    assert!(!found(&[]));
}

#[test]
fn nothing_hides_a_file_from_it_that_docker_would_see() {
    let (zero, content) = (vec![0; BLOCK], vec![b'x'; BLOCK]);
    let is_seen_after = |before: &[Vec<u8>]| found(&[before, &[sparse()]].concat());
    // Of these nothing follows but the next header.
    assert!(is_seen_after(&[header("link", b'2', b"00000001000")]));
    assert!(is_seen_after(&[header("directory/", 0, b"00000001000")]));
    assert!(is_seen_after(&[pax(&[("path", "d/")]), header("file", 0, b"00000001000")]));
    let long = entry("././@LongLink", b'L', b"d/");
    assert!(is_seen_after(&[long.clone(), pax(&[("path", "file")]), header("file", 0, b"00000001000")]));
    assert!(is_seen_after(&[pax(&[("size", "0")]), header("file", b'0', b"00000001000")]));
    // Of these as much follows as they say.
    assert!(is_seen_after(&[header("file", b'0', b"00000001000"), content.clone()]));
    assert!(is_seen_after(&[header("file", 0, b"00000001000"), content.clone()]));
    assert!(is_seen_after(&[
        header("file", b'0', b" 0\x001000 \0 "),
        header("file", b'0', b"\0 1000 \0"),
        content.clone()
    ]));
    let binary = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    assert!(is_seen_after(&[header("file", b'0', &binary), content.clone()]));
    assert!(is_seen_after(&[pax(&[("size", "512")]), header("file", b'0', b"0"), content.clone()]));
    assert!(is_seen_after(&[pax(&[("size", "512"), ("size", "")]), header("file", b'0', b"0")]));
    // The last extended header counts, and none before a global one.
    assert!(is_seen_after(&[pax(&[("size", "512")]), pax(&[("mtime", "1")]), header("file", b'0', b"0")]));
    let global = entry("pax_global_header", b'g', b"12 comment=\n");
    assert!(is_seen_after(&[pax(&[("size", "512")]), global, header("file", b'0', b"0")]));
    // What may be one thing or another is taken for the worst.
    assert!(found(&[header("", 0, b"00000001000")]));
    assert!(found(&[header("x", b'x', b"00010000000")]));
    // Here Docker sees no more.
    for end in [&[zero.clone(), zero.clone()][..], &[zero, content.clone()], &[content], &[header("a", b'0', b"8")]] {
        assert!(!is_seen_after(end));
    }
}
