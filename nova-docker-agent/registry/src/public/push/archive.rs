//! The archive that an image becomes in Glance: an OCI image layout in a tar file, which `docker load` reads as well.
//!
//! ```text
//! oci-layout, index.json       what is in it
//! manifest.json                for Docker before 25, of an image that can be run
//! blobs/ALGORITHM/HEX          manifests and configurations first, where one read finds them; then layers
//! ```
//!
//! Its length, and where each blob will be, are known before the first byte is written; the same image gives the same
//! bytes.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::manifest::Document;
use crate::files::At;
use crate::manifest::OCI_INDEX;
use crate::public::images::ReadableBlob;
use crate::public::{Name, Tag};
use crate::{Algorithm, Digest, Error};

const BLOCK: u64 = 512;
/// Two blocks of zeros.
const END: usize = 1024;

/// What goes under one digest.
pub struct Part {
    pub digest: Digest,
    content: Arc<dyn ReadableBlob>,
}

impl Part {
    pub fn new(digest: Digest, content: Arc<dyn ReadableBlob>) -> Self {
        Self { digest, content }
    }
}

/// An archive before it is written.
pub struct Archive {
    pieces: Vec<Arc<dyn ReadableBlob>>,
    /// How many bytes it has.
    pub length: u64,
    /// Where each blob begins, and its size.
    pub places: Vec<(Digest, u64, u64)>,
}

impl Archive {
    /// Lays out an image: `parts` in this order, each digest once. `tags` are its names for whoever loads it.
    ///
    /// # Errors
    /// Headers that tar has no form for; there are none in practice.
    pub fn new(root: &Document, name: &Name, tags: &[Tag], parts: Vec<Part>) -> std::io::Result<Self> {
        let mut archive = Self { pieces: vec![], length: 0, places: vec![] };
        archive.json("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))?;
        archive.json("index.json", index(root, name, tags))?;
        if let Some(saved) = saved(root, name, tags, &parts) {
            archive.json("manifest.json", saved)?;
        }
        archive.directory("blobs/")?;
        for algorithm in Algorithm::ALL {
            if parts.iter().any(|part| part.digest.algorithm() == algorithm) {
                archive.directory(&format!("blobs/{}/", algorithm.name()))?;
            }
        }
        for part in parts {
            let size = part.content.size();
            let begin = archive.file(&path(&part.digest), part.content)?;
            archive.places.push((part.digest, begin, size));
        }
        archive.push(vec![0; END]);
        Ok(archive)
    }

    /// Its bytes. A blob that gives more or fewer of them than it has ends the stream with an error.
    pub fn stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        futures::stream::iter(self.pieces).map(|piece| Ok::<_, Error>(exact(piece))).try_flatten().boxed()
    }

    fn json(&mut self, path: &str, content: Value) -> std::io::Result<u64> {
        self.file(path, Arc::new(Bytes::from(content.to_string())))
    }

    /// Adds a file; returns where its content begins.
    fn file(&mut self, path: &str, content: Arc<dyn ReadableBlob>) -> std::io::Result<u64> {
        let size = content.size();
        self.header(path, size, EntryType::Regular)?;
        let begin = self.length;
        self.length += size;
        self.pieces.push(content);
        self.push(vec![0; (size.next_multiple_of(BLOCK) - size) as usize]);
        Ok(begin)
    }

    fn directory(&mut self, path: &str) -> std::io::Result<()> {
        self.header(path, 0, EntryType::Directory)
    }

    /// Paths that a header has no room for (SHA-512) go before it in a header of their own, GNU's. Sizes from 8 GiB on are written
    /// in GNU's binary form.
    fn header(&mut self, path: &str, size: u64, kind: EntryType) -> std::io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(size);
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        let mut written = Builder::new(vec![]);
        // What it is the header of comes later.
        written.append_data(&mut header, path, std::io::empty())?;
        self.push(std::mem::take(written.get_mut()));
        Ok(())
    }

    fn push(&mut self, bytes: Vec<u8>) {
        self.length += bytes.len() as u64;
        self.pieces.push(Arc::new(Bytes::from(bytes)));
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}", digest.path())
}

/// `index.json`: the image, once for each of its names.
fn index(root: &Document, name: &Name, tags: &[Tag]) -> Value {
    let descriptor = json!({"mediaType": root.media_type, "digest": root.digest.to_string(), "size": root.bytes.len()});
    let named = |tag: &Tag| {
        let mut descriptor = descriptor.clone();
        descriptor["annotations"] = json!({
            "io.containerd.image.name": full_name(&name.glance_name(tag)),
            "org.opencontainers.image.ref.name": tag.as_str(),
        });
        descriptor
    };
    let mut manifests: Vec<Value> = tags.iter().map(named).collect();
    if manifests.is_empty() {
        manifests.push(descriptor);
    }
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
}

/// A name as containerd wants it, with the registry that Docker takes for granted.
fn full_name(name: &str) -> String {
    let registry = name.split_once('/').map(|(first, _)| first);
    match registry {
        Some(registry) if registry == "localhost" || registry.contains(['.', ':']) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// `manifest.json`, of an image that can be run and whose layers are all there.
fn saved(root: &Document, name: &Name, tags: &[Tag], parts: &[Part]) -> Option<Value> {
    let Document { config: Some(config), blobs: layers, .. } = root else { return None };
    let there = |digest: &Digest| parts.iter().any(|part| part.digest == *digest);
    if !root.is_runnable() || !layers.iter().all(|layer| there(&layer.digest)) {
        return None;
    }
    let layers: Vec<String> = layers.iter().map(|layer| path(&layer.digest)).collect();
    let names: Vec<String> = tags.iter().map(|tag| name.glance_name(tag)).collect();
    let names = if names.is_empty() { Value::Null } else { json!(names) };
    Some(json!([{"Config": path(&config.digest), "RepoTags": names, "Layers": layers}]))
}

/// A blob's bytes, which are as many as it says: everything after them depends on that.
fn exact(blob: Arc<dyn ReadableBlob>) -> BoxStream<'static, Result<Bytes, Error>> {
    let size = blob.size();
    let wrong = || Err(std::io::ErrorKind::UnexpectedEof.into()).at("read", "a blob of a push");
    let bytes = blob.read(0..size);
    let state = (bytes, size);
    futures::stream::try_unfold(state, move |(mut bytes, left)| async move {
        match bytes.try_next().await? {
            Some(piece) => match left.checked_sub(piece.len() as u64) {
                Some(left) => Ok(Some((piece, (bytes, left)))),
                None => Ok(wrong()?),
            },
            None if left == 0 => Ok(None),
            None => Ok(wrong()?),
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests;
