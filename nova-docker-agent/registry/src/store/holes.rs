//! Finds files with holes in a layer as it streams by. Docker would write the holes out as zeros, so that a layer of few bytes would
//! fill a disk.
//!
//! What Docker's Go would read is read, in the same way: nobody hides a file by a header that the two take for different things.
//! Where Go's reader gives up, so does this.

/// What is wrong with such a layer.
pub const REASON: &str = "a file in it has holes, which Docker would fill with zeros";
const BLOCK: usize = 512;
/// Bytes of an extended header. Go takes no more.
const MOST_OF_EXTENSION: u64 = 1024 * 1024;
/// What the names of records begin with that tell of holes.
const SPARSE: &str = "GNU.sparse.";

/// A tar archive as far as it has come.
#[derive(Default)]
pub struct Holes {
    state: State,
    /// Of a header or an extended one, as far as it is here.
    read: Vec<u8>,
    /// What extended headers say of the next file.
    next: Next,
    zeros: bool,
    found: bool,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Header,
    /// A header of this type and length, which says something of the next one.
    Extension(u8, u64),
    Content(u64),
    Over,
}

#[derive(Default)]
struct Next {
    size: Option<i64>,
    /// Whether its name ends as a directory's: GNU's long name, which wins, and the path of PAX.
    long_name: Option<bool>,
    path: Option<bool>,
}

impl Holes {
    /// The archive's next bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = match self.state {
                State::Over => return,
                State::Header => BLOCK as u64,
                State::Extension(_, length) => length.next_multiple_of(BLOCK as u64),
                State::Content(left) => {
                    let skipped = left.min(bytes.len() as u64);
                    bytes = &bytes[skipped as usize..];
                    self.state = if skipped == left { State::Header } else { State::Content(left - skipped) };
                    continue;
                }
            };
            let length = bytes.len().min(wanted as usize - self.read.len());
            self.read.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if self.read.len() as u64 == wanted {
                let read = std::mem::take(&mut self.read);
                self.state = match self.state {
                    State::Extension(kind, length) => self.extension(kind, &read[..length as usize]),
                    _ => self.header(&read),
                }
                .unwrap_or(State::Over);
            }
        }
    }

    /// Whether there was a file with holes, or what may hide one.
    pub fn found(&self) -> bool {
        self.found
    }

    /// None where Go's reader would end.
    fn header(&mut self, block: &[u8]) -> Option<State> {
        if block.iter().all(|byte| *byte == 0) {
            return (!std::mem::replace(&mut self.zeros, true)).then_some(State::Header);
        }
        if self.zeros || !is_header(block) {
            return None;
        }
        let (size, kind) = (number(&block[124..136])?, block[156]);
        let length = u64::try_from(size).ok()?;
        match kind {
            b'x' | b'g' | b'L' | b'K' if length > MOST_OF_EXTENSION => self.hidden(),
            b'x' | b'g' | b'L' | b'K' if length == 0 => self.extension(kind, &[]),
            b'x' | b'g' | b'L' | b'K' => Some(State::Extension(kind, length)),
            // The old form of holes.
            b'S' => self.hidden(),
            _ => self.file(block, kind, size),
        }
    }

    fn file(&mut self, block: &[u8], kind: u8, size: i64) -> Option<State> {
        let Next { size: other, long_name, path } = std::mem::take(&mut self.next);
        let (name, size) = (until_zero(&block[..100]), other.unwrap_or(size));
        let is_directory = long_name.or(path).unwrap_or_else(|| name.ends_with(b"/"));
        if kind == 0 && name.is_empty() && size > 0 {
            return self.hidden();
        }
        // Links, devices, directories and pipes have none, whatever they say.
        let has_content = match kind {
            b'1'..=b'6' => false,
            0 => !is_directory,
            _ => true,
        };
        let length = u64::try_from(size).ok()?;
        let content = if has_content { length.checked_next_multiple_of(BLOCK as u64)? } else { 0 };
        Some(if content == 0 { State::Header } else { State::Content(content) })
    }

    fn extension(&mut self, kind: u8, bytes: &[u8]) -> Option<State> {
        match kind {
            b'L' => self.next.long_name = directory(until_zero(bytes)),
            b'K' => {}
            // What was said before a global header is forgotten.
            b'g' => self.next = Next::default(),
            // The last one counts, as a whole.
            _ => {
                (self.next.size, self.next.path) = (None, None);
                for record in Records(bytes) {
                    let (key, value) = record?;
                    match key {
                        key if key.starts_with(SPARSE.as_bytes()) => return self.hidden(),
                        b"size" if value.is_empty() => self.next.size = None,
                        b"size" => self.next.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                        b"path" => self.next.path = directory(value),
                        _ => {}
                    }
                }
            }
        }
        Some(State::Header)
    }

    fn hidden(&mut self) -> Option<State> {
        self.found = true;
        None
    }
}

/// The records of a PAX header: `LENGTH KEY=VALUE` and a new line, each. Values may contain anything, new lines too. None for what
/// is no record.
pub struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Option<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.record())
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let bytes = self.0;
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        self.0 = &bytes[length..];
        Some((&record[..equals], &record[equals + 1..]))
    }
}

/// The sum of the block's bytes, its own field counted as spaces, is in its field; some programs take bytes for signed ones.
pub fn is_header(block: &[u8]) -> bool {
    let (mut unsigned, mut signed) = (0, 0);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    octal(&block[148..156]).is_some_and(|sum| sum == unsigned || sum == signed)
}

/// Octal digits, or with the first bit a number of 63 bits, as Go reads them.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    let inverted = if first & 0x40 == 0 { 0 } else { 0xff };
    let mut sum: u64 = 0;
    for (at, byte) in field.iter().enumerate() {
        let byte = byte ^ inverted;
        let byte = if at == 0 { byte & 0x7f } else { byte };
        sum = if sum >> 56 > 0 { return None } else { sum << 8 | u64::from(byte) };
    }
    let sum = i64::try_from(sum).ok()?;
    Some(if inverted == 0 { sum } else { !sum })
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_blank = |byte: &u8| [b' ', 0].contains(byte);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    match until_zero(&field[start..end]) {
        b"" => Some(0),
        digits if digits.iter().all(u8::is_ascii_digit) => {
            i64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
        }
        _ => None,
    }
}

/// Whether a name is a directory's, where there is one.
fn directory(name: &[u8]) -> Option<bool> {
    (!name.is_empty()).then(|| name.ends_with(b"/"))
}

pub fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
