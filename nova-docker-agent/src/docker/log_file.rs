//! Docker's log files of a container, read without Docker: its reader never comes past a line that a power failure has damaged.

use std::{
    collections::HashSet,
    fs::File,
    io::{ErrorKind, Read as _, Result, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Bytes at the end of a file that are looked at first; more of them if they hold too little.
const FIRST_LOOK: u64 = 256 * 1024;
/// How an entry begins.
const BEGIN: &[u8] = b"{\"log\":";

#[derive(Deserialize)]
struct Entry {
    log: String,
}

/// At least the last `bytes` bytes of what a container has written, from the file at `path` and those that it was rotated to;
/// all of it, if there is less.
///
/// # Errors
/// There is no such file here.
pub(super) fn last_bytes(path: &Path, bytes: usize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut read = HashSet::new();
    for number in 0.. {
        let mut file = match File::open(rotated(path, number)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && number > 0 => break,
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        // It was rotated since it was read under another name.
        if !read.insert((about.dev(), about.ino())) {
            continue;
        }
        let mut earlier = end_of(&mut file, about.len(), bytes - text.len())?;
        earlier.append(&mut text);
        text = earlier;
        if text.len() >= bytes {
            break;
        }
    }
    Ok(text)
}

fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 { path.to_owned() } else { PathBuf::from(format!("{}.{number}", path.display())) }
}

fn end_of(file: &mut File, length: u64, bytes: usize) -> Result<Vec<u8>> {
    let mut look = FIRST_LOOK;
    loop {
        let start = length.saturating_sub(look);
        file.seek(SeekFrom::Start(start))?;
        let mut raw = Vec::new();
        file.by_ref().take(length - start).read_to_end(&mut raw)?;
        let text = text(&raw);
        if start == 0 || text.len() >= bytes {
            return Ok(text);
        }
        look = look.saturating_mul(4);
    }
}

/// What the entries say. Of a line that is no entry, what is one at its end: zero bytes that the file system has left there
/// have no line of their own.
fn text(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in raw.split(|&byte| byte == b'\n') {
        let entry = serde_json::from_slice::<Entry>(line).ok().or_else(|| {
            let begin = line.windows(BEGIN.len()).rposition(|window| window == BEGIN)?;
            serde_json::from_slice(&line[begin..]).ok()
        });
        if let Some(entry) = entry {
            text.extend_from_slice(entry.log.as_bytes());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Vec<u8> {
        let entry = serde_json::json!({"log": text, "stream": "stdout", "time": "2026-11-22T14:09:40.1Z"});
        // Docker's order.
        format!("{{\"log\":{},\"stream\":\"stdout\",\"time\":{}}}\n", entry["log"], entry["time"]).into_bytes()
    }

    fn read(files: &[Vec<u8>], bytes: usize) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id-json.log");
        for (number, content) in (0..).zip(files) {
            std::fs::write(rotated(&path, number), content).unwrap();
        }
        String::from_utf8(last_bytes(&path, bytes).unwrap()).unwrap()
    }

    #[test]
    fn what_a_power_failure_damaged_is_left_out_and_nothing_else() {
        let mut log = entry("first\n");
        log.extend_from_slice(b"{\"log\":\"half of a li");
        log.extend_from_slice(&[0; 5000]);
        log.extend(entry("after the \"failure\"\n"));
        log.extend_from_slice(b"\xff\xfe\x00 no entry\n");
        log.extend(entry("last\n"));
        assert_eq!(read(&[log], 1000), "first\nafter the \"failure\"\nlast\n");
    }

    #[test]
    fn rotated_files_come_first_as_far_as_they_are_needed() {
        let files = [entry("third\n"), entry("second\n"), entry("first\n")];
        assert_eq!(read(&files, 1000), "first\nsecond\nthird\n");
        assert_eq!(read(&files, 8), "second\nthird\n");
        assert_eq!(read(&files, 1), "third\n");
    }

    #[test]
    fn no_more_of_a_long_file_is_read_than_holds_what_is_wanted() {
        let log: Vec<u8> = (0..20_000).flat_map(|number| entry(&format!("{number}\n"))).collect();
        let end = read(std::slice::from_ref(&log), 1000);
        assert!(end.ends_with("19998\n19999\n") && (1000..60_000).contains(&end.len()), "{}", end.len());
        // The first look holds too little.
        assert!(read(&[log], 100_000).len() >= 100_000);
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        assert_eq!(last_bytes(Path::new("/nonexistent/log"), 1).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
