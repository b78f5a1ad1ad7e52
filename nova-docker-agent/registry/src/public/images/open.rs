//! Opens the file of one image: which manifests are in it, and where its blobs are.
//!
//! A pushed image says so in its properties, which are only believed as far as digests prove them; of any other, the
//! archive's headers are read. A `docker save` archive of old has no manifest: it is built, the same one every time.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::archive::{Archive, layout};
use crate::manifest::{
    self, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Index, MAX_ALL_MANIFESTS, MAX_DEPTH, MAX_MANIFEST, MAX_MANIFESTS,
    OCI_INDEX, OCI_MANIFEST,
};
use crate::public::property;
use crate::store::reader::{Reader, Window};
use crate::store::{Fetcher, Turn};
use crate::{Digest, Error, Problem, Source};
use nova_docker_cloud::glance::ImageMeta;

/// What is in an image's file.
pub struct Opened {
    /// The manifest, or index, that the image's tags stand for.
    pub root: Digest,
    /// Manifests and indexes, with their media types.
    pub manifests: HashMap<Digest, (String, Bytes)>,
    /// Where everything else is in the file.
    pub blobs: HashMap<Digest, Range<u64>>,
}

impl Opened {
    /// About how many bytes of memory it takes.
    pub fn weight(&self) -> usize {
        let manifests = self.manifests.values().map(|(media_type, bytes)| media_type.len() + bytes.len());
        manifests.sum::<usize>() + self.blobs.len() * 128
    }
}

/// Opens an image, in a turn that was taken for it.
///
/// # Errors
/// What is wrong with it, or why it cannot be read.
pub async fn open(
    source: Arc<dyn Source>,
    record: &ImageMeta,
    fetcher: &Arc<Fetcher>,
    turn: Turn,
) -> Result<Opened, Error> {
    let size = record.size.unwrap_or_default();
    fetcher.tally.lock().indexes += 1;
    if let Some(hint) = Hint::of(record, size) {
        match by_hint(source.clone(), size, hint).await {
            Ok(Some(opened)) => return Ok(opened),
            Ok(None) => {}
            Err(Error::BadImage { problem, .. }) => {
                tracing::info!(image = %record.id, "its properties do not describe its file: {problem}");
            }
            Err(failure) => return Err(failure),
        }
    }
    let archive = Archive::open(source, size, &fetcher.cache, Some(turn)).await?;
    fetcher.tally.lock().index_reads += archive.reads();
    by_archive(archive, record).await
}

/// What the properties of a pushed image say.
struct Hint {
    root: Digest,
    media_type: String,
    blobs: HashMap<Digest, Range<u64>>,
}

impl Hint {
    /// None where they say nothing, or nothing that can be.
    fn of(record: &ImageMeta, size: u64) -> Option<Self> {
        let text = |key| property::told(record, key);
        let root = text(property::DIGEST)?.parse().ok()?;
        let media_type = text(property::MEDIA_TYPE).unwrap_or_default().to_owned();
        let places: HashMap<String, (u64, u64)> = serde_json::from_str(text(property::BLOBS)?).ok()?;
        let mut blobs = HashMap::new();
        for (digest, (offset, length)) in places {
            let end = offset.checked_add(length).filter(|end| *end <= size)?;
            blobs.insert(digest.parse().ok()?, offset..end);
        }
        Some(Self { root, media_type, blobs })
    }
}

/// None for a store that has no ranges: there, one pass through the archive is better.
async fn by_hint(source: Arc<dyn Source>, size: u64, hint: Hint) -> Result<Option<Opened>, Error> {
    let window = match Reader::open(source, size).await? {
        Reader::Ranged(window) => window,
        Reader::Sequential(_) => return Ok(None),
    };
    let Hint { root, media_type, blobs } = hint;
    if !blobs.contains_key(&root) {
        return Err(bad("its manifest is not among them").into());
    }
    walk(File::Ranged(window), root, media_type, blobs).await.map(Some)
}

