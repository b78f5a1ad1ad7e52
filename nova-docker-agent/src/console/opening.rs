//! The first bytes of a client: those of a terminal, or a control string that asks for a channel instead.
//!
//! It begins with a byte that no keyboard sends first (an application program command of eight bits), so that a terminal's first
//! bytes wait for nothing. It ends without a line end: an agent that does not know it hands it to a shell, which does nothing.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What this agent speaks.
pub(super) const VERSION: u32 = 1;

const BEGIN: &[u8] = b"\x9fnova-docker-channel open ";
const END: u8 = 0x9c;
const LONGEST: usize = 128;
/// Digits of what the client has chosen so that nobody else can answer.
const NONCE: std::ops::RangeInclusive<usize> = 16..=64;

/// A channel that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) version: u32,
    nonce: String,
    /// What came after it.
    pub(super) rest: Vec<u8>,
}

impl Opening {
    /// How the client knows where the channel begins, whatever it was shown before.
    pub(super) fn answer(&self) -> Vec<u8> {
        let mut answer = b"\x9f".to_vec();
        answer.extend_from_slice(format!("nova-docker-channel ready {VERSION} {}", self.nonce).as_bytes());
        answer.push(END);
        answer
    }
}

#[derive(Debug, PartialEq, Eq)]
enum First {
    Undecided,
    Terminal,
    Channel(Opening),
}

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Terminal,
    Channel(Opening),
}

/// Reads until it is clear, into `typed`, where the first bytes of a terminal stay. Can be dropped and begun again.
pub(super) async fn wish(client: &mut (impl AsyncRead + Unpin), typed: &mut Vec<u8>) -> Wish {
    loop {
        match judge(typed) {
            First::Terminal => return Wish::Terminal,
            First::Channel(opening) => return Wish::Channel(opening),
            First::Undecided => {}
        }
        // Who has gone is seen again by whoever reads next.
        if !matches!(client.read_buf(typed).await, Ok(1..)) {
            return Wish::Terminal;
        }
    }
}

fn judge(typed: &[u8]) -> First {
    let common = typed.len().min(BEGIN.len());
    if typed[..common] != BEGIN[..common] {
        return First::Terminal;
    }
    let Some(end) = typed.iter().take(LONGEST).position(|&byte| byte == END) else {
        return if typed.len() < LONGEST { First::Undecided } else { First::Terminal };
    };
    match opening(&typed[common..end]) {
        Some((version, nonce)) => First::Channel(Opening { version, nonce, rest: typed[end + 1..].to_vec() }),
        None => First::Terminal,
    }
}

/// `VERSION NONCE`.
fn opening(words: &[u8]) -> Option<(u32, String)> {
    let (version, nonce) = std::str::from_utf8(words).ok()?.split_once(' ')?;
    let is_nonce = NONCE.contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    let version = version.bytes().all(|byte| byte.is_ascii_digit()).then(|| version.parse().ok())??;
    is_nonce.then(|| (version, nonce.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRING: &[u8] = b"\x9fnova-docker-channel open 1 0123456789abcdef\x9c";

    #[tokio::test]
    async fn a_control_string_in_any_pieces_asks_for_a_channel_and_keeps_what_follows() {
        for size in [1, 7, 1000] {
            let mut bytes = STRING.to_vec();
            bytes.extend_from_slice(b"{}\n");
            let (mut client, mut writer) = tokio::io::duplex(size);
            let writing = tokio::spawn(async move {
                tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes).await.unwrap();
            });
            let mut typed = vec![];
            let Wish::Channel(opening) = wish(&mut client, &mut typed).await else { panic!("it is a channel") };
            assert_eq!(opening.version, 1);
            assert!(b"{}\n".starts_with(&opening.rest));
            assert_eq!(opening.answer(), b"\x9fnova-docker-channel ready 1 0123456789abcdef\x9c");
            drop(client);
            writing.abort();
        }
    }

    #[tokio::test]
    async fn what_is_no_control_string_is_typed_to_the_last_byte_and_waits_for_nothing() {
        let mut long = BEGIN.to_vec();
        long.resize(LONGEST, b'1');
        let others: [&[u8]; 11] = [
            b"ls\n",
            b"\x1b",
            b"\x1b_nova-docker-channel open 1 0123456789abcdef\x1b\\",
            b"\x9fx",
            b"\x9fnova-docker-channel open 1\x9c",
            b"\x9fnova-docker-channel open 1 short\x9c",
            b"\x9fnova-docker-channel open 1 0123456789abcdeg\x9c",
            b"\x9fnova-docker-channel open +1 0123456789abcdef\x9c",
            b"\x9fnova-docker-channel open 99999999999 0123456789abcdef\x9c",
            b"\x9fnova-docker-channel open \xff 0123456789abcdef\x9c",
            &long,
        ];
        for other in others {
            let (mut client, mut writer) = tokio::io::duplex(1000);
            tokio::io::AsyncWriteExt::write_all(&mut writer, other).await.unwrap();
            let mut typed = vec![];
            assert_eq!(wish(&mut client, &mut typed).await, Wish::Terminal, "{other:?}");
            assert_eq!(typed, other);
        }
    }

    #[test]
    fn a_control_string_that_may_still_come_is_waited_for() {
        assert_eq!(judge(b""), First::Undecided);
        assert_eq!(judge(&STRING[..1]), First::Undecided);
        assert_eq!(judge(&STRING[..STRING.len() - 1]), First::Undecided);
    }
}
