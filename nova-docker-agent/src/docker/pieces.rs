//! What processes write, piece by piece, with where they write it.

use std::{fmt, io};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{StreamExt as _, stream, stream::BoxStream};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of a piece.
const LONGEST: usize = 32 * 1024;
const HEADER: usize = 8;

/// Where a process writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its standard output; a terminal has nothing else.
    Output,
    /// Its standard error.
    Errors,
}

/// What was written at once.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where.
    pub source: Source,
    /// At least one byte, at most 32 KiB.
    pub bytes: Bytes,
}

impl fmt::Debug for Piece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {} bytes", self.source, self.bytes.len())
    }
}

/// What is written until the end.
pub type Pieces = BoxStream<'static, io::Result<Piece>>;

/// What a terminal writes.
pub(super) fn of_terminal(reader: impl AsyncRead + Send + Unpin + 'static) -> Pieces {
    stream::try_unfold(reader, async |mut reader| {
        let bytes = read(&mut reader, LONGEST).await?;
        Ok::<_, io::Error>(bytes.map(|bytes| (Piece { source: Source::Output, bytes }, reader)))
    })
    .boxed()
}

/// What Docker writes for processes without a terminal: frames of any length.
pub(super) fn of_frames(reader: impl AsyncRead + Send + Unpin + 'static) -> Pieces {
    stream::try_unfold((reader, Source::Output, 0), async |(mut reader, mut source, mut left)| {
        while left == 0 {
            let Some(header) = header(&mut reader).await? else { return Ok(None) };
            // 3 is Docker's own: why a process was not started.
            source = if header[0] <= 1 { Source::Output } else { Source::Errors };
            let [.., a, b, c, d] = header;
            left = u32::from_be_bytes([a, b, c, d]) as usize;
        }
        let Some(bytes) = read(&mut reader, left.min(LONGEST)).await? else { return Err(broken()) };
        left -= bytes.len();
        Ok(Some((Piece { source, bytes }, (reader, source, left))))
    })
    .boxed()
}

/// None at the end.
async fn read(reader: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Option<Bytes>> {
    let mut bytes = BytesMut::with_capacity(most);
    let count = reader.read_buf(&mut (&mut bytes).limit(most)).await?;
    Ok((count > 0).then(|| bytes.freeze()))
}

async fn header(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<[u8; HEADER]>> {
    let mut header = [0; HEADER];
    let mut filled = 0;
    while filled < HEADER {
        match reader.read(&mut header[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(broken()),
            count => filled += count,
        }
    }
    Ok(Some(header))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it broke off within a frame")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(pieces: Pieces) -> Vec<(Source, usize)> {
        pieces.map(|piece| piece.map(|piece| (piece.source, piece.bytes.len())).unwrap()).collect().await
    }

    fn frame(source: u8, length: u32) -> Vec<u8> {
        let mut bytes = vec![source, 0, 0, 0];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.resize(HEADER + length as usize, b'x');
        bytes
    }

    #[tokio::test]
    async fn frames_of_any_length_become_pieces_of_a_bounded_one() {
        let mut bytes = frame(1, 3);
        bytes.extend(frame(2, 0));
        bytes.extend(frame(2, 70_000));
        bytes.extend(frame(3, 1));
        let pieces = all(of_frames(io::Cursor::new(bytes))).await;
        assert_eq!(pieces.iter().map(|(_, length)| length).sum::<usize>(), 70_004);
        assert!(pieces.iter().all(|&(_, length)| (1..=LONGEST).contains(&length)), "{pieces:?}");
        assert_eq!(pieces[0], (Source::Output, 3));
        assert!(pieces[1..].iter().all(|&(source, _)| source == Source::Errors), "{pieces:?}");
    }

    #[tokio::test]
    async fn a_frame_that_breaks_off_is_an_error_and_not_an_end() {
        for length in [1, HEADER, HEADER + 2] {
            let bytes = frame(1, 3)[..length].to_vec();
            let last = of_frames(io::Cursor::new(bytes)).collect::<Vec<_>>().await.pop();
            assert!(last.is_some_and(|last| last.is_err()), "{length}");
        }
        assert!(all(of_frames(io::Cursor::new(vec![]))).await.is_empty());
    }

    #[tokio::test]
    async fn what_a_terminal_writes_is_no_frame_whatever_it_looks_like() {
        let pieces = all(of_terminal(io::Cursor::new(frame(2, 40_000)))).await;
        assert_eq!(pieces.iter().map(|(_, length)| length).sum::<usize>(), 40_000 + HEADER);
        assert!(pieces.iter().all(|&(source, length)| source == Source::Output && length <= LONGEST));
    }
}
