//! A `docker save` archive of a snapshot, without the instance's data, while it streams by.
//!
//! Docker up to 24 writes `<id>/layer.tar`, `<id>/json` and `<digest>.json`; newer releases an OCI layout, whose files are named
//! by their digests and name each other. In both `manifest.json` names the layers and the configuration. The layers pass;
//! of all else only the configuration, scrubbed and under its new digest, and a `manifest.json` that names it, are written, at the end.
//! So an index, an attestation, or a file that a later Docker adds tells nothing. Every Docker loads what is left.

use std::collections::{BTreeSet, HashMap};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Error;
use super::scrub::Base;

const BLOCK: usize = 512;
/// No image's configuration is as large as this. Larger documents are left out.
const MAX_JSON: u64 = 4 * 1024 * 1024;
/// The image has one; attestations have others.
const MAX_CONFIGURATIONS: usize = 8;
/// Docker makes no more than 127.
const MAX_LAYERS: usize = 1024;
const MANIFEST: &str = "manifest.json";

/// The same archive without the instance's traces.
pub(super) fn scrubbed(
    archive: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    base: Base,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let scrubber = Scrubber::new(base);
    stream::unfold((archive.boxed(), scrubber, false), |(mut archive, mut scrubber, ended)| async move {
        if ended {
            return None;
        }
        loop {
            let output = match archive.next().await {
                Some(chunk) => chunk.and_then(|chunk| scrubber.push(&chunk)),
                None if scrubber.is_whole() => return None,
                None => Err(unusable("breaks off before its end")),
            };
            let ended = output.is_err();
            if ended || output.as_ref().is_ok_and(|bytes| !bytes.is_empty()) {
                return Some((output, (archive, scrubber, ended)));
            }
        }
    })
}

/// What `manifest.json` says of an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    layers: Vec<String>,
}

enum State {
    /// At a header.
    Header,
    /// Within the content of a layer: bytes to come, with the padding.
    Passing(u64),
    /// The same of a file that is left out.
    Dropping(u64),
    /// At the content of a blob: its first block tells what it is.
    Peeking(Box<tar::Header>, u64),
    /// Within a document that is read as a whole: which, and its size.
    Holding(Document, u64),
}

enum Document {
    /// PAX records of the next file. The size of a layer of 8 GiB is there alone.
    Records(Box<tar::Header>),
    Manifest,
    /// What may be a configuration, with its path.
    Configuration(String),
}

struct Scrubber {
    base: Base,
    input: BytesMut,
    state: State,
    /// PAX records of the next file, as they are in the archive, and the size that they tell.
    records: Option<(Bytes, Option<u64>)>,
    manifest: Option<Bytes>,
    /// By their path.
    configurations: HashMap<String, Bytes>,
    /// Paths of the layers that have passed.
    layers: BTreeSet<String>,
    /// Blocks of nothing in a row: two are an archive's end.
    zeros: usize,
}

impl Scrubber {
    fn new(base: Base) -> Self {
        Self {
            base,
            input: BytesMut::new(),
            state: State::Header,
            records: None,
            manifest: None,
            configurations: HashMap::new(),
            layers: BTreeSet::new(),
            zeros: 0,
        }
    }

    /// Docker ends its answer as if it were whole where it fails in the middle.
    fn is_whole(&self) -> bool {
        matches!(self.state, State::Header) && self.input.is_empty() && self.zeros >= 2
    }

    /// Takes a piece of the archive, and gives what is ready to go on.
    fn push(&mut self, chunk: &[u8]) -> Result<Bytes, Error> {
        self.input.extend_from_slice(chunk);
        let mut output = BytesMut::new();
        while self.step(&mut output)? {}
        Ok(output.freeze())
    }

    /// One file's header or content; false when more input is needed.
    fn step(&mut self, output: &mut BytesMut) -> Result<bool, Error> {
        let needed = match &self.state {
            State::Passing(0) | State::Dropping(0) | State::Peeking(_, 0) => 0,
            State::Passing(_) | State::Dropping(_) => 1,
            State::Header | State::Peeking(..) => BLOCK,
            State::Holding(_, size) => padded(*size) as usize,
        };
        if self.input.len() < needed {
            return Ok(false);
        }
        match std::mem::replace(&mut self.state, State::Header) {
            State::Header => self.header(output)?,
            State::Passing(0) | State::Dropping(0) => {}
            State::Passing(left) => {
                let piece = self.piece(left);
                self.state = State::Passing(left - piece.len() as u64);
                output.extend_from_slice(&piece);
            }
            State::Dropping(left) => self.state = State::Dropping(left - self.piece(left).len() as u64),
            State::Peeking(header, size) => {
                let seen = self.input.len().min(BLOCK).min(usize::try_from(size).unwrap_or(BLOCK));
                if is_text(&self.input[..seen]) {
                    self.hold(Document::Configuration(path_of(&header)), size);
                } else {
                    self.pass(&header, size, output)?;
                }
            }
            State::Holding(document, size) => {
                let mut content = self.input.split_to(padded(size) as usize).freeze();
                content.truncate(size as usize);
                self.keep(document, content);
            }
        }
        Ok(true)
    }

    fn piece(&mut self, left: u64) -> BytesMut {
        let count = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.input.split_to(count)
    }

