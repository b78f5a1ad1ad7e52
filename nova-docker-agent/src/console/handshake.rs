//! What a proxy says first: `CONNECT PATH HTTP/1.1`, perhaps headers, an empty line. Nova's own proxy sends no header.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of a request.
const LONGEST: usize = 4096;
const END: &[u8] = b"\r\n\r\n";

/// A request for a console.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) path: String,
    /// What came after it, for the terminal.
    pub(super) rest: Vec<u8>,
}

/// Reads one.
///
/// # Errors
/// It is none, or does not end.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Request> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(END.len()).position(|window| window == END) {
            break end;
        }
        if read.len() >= LONGEST {
            return Err(Error::new(ErrorKind::InvalidData, "the request is too long"));
        }
        let mut piece = [0; 512];
        match stream.read(&mut piece).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => read.extend_from_slice(&piece[..count]),
        }
    };
    let rest = read.split_off(end + END.len());
    let line = read.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let path = path(line).ok_or_else(|| Error::new(ErrorKind::InvalidData, "it is no CONNECT request"))?;
    Ok(Request { path, rest })
}

fn path(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let (path, version) = line.strip_prefix("CONNECT ")?.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_read_to_its_end_and_what_follows_is_kept() {
        let mut bytes = &b"CONNECT /a/b HTTP/1.1\r\n\r\nls\n"[..];
        let request = read(&mut bytes).await.unwrap();
        assert_eq!(request, Request { path: "/a/b".to_owned(), rest: b"ls\n".to_vec() });
        let mut bytes = &b"CONNECT /a HTTP/1.1\r\nHost: here\r\n\r\n"[..];
        assert_eq!(read(&mut bytes).await.unwrap(), Request { path: "/a".to_owned(), rest: vec![] });
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let endless = vec![b'a'; 2 * LONGEST];
        for mut bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"CONNECT /a HTTP/1.1\r\n",
            b"CONNECT /a\r\n\r\n",
            b"\xff\r\n\r\n",
            b"\r\n\r\n",
            b"",
            &endless,
        ] {
            assert!(read(&mut bytes).await.is_err());
        }
    }
}