async fn by_archive(mut archive: Archive, record: &ImageMeta) -> Result<Opened, Error> {
    if archive.find("index.json").is_none() {
        let (image, config) = layout::legacy(&mut archive, layout::Serving::AsStored).await?;
        let manifest = (image.manifest.media_type, image.manifest.bytes);
        let mut blobs: HashMap<_, _> = image.layers.into_iter().map(|layer| (layer.digest, layer.range)).collect();
        blobs.insert(image.config.digest, config);
        let root = image.manifest.digest;
        return Ok(Opened { root, manifests: [(root, manifest)].into(), blobs });
    }
    let blobs: HashMap<Digest, Range<u64>> = archive.blobs().collect();
    let bytes = archive.read("index.json", MAX_MANIFEST).await?.unwrap_or_default();
    let index: Index = manifest::parse(&bytes).map_err(|error| bad(&error.to_string()))?;
    let mut seen = HashSet::new();
    let named: Vec<(Digest, Descriptor)> = index
        .manifests
        .into_iter()
        .filter_map(|descriptor| Some((descriptor.digest.parse().ok()?, descriptor)))
        .filter(|(digest, _)| blobs.contains_key(digest) && seen.insert(*digest))
        .collect();
    let pushed = property::text(record, property::DIGEST);
    let chosen = match named.as_slice() {
        [] => return Err(bad("no image that index.json names is in the archive").into()),
        [one] => Some(one),
        several => several.iter().find(|(digest, _)| pushed == Some(digest.to_string().as_str())),
    };
    if let Some((root, descriptor)) = chosen {
        let (root, media_type) = (*root, descriptor.media_type.clone());
        return walk(File::Archived(Box::new(archive)), root, media_type, blobs).await;
    }
    // Several platforms of one image: then index.json is that image's index. Otherwise they are several images.
    if !named.iter().all(|(_, descriptor)| descriptor.platform.is_some()) {
        return Err(layout::several(named.len(), named.iter().map(|(digest, _)| digest.to_string())).into());
    }
    let root = Digest::of(&bytes);
    let place = archive.find("index.json").unwrap_or_default();
    let blobs = blobs.into_iter().chain([(root, place)]).collect();
    walk(File::Archived(Box::new(archive)), root, OCI_INDEX.to_owned(), blobs).await
}

/// Where manifests are read from.
enum File {
    Ranged(Window),
    Archived(Box<Archive>),
}

impl File {
    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, Error> {
        match self {
            Self::Ranged(window) => Ok(window.read(range).await?),
            Self::Archived(archive) => archive.content(range).await,
        }
    }
}

/// What a manifest or an index says of others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

/// Reads the root, and the manifests that are named below it and are there; all are verified.
async fn walk(
    mut file: File,
    root: Digest,
    media_type: String,
    mut blobs: HashMap<Digest, Range<u64>>,
) -> Result<Opened, Error> {
    let mut manifests = HashMap::new();
    let mut waiting = vec![(root, media_type, 0)];
    let mut total = 0;
    while let Some((digest, declared, depth)) = waiting.pop() {
        if manifests.contains_key(&digest) {
            continue;
        }
        let Some(range) = blobs.get(&digest).cloned() else { continue };
        let length = range.end.saturating_sub(range.start);
        total += length;
        if length > MAX_MANIFEST || total > MAX_ALL_MANIFESTS || manifests.len() >= MAX_MANIFESTS || depth > MAX_DEPTH {
            return Err(
                Problem::TooLarge { what: "its manifests".into(), found: total, limit: MAX_ALL_MANIFESTS }.into()
            );
        }
        if length == 0 {
            return Err(bad("a manifest is empty").into());
        }
        let bytes = file.read(range).await?;
        let found = digest.algorithm().digest(&bytes);
        if found != digest {
            return Err(bad(&format!("a manifest has digest {found} and is named {digest}")).into());
        }
        let document: Document = manifest::parse(&bytes).map_err(|error| bad(&error.to_string()))?;
        for child in document.manifests.iter().flatten().filter(|child| child.is_index() || child.is_manifest()) {
            if let Ok(digest) = child.digest.parse() {
                waiting.push((digest, child.media_type.clone(), depth + 1));
            }
        }
        let bytes = Bytes::copy_from_slice(&bytes);
        manifests.insert(digest, (kind(&document, declared), bytes));
    }
    blobs.retain(|digest, _| !manifests.contains_key(digest));
    Ok(Opened { root, manifests, blobs })
}

/// The media type under which a manifest is served: what it says of itself, if it says anything that clients know.
fn kind(document: &Document, declared: String) -> String {
    let known = |kind: &str| [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(&kind);
    let is_index = document.manifests.is_some();
    match () {
        () if known(&document.media_type) => document.media_type.clone(),
        () if known(&declared) => declared,
        () if is_index => OCI_INDEX.to_owned(),
        () => OCI_MANIFEST.to_owned(),
    }
}

fn bad(reason: &str) -> Problem {
    layout::bad("the OCI layout", reason)
}
