//! Bodies that were compressed by their sender (`kombu_compression`).

use std::borrow::Cow;
use std::io::{self, Read};

use lapin::BasicProperties;
use lapin::types::AMQPValue;

/// A body is not larger than this when it has been decompressed: the largest ones, lists of all instances of a cell, are
/// below; a few KiB that become gigabytes are an accident or an attack.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What a decompressor may need besides the body itself, in KiB.
const MEMORY_KIB: u32 = 65 * 1024;

/// The body as it was before its sender compressed it.
///
/// # Errors
/// A sentence when it cannot be decompressed, or gets too large.
pub(super) fn body<'a>(properties: &BasicProperties, data: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
    let header = properties.headers().as_ref().and_then(|headers| headers.inner().get("compression"));
    let method = match header {
        None | Some(AMQPValue::Void) => return Ok(Cow::Borrowed(data)),
        Some(AMQPValue::LongString(method)) => String::from_utf8_lossy(method.as_bytes()).into_owned(),
        Some(AMQPValue::ShortString(method)) => method.as_str().to_owned(),
        Some(_) => return Err("its header compression is no text".to_owned()),
    };
    decompress(&method, data).map(Cow::Owned)
}

/// By the names that kombu gives to the methods.
fn decompress(method: &str, data: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("it cannot be decompressed ({method}): {error}");
    let read = match method {
        // In kombu this name means zlib's own format.
        "application/x-gzip" | "gzip" | "zlib" if data.starts_with(&[0x1f, 0x8b]) => {
            bounded(flate2::read::MultiGzDecoder::new(data))
        }
        "application/x-gzip" | "gzip" | "zlib" => bounded(flate2::read::ZlibDecoder::new(data)),
        "application/x-bz2" | "bzip2" | "bzip" => bounded(bzip2::read::MultiBzDecoder::new(data)),
        "application/x-lzma" | "lzma" | "xz" => bounded(lzma_rust2::XzReader::new_mem_limit(data, true, MEMORY_KIB)),
        "application/zstd" | "zstd" | "zstandard" => {
            let window = u64::from(MEMORY_KIB) * 1024;
            let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(data, window);
            bounded(decoder.map_err(|error| wrong(&error))?)
        }
        _ => return Err(format!("it is compressed in an unknown way: {method:?}")),
    };
    read.map_err(|error| wrong(&error))
}

fn bounded(decompressed: impl Read) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    decompressed.take(LARGEST + 1).read_to_end(&mut body)?;
    if body.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST / 1024 / 1024)));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lapin::types::FieldTable;

    use super::*;

    const TEXT: &[u8] = br#"{"oslo.version": "2.0"}"#;

    /// `TEXT`, as Python's libraries compress it.
    const COMPRESSED: [(&str, &str); 4] = [
        ("application/x-gzip", "789cab56ca2fcec9d72b4b2d2acecccf53b2525032d23350aa05006213075c"),
        (
            "application/x-bz2",
            "425a6839314159265359f3c998db00000a9980500150100225990a2000314c001342207a8f50d940aede75d261b8c241307c3e2ee48a70a121e79331b6",
        ),
        (
            "application/x-lzma",
            "fd377a585a000004e6d6b4460200210116000000742fe5a30100167b226f736c6f2e76657273696f6e223a2022322e30227d00009289e2f2e300a97b00012f17810849b11fb6f37d010000000004595a",
        ),
        ("application/zstd", "28b52ffd0458b900007b226f736c6f2e76657273696f6e223a2022322e30227d4fe60500"),
    ];

    fn properties(method: AMQPValue) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("compression".into(), method);
        BasicProperties::default().with_headers(headers)
    }

    fn text(method: &str) -> AMQPValue {
        AMQPValue::LongString(method.into())
    }

    #[test]
    fn what_python_compresses_is_read() {
        for (method, compressed) in COMPRESSED {
            let compressed = hex::decode(compressed).unwrap();
            assert_eq!(*body(&properties(text(method)), &compressed).unwrap(), *TEXT, "{method}");
        }
    }

    #[test]
    fn a_body_without_the_header_is_as_it_is() {
        for properties in [BasicProperties::default(), properties(AMQPValue::Void)] {
            assert_eq!(*body(&properties, TEXT).unwrap(), *TEXT);
        }
    }

    #[test]
    fn what_is_damaged_cut_off_or_of_an_unknown_kind_is_refused_with_the_reason() {
        for (method, compressed) in COMPRESSED {
            let compressed = hex::decode(compressed).unwrap();
            let cut_off = body(&properties(text(method)), &compressed[..compressed.len() / 2]);
            assert!(cut_off.is_err() || *cut_off.unwrap() != *TEXT, "{method}");
            let refused = body(&properties(text(method)), TEXT).unwrap_err();
            assert!(refused.contains(method), "{refused}");
        }
        assert!(body(&properties(text("application/x-brotli")), TEXT).unwrap_err().contains("brotli"));
        assert!(body(&properties(AMQPValue::LongInt(1)), TEXT).unwrap_err().contains("no text"));
    }

    #[test]
    fn a_few_octets_do_not_fill_the_memory() {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        let block = vec![0; 1024 * 1024];
        for _ in 0..=LARGEST / 1024 / 1024 {
            encoder.write_all(&block).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 100_000);
        assert!(body(&properties(text("gzip")), &bomb).unwrap_err().contains("larger"));
    }
}
