//! Images as they are stored in Glance: what a real Docker saves, and the same in the layout of a newer Docker.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use nova_docker_agent::registry::{Digest, ImageDescriptor, Source, SourceBody, SourceError};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};
use uuid::Uuid;

use crate::docker::{Dockerd, IMAGE};

const CHUNK: usize = 64 * 1024;

/// A file in memory that is read as Glance's are: by range.
#[derive(Debug)]
pub struct Stored(pub Bytes);

/// The same, from a store that takes its time: reads that begin after the first bytes wait until it is told to go on.
#[derive(Debug)]
pub struct Slow(pub Arc<Stored>, pub Arc<Semaphore>);

impl Source for Slow {
    fn read(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<SourceBody, SourceError>> {
        async move {
            if range.as_ref().is_some_and(|range| range.start > 0) {
                let permit = self.1.acquire().await;
                drop(permit.map_err(|closed| SourceError::Unavailable(closed.to_string()))?);
            }
            self.0.read(range).await
        }
        .boxed()
    }
}

impl Stored {
    /// What Glance would say of it.
    pub fn descriptor(&self) -> ImageDescriptor {
        ImageDescriptor {
            id: Uuid::new_v4(),
            name: Some("test".to_owned()),
            size: self.0.len() as u64,
            container_format: "docker".to_owned(),
            disk_format: "raw".to_owned(),
            content_hash: None,
        }
    }
}

impl Source for Stored {
    fn read(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<SourceBody, SourceError>> {
        async move {
            let ranged = range.is_some();
            let range = range.unwrap_or(0..self.0.len() as u64);
            let part = self.0.slice(range.start as usize..range.end as usize);
            let chunks: Vec<_> =
                (0..part.len()).step_by(CHUNK).map(|at| Ok(part.slice(at..part.len().min(at + CHUNK)))).collect();
            Ok(SourceBody { ranged, stream: futures::stream::iter(chunks).boxed() })
        }
        .boxed()
    }
}

/// Has Docker build an image from a Dockerfile that needs no network.
pub async fn build(dockerd: &Dockerd, name: &str, dockerfile: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
    let path = directory.path().display().to_string();
    dockerd.docker(&["build", "-q", "--network=none", "-t", name, &path]).await;
}

/// `docker save`.
pub async fn save(dockerd: &Dockerd, name: &str) -> Arc<Stored> {
    let file = dockerd.path("saved.tar").display().to_string();
    dockerd.docker(&["save", "-o", &file, name]).await;
    Arc::new(Stored(std::fs::read(file).expect("a saved image").into()))
}

/// The test image as `docker save` writes it; it is saved once. Docker may have forgotten it afterwards.
pub async fn test_image(dockerd: &Dockerd) -> Arc<Stored> {
    static SAVED: OnceCell<Arc<Stored>> = OnceCell::const_new();
    let saved = SAVED.get_or_init(async || {
        dockerd.need_image().await;
        save(dockerd, IMAGE).await
    });
    saved.await.clone()
}

/// Removes every image that no container uses, so that the next pull gets every layer.
pub async fn remove_all(dockerd: &Dockerd) {
    dockerd.docker(&["image", "prune", "-af"]).await;
}

/// Whether a saved image has a layer twice, the second time as a link, or, from Docker 25 on, under the same name.
pub fn repeats_a_layer(saved: &Stored) -> bool {
    let mut archive = tar::Archive::new(Cursor::new(&*saved.0));
    let mut entries = archive.entries().expect("an archive").map(|entry| entry.expect("an entry"));
    let listed: Value = serde_json::from_slice(&files(&saved.0)["manifest.json"]).expect("a manifest");
    let paths = listed[0]["Layers"].as_array().expect("layers").iter().map(Value::to_string);
    let mut seen = BTreeSet::new();
    entries.any(|entry| entry.header().entry_type().is_symlink()) || !paths.into_iter().all(|path| seen.insert(path))
}

/// The files of an archive, with links replaced by what they lead to.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut links = vec![];
    for entry in tar::Archive::new(Cursor::new(archive)).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        if let Some(target) = entry.link_name().expect("a link") {
            links.push((path, target.display().to_string().trim_start_matches("../").to_owned()));
            continue;
        }
        let mut content = vec![];
        entry.read_to_end(&mut content).expect("an entry");
        files.insert(path, content);
    }
    for (path, target) in links {
        files.insert(path, files[&target].clone());
    }
    files
}

