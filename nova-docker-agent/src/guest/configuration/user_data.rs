//! The configuration in a server's user data, as Nova keeps it: base64, and perhaps gzip inside.

use std::io::Read;

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;

/// The first line of user data that is a configuration. To YAML it is a comment.
const MARK: &str = "#container-config";
/// What a script begins with.
const SCRIPT: &[u8] = b"#!";
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Bytes before unpacking; Nova itself takes 65535 of base64.
const MOST_PACKED: usize = 64 * 1024;
const MOST: usize = 512 * 1024;

/// The text of a configuration; none when the user data is something else.
pub(super) fn configuration(encoded: &str) -> Result<Option<String>, &'static str> {
    text(encoded, is_marked)
}

/// The text of a script; none when the user data is something else.
pub(super) fn script(encoded: &str) -> Result<Option<String>, &'static str> {
    text(encoded, |plain| plain.starts_with(SCRIPT))
}

fn text(encoded: &str, is_meant: impl Fn(&[u8]) -> bool) -> Result<Option<String>, &'static str> {
    let encoded: Vec<u8> = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let Ok(packed) = STANDARD.decode(encoded) else { return Ok(None) };
    let (plain, is_whole) = if packed.starts_with(&GZIP) { unpack(&packed) } else { (packed.clone(), true) };
    if !is_meant(&plain) {
        return Ok(None);
    }
    match String::from_utf8(plain) {
        _ if packed.len() > MOST_PACKED => Err("it is longer than 65536 bytes"),
        Ok(text) if text.len() > MOST => Err("unpacked it is longer than 524288 bytes"),
        Err(error) if error.as_bytes().len() > MOST => Err("unpacked it is longer than 524288 bytes"),
        _ if !is_whole => Err("its gzip is damaged"),
        Ok(text) => Ok(Some(text)),
        Err(_) => Err("it is not UTF-8"),
    }
}

/// What is in a gzip, up to a byte more than is taken, and whether it could be read.
fn unpack(packed: &[u8]) -> (Vec<u8>, bool) {
    let mut plain = vec![];
    let read = GzDecoder::new(packed).take(MOST as u64 + 1).read_to_end(&mut plain);
    (plain, read.is_ok())
}

fn is_marked(plain: &[u8]) -> bool {
    let line = plain.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.trim_ascii_end() == MARK.as_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn read(data: &[u8]) -> Result<Option<String>, &'static str> {
        configuration(&STANDARD.encode(data))
    }

    #[test]
    fn a_configuration_is_read_plain_or_packed_and_anything_else_is_left_alone() {
        let text = "#container-config\ntty: true\n";
        assert_eq!(read(text.as_bytes()), Ok(Some(text.to_owned())));
        assert_eq!(read(&gzip(text.as_bytes())), Ok(Some(text.to_owned())));
        assert_eq!(read(b"#container-config \r\n").unwrap().unwrap().trim(), MARK);
        let lines = STANDARD.encode(text).replace('b', "b\n");
        assert_eq!(configuration(&lines), Ok(Some(text.to_owned())));
        for other in
            [&b""[..], b"#!/bin/sh\n", b"#cloud-config\n", b"#container-configs\n", b"\xff\xfe", b"\x1f\x8b\x08"]
        {
            assert_eq!(read(other), Ok(None), "{other:?}");
        }
        assert_eq!(configuration("no base64!"), Ok(None));
    }

    #[test]
    fn a_configuration_is_bounded_packed_and_unpacked() {
        let long = |count: usize| [b"#container-config\n", vec![b'#'; count].as_slice()].concat();
        assert_eq!(read(&long(MOST_PACKED)), Err("it is longer than 65536 bytes"));
        assert!(read(&gzip(&long(MOST - 18))).unwrap().is_some());
        assert_eq!(read(&gzip(&long(4 * MOST))), Err("unpacked it is longer than 524288 bytes"));
        let whole = gzip(&long(1000));
        assert_eq!(read(&whole[..whole.len() - 4]), Err("its gzip is damaged"));
        assert_eq!(read(b"#container-config\na: \xff\n"), Err("it is not UTF-8"));
    }
}
