use std::io::Read;
use std::ops::Range;

use super::*;
use crate::Platform;
use crate::archive::layout::read_image;
use crate::manifest::OCI_LAYER;
use crate::store::Cache;
use crate::testing::{self, Memory};

fn document(bytes: Vec<u8>) -> Document {
    Document::parse(bytes.into(), None, Algorithm::Sha256).unwrap()
}

fn part(content: &[u8], algorithm: Algorithm) -> Part {
    let content = Bytes::copy_from_slice(content);
    Part::new(algorithm.digest(&content), Arc::new(content))
}

fn name() -> Name {
    "demo/web".parse().unwrap()
}

fn tags() -> Vec<Tag> {
    vec!["v1".parse().unwrap()]
}

/// The archive of an image with these layers.
fn image(layers: &[Vec<u8>]) -> (Document, Archive) {
    let config = serde_json::to_vec(&testing::config(layers)).unwrap();
    let root = document(testing::oci_manifest(&config, layers, OCI_LAYER));
    let mut parts = vec![part(&root.bytes, Algorithm::Sha256), part(&config, Algorithm::Sha256)];
    parts.extend(layers.iter().map(|layer| part(layer, Algorithm::Sha256)));
    let archive = Archive::new(&root, &name(), &tags(), parts).unwrap();
    (root, archive)
}

async fn written(archive: Archive) -> Bytes {
    let pieces: Vec<Bytes> = archive.stream().try_collect().await.unwrap();
    Bytes::from(pieces.concat())
}

fn entries(archive: &[u8]) -> Vec<(String, u64, Vec<u8>)> {
    let mut reader = tar::Archive::new(archive);
    let entries = reader.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = vec![];
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), entry.raw_file_position(), content)
    });
    entries.collect()
}

fn json_of(entries: &[(String, u64, Vec<u8>)], path: &str) -> Value {
    let (.., content) = entries.iter().find(|(entry, ..)| entry == path).unwrap();
    serde_json::from_slice(content).unwrap()
}

#[tokio::test]
async fn an_archive_has_the_length_and_the_places_that_were_told_before() {
    let layers = [testing::layer(1, 100_000), testing::layer(2, 512), testing::layer(3, 0)];
    let (root, archive) = image(&layers);
    let (length, places) = (archive.length, archive.places.clone());
    let bytes = written(archive).await;
    assert_eq!(bytes.len() as u64, length);
    assert_eq!(places[0].0, root.digest);
    for (digest, offset, size) in places {
        let content = &bytes[offset as usize..(offset + size) as usize];
        assert_eq!(digest.algorithm().digest(content), digest);
    }
}

#[tokio::test]
async fn the_registry_reads_what_it_wrote() {
    let layers = [testing::layer(1, 300_000), testing::layer(2, 700)];
    let (root, archive) = image(&layers);
    let bytes = written(archive).await;
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1 << 30).unwrap();
    let source = Arc::new(Memory::new(bytes.clone()));
    let read = read_image(source.clone(), bytes.len() as u64, &cache, &Platform::host()).await;
    let (image, _) = read.map_err(|failure| failure.of("web")).unwrap();
    assert_eq!((image.manifest.digest, &image.manifest.bytes), (root.digest, &root.bytes));
    for layer in &layers {
        let range = image.layer(&Digest::of(layer)).unwrap().range.clone();
        assert_eq!(bytes[range.start as usize..range.end as usize], **layer);
    }
    assert!(source.reads() <= 2, "{} reads", source.reads());
}

#[tokio::test]
async fn docker_load_finds_the_names_configuration_and_layers() {
    let layers = [testing::layer(1, 1000), testing::layer(2, 700)];
    let (root, archive) = image(&layers);
    let entries = entries(&written(archive).await);
    let saved = json_of(&entries, "manifest.json");
    assert_eq!(saved[0]["RepoTags"], json!(["web:v1"]));
    for (at, layer) in layers.iter().enumerate() {
        let path = saved[0]["Layers"][at].as_str().unwrap();
        assert!(entries.iter().any(|(entry, _, content)| entry == path && content == layer));
    }
    assert!(entries.iter().any(|(entry, ..)| entry == saved[0]["Config"].as_str().unwrap()));
    let listed = json_of(&entries, "index.json")["manifests"][0].clone();
    assert_eq!(listed["digest"], root.digest.to_string());
    assert_eq!(listed["annotations"]["io.containerd.image.name"], "docker.io/library/web:v1");
    assert_eq!(listed["annotations"]["org.opencontainers.image.ref.name"], "v1");
}

#[tokio::test]
async fn the_same_image_gives_the_same_bytes() {
    let layers = [testing::layer(1, 1000)];
    assert_eq!(written(image(&layers).1).await, written(image(&layers).1).await);
}

#[tokio::test]
async fn what_cannot_be_run_is_not_offered_to_docker_load() {
    let root = document(testing::oci_manifest(b"{}", &[b"a".to_vec()], "application/x-sbom"));
    let parts = vec![part(&root.bytes, Algorithm::Sha256), part(b"{}", Algorithm::Sha256)];
    let entries = entries(&written(Archive::new(&root, &name(), &[], parts).unwrap()).await);
    assert!(!entries.iter().any(|(path, ..)| path == "manifest.json"));
    assert_eq!(json_of(&entries, "index.json")["manifests"][0]["annotations"], Value::Null);
}

#[tokio::test]
async fn blobs_with_long_digests_have_long_paths() {
    let blob = testing::layer(1, 700);
    let root = document(testing::oci_manifest(b"{}", &[], "application/x-sbom"));
    let parts = vec![part(&root.bytes, Algorithm::Sha256), part(&blob, Algorithm::Sha512)];
    let archive = Archive::new(&root, &name(), &[], parts).unwrap();
    let (digest, offset, _) = archive.places[1];
    let entries = entries(&written(archive).await);
    let (path, position, content) = entries.last().unwrap();
    assert_eq!((path, *position, content), (&format!("blobs/sha512/{}", digest.hex()), offset, &blob));
}

/// A blob that says to be of one size and has another.
struct Odd {
    says: u64,
    has: usize,
}

impl ReadableBlob for Odd {
    fn size(&self) -> u64 {
        self.says
    }

    fn read(self: Arc<Self>, _: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
        futures::stream::iter([Ok(Bytes::from(vec![1; self.has]))]).boxed()
    }
}

fn with_odd(says: u64, has: usize) -> Archive {
    let root = document(testing::oci_manifest(b"{}", &[], "application/x-sbom"));
    let odd = Part::new(Digest::of(b"odd"), Arc::new(Odd { says, has }));
    Archive::new(&root, &name(), &[], vec![odd, part(b"after", Algorithm::Sha256)]).unwrap()
}

#[tokio::test]
async fn a_blob_that_is_shorter_or_longer_than_it_was_breaks_the_archive_off() {
    for has in [9, 11] {
        let written: Result<Vec<Bytes>, Error> = with_odd(10, has).stream().try_collect().await;
        assert!(written.is_err());
    }
}

#[tokio::test]
async fn blobs_of_more_than_eight_gibibytes_are_described_rightly() {
    let size = 9 << 30;
    let archive = with_odd(size, 0);
    let (_, offset, _) = archive.places[0];
    let (_, after, _) = archive.places[1];
    assert_eq!(after, offset + size + BLOCK);
    let start: Vec<Bytes> =
        archive.stream().take_while(|piece| std::future::ready(piece.is_ok())).try_collect().await.unwrap();
    let start = start.concat();
    let header = Header::from_byte_slice(&start[offset as usize - 512..offset as usize]);
    assert_eq!(header.entry_size().unwrap(), size);
}
