//! Frames, as Docker's own: a byte that says what it is, three zero bytes, the length (big-endian), and so many bytes.

use std::io::{self, Error, ErrorKind};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::docker::Size;

/// Bytes that either side may send before the other has taken them.
pub(super) const WINDOW: usize = 256 * 1024;

const HEADER: usize = 8;
/// Bytes of a frame of the client's.
const LONGEST: usize = 64 * 1024;
const READ: usize = 16 * 1024;

const INPUT: u8 = 0;
const RESIZE: u8 = 4;
const TAKEN: u8 = 6;

/// What the agent sends beside what the process has written (1 and 2).
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Standard output.
    Output = 1,
    /// Standard error.
    Errors = 2,
    /// The last one: `{"exit_code": N}` or `{"error": "..."}`.
    Result = 5,
    /// So many bytes of the input were taken.
    Taken = 6,
}

/// What a client sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// For standard input.
    Input(Bytes),
    /// Standard input ends.
    InputEnd,
    Resize(Size),
    /// So many bytes of the output were taken.
    Taken(usize),
}

/// Frames out of bytes. What was read of one stays when a read is dropped.
#[derive(Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    pub(super) fn new(rest: &[u8]) -> Self {
        Self { buffer: rest.into() }
    }

    /// The bytes up to a line end, which is taken too.
    ///
    /// # Errors
    /// There is none within `most` bytes, or the client has gone.
    pub(super) async fn line(&mut self, client: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Bytes> {
        loop {
            if let Some(end) = self.buffer.iter().take(most).position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                return Ok(line);
            }
            if self.buffer.len() >= most {
                return Err(invalid("the request is too long"));
            }
            self.fill(client).await?;
        }
    }

    /// # Errors
    /// It is none ([`ErrorKind::InvalidData`]), or the client has gone.
    pub(super) async fn next(&mut self, client: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.fill(client).await?;
        }
    }

    async fn fill(&mut self, client: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        self.buffer.reserve(READ);
        match client.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn take(&mut self) -> io::Result<Option<Frame>> {
        let Some(&[kind, a, b, c, length @ ..]) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes(length) as usize;
        let is_known = [a, b, c] == [0; 3]
            && match kind {
                INPUT => length <= LONGEST,
                RESIZE | TAKEN => length == 4,
                _ => false,
            };
        if !is_known {
            return Err(invalid("it sends what is no frame"));
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let mut payload = self.buffer.split_to(length).freeze();
        Ok(Some(match kind {
            INPUT if length == 0 => Frame::InputEnd,
            INPUT => Frame::Input(payload),
            RESIZE => Frame::Resize(Size { rows: payload.get_u16(), columns: payload.get_u16() }),
            _ => Frame::Taken(payload.get_u32() as usize),
        }))
    }
}

fn invalid(words: &str) -> Error {
    Error::new(ErrorKind::InvalidData, words)
}

/// Sends frames.
pub(super) struct Sender<W> {
    client: W,
    /// A frame was begun and not ended: nothing more can be said.
    is_broken: bool,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    pub(super) fn new(client: W) -> Self {
        Self { client, is_broken: false }
    }

    /// # Errors
    /// The client has gone, or a send was dropped half-way.
    pub(super) async fn send(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        if std::mem::replace(&mut self.is_broken, true) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let length = u32::try_from(payload.len()).map_err(|_| invalid("a frame is too long"))?;
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.extend_from_slice(&[kind as u8, 0, 0, 0]);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(payload);
        self.client.write_all(&frame).await?;
        self.is_broken = false;
        Ok(())
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.client.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut bytes: &[u8]) -> (Vec<Frame>, ErrorKind) {
        let mut frames = Frames::default();
        let mut found = vec![];
        loop {
            match frames.next(&mut bytes).await {
                Ok(frame) => found.push(frame),
                Err(error) => return (found, error.kind()),
            }
        }
    }

    #[tokio::test]
    async fn frames_are_read_to_the_last_one() {
        let mut bytes = b"\0\0\0\0\0\0\0\x02hi\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(b"\x04\0\0\0\0\0\0\x04\0\x18\x01\0\x06\0\0\0\0\0\0\x04\0\x01\0\0\0\0");
        let (found, end) = all(&bytes).await;
        let size = Size { rows: 24, columns: 256 };
        let wanted =
            [Frame::Input(Bytes::from_static(b"hi")), Frame::InputEnd, Frame::Resize(size), Frame::Taken(65536)];
        assert_eq!((found.as_slice(), end), (wanted.as_slice(), ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused_before_its_bytes_are_waited_for() {
        for bytes in [
            &b"\0\0\0\0\xff\xff\xff\xff"[..],
            b"\0\0\0\0\0\x01\0\x01",
            b"\x04\0\0\0\0\0\0\x05",
            b"\x06\0\0\0\0\0\0\0",
            b"\x01\0\0\0\0\0\0\x01x",
            b"\0\x01\0\0\0\0\0\x01x",
            b"ls -l /tmp\n",
        ] {
            assert_eq!(all(bytes).await, (vec![], ErrorKind::InvalidData), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_line_is_bounded_and_what_follows_it_is_kept() {
        let mut frames = Frames::new(b"{}\n\0\0\0\0");
        let mut more = &b"\0\0\0\0"[..];
        assert_eq!(frames.line(&mut more, 10).await.unwrap(), "{}");
        assert_eq!(frames.next(&mut more).await.unwrap(), Frame::InputEnd);
        let endless = vec![b'x'; 100];
        let error = Frames::new(&[]).line(&mut endless.as_slice(), 10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn nothing_is_said_after_a_frame_that_broke_off() {
        let (client, mut reader) = tokio::io::duplex(4);
        let mut sender = Sender::new(client);
        {
            let mut sending = std::pin::pin!(sender.send(Kind::Output, b"12345678"));
            assert!(futures::poll!(&mut sending).is_pending());
        }
        assert!(sender.send(Kind::Result, b"{}").await.is_err());
        drop(sender);
        let mut read = vec![];
        reader.read_to_end(&mut read).await.unwrap();
        assert_eq!(read.len(), 4);
    }
}