    fn header(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        let mut header = Box::new(tar::Header::new_old());
        header.as_mut_bytes().copy_from_slice(&self.input[..BLOCK]);
        self.input.advance(BLOCK);
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            if self.zeros == 0 {
                self.finish(output)?;
            }
            self.zeros += 1;
            output.put_bytes(0, BLOCK);
            return Ok(());
        }
        if self.zeros > 0 {
            return Err(unusable("goes on after its end"));
        }
        let told = self.records.as_ref().and_then(|(_, size)| *size);
        let size = told.map_or_else(|| header.entry_size(), Ok).map_err(|_| unusable("has a header that is none"))?;
        let (path, kind) = (path_of(&header), header.entry_type());
        if kind.is_pax_local_extensions() {
            self.hold(Document::Records(header), size);
        } else if kind.is_file() && path == MANIFEST {
            self.hold(Document::Manifest, size);
        } else if kind.is_file() && path.strip_suffix(".json").is_some_and(is_digest) {
            self.hold(Document::Configuration(path), size);
        } else if kind.is_file() && path.strip_prefix("blobs/sha256/").is_some_and(is_digest) {
            self.state = State::Peeking(header, size);
        } else if (kind.is_file() || kind.is_symlink()) && path.strip_suffix("/layer.tar").is_some_and(is_digest) {
            self.pass(&header, size, output)?;
        } else {
            self.records = None;
            self.state = State::Dropping(padded(size));
        }
        Ok(())
    }

    fn hold(&mut self, document: Document, size: u64) {
        self.records = None;
        self.state = if size <= MAX_JSON { State::Holding(document, size) } else { State::Dropping(padded(size)) };
    }

    fn pass(&mut self, header: &tar::Header, size: u64, output: &mut BytesMut) -> Result<(), Error> {
        if self.layers.len() == MAX_LAYERS {
            return Err(unusable("has too many layers"));
        }
        self.layers.insert(path_of(header));
        if let Some((records, _)) = self.records.take() {
            output.extend_from_slice(&records);
        }
        output.extend_from_slice(header.as_bytes());
        self.state = State::Passing(padded(size));
        Ok(())
    }

    fn keep(&mut self, document: Document, content: Bytes) {
        match document {
            Document::Manifest => self.manifest = Some(content),
            Document::Records(header) => {
                let mut records = BytesMut::new();
                append(&mut records, &header, &content);
                let told = tar::PaxExtensions::new(&content).flatten().find(|record| record.key() == Ok("size"));
                let size = told.and_then(|record| record.value().ok()?.parse().ok());
                self.records = Some((records.freeze(), size));
            }
            Document::Configuration(path) => {
                if self.configurations.len() < MAX_CONFIGURATIONS && is_configuration(&content) {
                    self.configurations.insert(path, content);
                }
            }
        }
    }

    /// Writes what names the layers.
    fn finish(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        let manifest = self.manifest.take().and_then(|content| serde_json::from_slice::<Vec<Listed>>(&content).ok());
        let Some(Ok([listed])) = manifest.map(<[Listed; 1]>::try_from) else {
            return Err(unusable("has no manifest.json of one image"));
        };
        if !self.layers.iter().eq(&listed.layers.iter().cloned().collect::<BTreeSet<_>>()) {
            return Err(unusable("has other layers than its manifest.json names"));
        }
        let config = self.configurations.remove(&listed.config);
        let Some(mut config) = config.and_then(|content| serde_json::from_slice::<Value>(&content).ok()) else {
            return Err(unusable("has no configuration, or one of more than 4 MiB"));
        };
        self.base.scrub(&mut config);
        let config = config.to_string();
        let path = format!("{}.json", hex::encode(Sha256::digest(&config)));
        let manifest = json!([{"Config": path, "RepoTags": null, "Layers": listed.layers}]);
        for (path, content) in [(path.as_str(), config), (MANIFEST, manifest.to_string())] {
            let mut header = tar::Header::new_ustar();
            header.set_path(path).map_err(|_| unusable("names a file that cannot be"))?;
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            header.set_cksum();
            append(output, &header, content.as_bytes());
        }
        Ok(())
    }
}

fn append(output: &mut BytesMut, header: &tar::Header, content: &[u8]) {
    output.extend_from_slice(header.as_bytes());
    output.extend_from_slice(content);
    output.put_bytes(0, content.len().next_multiple_of(BLOCK) - content.len());
}

fn unusable(how: &str) -> Error {
    let message = format!("the archive {how}");
    Error::Docker { action: "save the snapshot".to_owned(), status: 0, message }
}

/// Whether a blob begins as a JSON document does. A layer never does: an archive's header has zeros, whatever its first file's
/// name is, and what is compressed begins with a magic number.
fn is_text(start: &[u8]) -> bool {
    start.first() == Some(&b'{') && !start.contains(&0)
}

fn is_configuration(content: &[u8]) -> bool {
    serde_json::from_slice::<Value>(content).is_ok_and(|document| document.get("rootfs").is_some())
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn path_of(header: &tar::Header) -> String {
    String::from_utf8_lossy(&header.path_bytes()).into_owned()
}

fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "saved_tests.rs"]
mod tests;
