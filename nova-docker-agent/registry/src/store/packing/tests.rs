use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

fn content() -> Vec<u8> {
    (0..50_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect()
}

fn compressed(program: &str, content: &[u8]) -> Vec<u8> {
    let spawned = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut input = child.stdin.take().unwrap();
    let content = content.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&content).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut content = vec![];
    unpacked(packed)?.read_to_end(&mut content)?;
    Ok(content)
}

#[test]
fn every_compression_is_known_by_its_first_bytes_and_unpacked_also_in_several_parts() {
    for (program, compression) in [
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
        ("bzip2", Compression::Bzip2),
        ("xz", Compression::Xz),
    ] {
        let packed = compressed(program, &content());
        assert_eq!(Compression::of(&packed), compression);
        assert!(unpack(&packed).unwrap() == content(), "{program}");
        let twice = [packed.clone(), packed].concat();
        assert!(unpack(&twice).unwrap() == [content(), content()].concat(), "{program} twice");
    }
    assert!(unpack(&content()).unwrap() == content());
    assert!(unpack(b"").unwrap().is_empty());
}

#[test]
fn frames_that_decoders_skip_are_skipped() {
    for first in [0x50, 0x5f] {
        let frame = [&[first], &b"\x2a\x4d\x18\x03\0\0\0abc"[..]].concat();
        let skipped = [frame, compressed("zstd", b"content")].concat();
        assert_eq!(Compression::of(&skipped), Compression::Zstd);
        assert_eq!(unpack(&[skipped.clone(), skipped].concat()).unwrap(), b"contentcontent");
    }
}

#[test]
fn what_is_cut_or_damaged_is_an_error_or_other_content_but_no_panic() {
    for program in ["gzip", "zstd", "bzip2", "xz"] {
        let packed = compressed(program, &content());
        assert!(unpack(&packed[..packed.len() / 2]).is_err(), "{program}");
        for at in (0..packed.len()).step_by(packed.len() / 20 + 1) {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x41;
            assert!(unpack(&damaged).map_or(true, |found| found.len() <= 2 * content().len()), "{program} {at}");
        }
    }
}
