//! Archives and sources for the tests of this room.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tar::{EntryType, Header};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::manifest::{OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use crate::{Digest, ImageDescriptor, Platform, Source, SourceBody, SourceError};

/// Where nobody else listens, before and after: a loopback address of this process, and any port.
pub fn own_address() -> String {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    format!("127.{}.{middle}.{low}:0", high + 1)
}

/// A tar archive in the making.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(vec![]))
    }

    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content).unwrap();
        self
    }

    pub fn json(self, path: &str, content: &Value) -> Self {
        self.file(path, &serde_json::to_vec(content).unwrap())
    }

    pub fn directory(mut self, path: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        self.0.append_data(&mut header, path, &b""[..]).unwrap();
        self
    }

    pub fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }

    pub fn blob(self, content: &[u8]) -> Self {
        self.file(&format!("blobs/sha256/{}", Digest::of(content).hex()), content)
    }

    pub fn finish(self) -> Bytes {
        self.0.into_inner().unwrap().into()
    }
}

/// A layer of `size` bytes that differs from those of other seeds. Its content does not matter here.
pub fn layer(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 7) as u8 ^ seed).collect()
}

/// The configuration of an image of these layers, for this host.
pub fn config(layers: &[Vec<u8>]) -> Value {
    let host = Platform::host();
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    json!({
        "architecture": host.architecture, "os": host.os, "created": "2026-01-02T03:04:05.678901234Z",
        "container": "abc", "docker_version": "20.10.24+dfsg1",
        "config": {
            "Hostname": "", "User": "", "Env": ["PATH=/bin"], "Cmd": ["/init"], "Image": "sha256:00", "Volumes": null,
            "ExposedPorts": {"80/tcp": {}}, "Entrypoint": null, "OnBuild": null, "Labels": {"a": "b"},
        },
        "history": [{"created": "2026-01-02T03:04:05Z", "created_by": "/bin/sh -c #(nop) ADD file"}],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// As Docker before 25 saves an image: a layer that is the same as an earlier one is a symbolic link to it.
pub fn legacy(layers: &[Vec<u8>]) -> Bytes {
    legacy_with(layers, &config(layers))
}

pub fn legacy_with(layers: &[Vec<u8>], config: &Value) -> Bytes {
    let mut tar = Tar::new();
    let mut paths = vec![];
    for (at, layer) in layers.iter().enumerate() {
        let path = format!("{:064x}/layer.tar", at + 1);
        tar = tar.directory(path.trim_end_matches("layer.tar")).file(&path.replace("layer.tar", "VERSION"), b"1.0");
        tar = tar.json(&path.replace("layer.tar", "json"), &json!({"id": format!("{:064x}", at + 1)}));
        tar = match layers[..at].iter().position(|other| other == layer) {
            Some(first) => tar.link(EntryType::Symlink, &path, &format!("../{}", paths[first])),
            None => tar.file(&path, layer),
        };
        paths.push(path);
    }
    let file = format!("{}.json", Digest::of(&serde_json::to_vec(config).unwrap()).hex());
    tar.json(&file, config)
        .json("manifest.json", &json!([{"Config": file, "RepoTags": ["web:1"], "Layers": paths}]))
        .json("repositories", &json!({"web": {"1": "abc"}}))
        .finish()
}

/// A blob and its descriptor.
pub fn described(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content).to_string(), "size": content.len()})
}

/// The OCI manifest of an image.
pub fn oci_manifest(config: &[u8], layers: &[Vec<u8>], layer_type: &str) -> Vec<u8> {
    let layers: Vec<Value> = layers.iter().map(|layer| described(layer_type, layer)).collect();
    let config = described(OCI_CONFIG, config);
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
    serde_json::to_vec(&manifest).unwrap()
}

/// As Docker from 25 on saves an image.
pub fn oci(layers: &[Vec<u8>]) -> Bytes {
    let config = serde_json::to_vec(&config(layers)).unwrap();
    let manifest = oci_manifest(&config, layers, OCI_LAYER);
    let index = json!({"schemaVersion": 2, "manifests": [described(OCI_MANIFEST, &manifest)]});
    let tar =
        layers.iter().fold(Tar::new().directory("blobs/").directory("blobs/sha256/"), |tar, layer| tar.blob(layer));
    let path = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content).hex());
    let paths: Vec<String> = layers.iter().map(|layer| path(layer)).collect();
    tar.blob(&config)
        .blob(&manifest)
        .json("index.json", &index)
        .json("manifest.json", &json!([{"Config": path(&config), "RepoTags": ["web:1"], "Layers": paths}]))
        .json("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))
        .finish()
}

/// What a store does with a request for a range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    Served,
    /// The whole file, with 200.
    Ignored,
}

/// A file in memory, and what was read of it.
pub struct Memory {
    pub content: Bytes,
    pub ranges: Ranges,
    /// Requests, and bytes that they gave.
    pub reads: AtomicUsize,
    pub bytes: AtomicU64,
    /// Reads break off after so many bytes, so many times.
    pub breaks: AtomicUsize,
    pub break_after: usize,
    /// Every chunk of a read from this offset on takes a permit.
    pub gate: Option<(u64, Arc<Semaphore>)>,
    pub forbidden: bool,
}

impl Memory {
    pub fn new(content: impl Into<Bytes>) -> Self {
        Self {
            content: content.into(),
            ranges: Ranges::Served,
            reads: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            breaks: AtomicUsize::new(0),
            break_after: 0,
            gate: None,
            forbidden: false,
        }
    }

    pub fn with_ranges(self, ranges: Ranges) -> Self {
        Self { ranges, ..self }
    }

    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    pub fn descriptor(&self) -> ImageDescriptor {
        ImageDescriptor {
            id: Uuid::new_v4(),
            name: Some("web".into()),
            size: self.content.len() as u64,
            container_format: "docker".into(),
            disk_format: "raw".into(),
            content_hash: Some(Digest::of(&self.content).hex()),
        }
    }
}

impl Source for Memory {
    fn read(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<SourceBody, SourceError>> {
        async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            if self.forbidden {
                return Err(SourceError::Forbidden("you may not read this image".into()));
            }
            let ranged = range.is_some() && self.ranges == Ranges::Served;
            let whole = 0..self.content.len() as u64;
            let range = range.filter(|_| ranged).unwrap_or(whole);
            let mut content = self.content.slice(range.start as usize..range.end as usize);
            let breaks =
                self.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if breaks {
                content.truncate(self.break_after);
            }
            self.bytes.fetch_add(content.len() as u64, Ordering::SeqCst);
            let mut chunks: Vec<_> = content.chunks(16 * 1024).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            if breaks {
                chunks.push(Err(SourceError::Unavailable("connection reset".into())));
            }
            let gate = self.gate.clone().filter(|(from, _)| range.start >= *from);
            let stream = futures::stream::iter(chunks).then(move |chunk| {
                let gate = gate.clone();
                async move {
                    if let Some((_, gate)) = gate {
                        gate.acquire().await.unwrap().forget();
                    }
                    chunk
                }
            });
            Ok(SourceBody { ranged, stream: stream.boxed() })
        }
        .boxed()
    }
}