/// The same image with layers that are not compressed. Docker saves those in the containerd image store as they are there.
pub fn plain(saved: &Arc<Stored>) -> Arc<Stored> {
    let mut files = files(&saved.0);
    let paths = layers(&files);
    if !paths.iter().any(|path| is_gzip(&files[path])) {
        return saved.clone();
    }
    // These files' names would not be their digests any more.
    files.retain(|path, _| path != "index.json" && path != "oci-layout");
    for path in paths {
        let content = files.get_mut(&path).expect("a layer");
        *content = unpacked(std::mem::take(content));
    }
    archive(&files)
}

/// Paths of an image's layers; one that it has twice is there once.
fn layers(files: &BTreeMap<String, Vec<u8>>) -> BTreeSet<String> {
    let listed: Value = serde_json::from_slice(&files["manifest.json"]).expect("a manifest");
    let paths = listed[0]["Layers"].as_array().expect("layers").iter();
    paths.map(|path| path.as_str().expect("a name").to_owned()).collect()
}

fn is_gzip(content: &[u8]) -> bool {
    content.starts_with(&[0x1f, 0x8b])
}

fn unpacked(content: Vec<u8>) -> Vec<u8> {
    if !is_gzip(&content) {
        return content;
    }
    let mut whole = vec![];
    flate2::read::GzDecoder::new(&*content).read_to_end(&mut whole).expect("a layer");
    whole
}

/// A saved image in the layout that Docker writes from version 25 on; `compress` is applied to each layer, and
/// `layer_type` is the media type of the result.
pub fn to_oci(saved: &Stored, layer_type: &str, compress: impl Fn(Vec<u8>) -> Vec<u8>) -> Arc<Stored> {
    let files = files(&saved.0);
    let listed: Value = serde_json::from_slice(&files["manifest.json"]).expect("a manifest");
    let config = files[listed[0]["Config"].as_str().expect("a name")].clone();
    let paths = listed[0]["Layers"].as_array().expect("layers").iter();
    let layers: Vec<_> = paths.map(|path| compress(unpacked(files[path.as_str().expect("a name")].clone()))).collect();
    let described = |media_type: &str, content: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(content).to_string(), "size": content.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|layer| described(layer_type, layer)).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string().into_bytes();
    let index =
        json!({"schemaVersion": 2, "manifests": [described("application/vnd.oci.image.manifest.v1+json", &manifest)]});
    let blobs = layers.into_iter().chain([config, manifest]);
    let blobs = blobs.map(|content| (format!("blobs/sha256/{}", Digest::of(&content).hex()), content));
    let rest = [("index.json", index), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))];
    let rest = rest.map(|(path, content)| (path.to_owned(), content.to_string().into_bytes()));
    archive(&blobs.chain(rest).collect())
}

/// A saved image with another configuration, in the layout of Docker before version 25: no index tells its digest and size.
pub fn reconfigured(saved: &Stored, edit: impl FnOnce(&mut Value)) -> Arc<Stored> {
    let mut files = files(&saved.0);
    files.retain(|path, _| path != "index.json" && path != "oci-layout");
    let listed: Value = serde_json::from_slice(&files["manifest.json"]).expect("a manifest");
    let config = files.get_mut(listed[0]["Config"].as_str().expect("a name")).expect("a configuration");
    let mut edited = serde_json::from_slice(config).expect("JSON");
    edit(&mut edited);
    *config = edited.to_string().into_bytes();
    archive(&files)
}

/// A saved image with the content of its first layer altered, as a bad disk would.
pub fn corrupt(saved: &Arc<Stored>) -> Arc<Stored> {
    let saved = plain(saved);
    let mut bytes = saved.0.to_vec();
    let mut archive = tar::Archive::new(Cursor::new(&*saved.0));
    let mut entries = archive.entries().expect("an archive").map(|entry| entry.expect("an entry"));
    let layer = entries.find(|entry| entry.size() > 10_000).expect("a layer");
    let middle = layer.raw_file_position() + layer.size() / 2;
    drop(entries);
    bytes[middle as usize] ^= 1;
    Arc::new(Stored(bytes.into()))
}

fn archive(files: &BTreeMap<String, Vec<u8>>) -> Arc<Stored> {
    let mut archive = tar::Builder::new(vec![]);
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content.as_slice()).expect("an archive in memory");
    }
    Arc::new(Stored(archive.into_inner().expect("an archive in memory").into()))
}
