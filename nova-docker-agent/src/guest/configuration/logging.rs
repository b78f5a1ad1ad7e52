//! How much of a container's log is kept.

use super::{Configuration, Place, value};

/// What a mistake is told with.
pub(super) const ALLOWED: &str =
    "max-size: bytes, or a number with k, m or g, of at least 16k; max-file: 1 to 100; at most the flavor's";
/// Docker would begin a new file with nearly every line.
const LEAST_SIZE: u64 = 16 << 10;
const MOST_FILES: u64 = 100;

/// Bounds of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// Bytes of one file.
    pub size: Option<u64>,
    /// Files that are kept.
    pub files: Option<u64>,
}

pub(super) fn set(all: &mut Configuration, place: Place, name: &str, text: &str) -> Result<(), &'static str> {
    let logging = if place == Place::Flavor { &mut all.most_logging } else { &mut all.logging };
    match name {
        "max-size" => match value::size(text, u64::MAX)? {
            size if size < LEAST_SIZE => return Err("it is less than 16k"),
            size => logging.size = Some(size),
        },
        "max-file" => {
            let files = text.trim().parse().ok().filter(|files| (1..=MOST_FILES).contains(files));
            logging.files = Some(files.ok_or("it is no number from 1 to 100")?);
        }
        _ => return Err("there is no such setting of a log"),
    }
    Ok(())
}

/// Whether more is asked for than the flavor keeps.
pub(super) fn is_too_much(made: &Configuration) -> bool {
    let more =
        |asked: Option<u64>, most: Option<u64>| matches!((asked, most), (Some(asked), Some(most)) if asked > most);
    more(made.logging.size, made.most_logging.size) || more(made.logging.files, made.most_logging.files)
}
