//! What layers are compressed with, and unpacking it. The bytes are a tenant's: memory has a bound, and the reader of the result
//! counts it.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

/// How many bytes tell the compression.
pub const MAGIC: usize = 6;
/// What a decoder may keep in memory: as much as the largest level of the command-line tools asks for.
const MEMORY: u32 = 128 * 1024 * 1024;

/// A compression, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// As the first bytes say.
    pub fn of(magic: &[u8]) -> Self {
        const KNOWN: [(&[u8], Compression); 4] = [
            (b"\x1f\x8b\x08", Compression::Gzip),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"BZh", Compression::Bzip2),
            (b"\xfd7zXZ\0", Compression::Xz),
        ];
        // A frame that decoders skip, with which zstd:chunked and others begin.
        if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] = magic {
            return Self::Zstd;
        }
        KNOWN.iter().find(|(start, _)| magic.starts_with(start)).map_or(Self::None, |(_, compression)| *compression)
    }
}

/// What is in a layer, however it is compressed.
pub fn unpacked<'a>(mut packed: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut magic = vec![];
    packed.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let compression = Compression::of(&magic);
    let packed = BufReader::new(Cursor::new(magic).chain(packed));
    Ok(match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, MEMORY / 1024)),
        Compression::Zstd => Box::new(Zstd::new(packed)),
    })
}

/// All frames of a zstd file, one after another.
struct Zstd<R> {
    frame: FrameDecoder,
    begun: bool,
    packed: R,
}

impl<R: BufRead> Zstd<R> {
    fn new(packed: R) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(MEMORY.into());
        Self { frame, begun: false, packed }
    }

    /// Begins the next frame; whether there is one.
    fn next(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.frame.init(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.packed.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.begun {
                if !self.next()? {
                    return Ok(0);
                }
                self.begun = true;
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let blocks = ruzstd::decoding::BlockDecodingStrategy::UptoBlocks(1);
                self.frame.decode_blocks(&mut self.packed, blocks).map_err(io::Error::other)?;
            }
            let read = self.frame.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.begun = false;
        }
    }
}

#[cfg(test)]
mod tests;
