//! The two layouts of a `docker save` archive, and the image in it.
//!
//! Docker before 25, and most other tools: `manifest.json` names the configuration and the layers, uncompressed tar files
//! whose digests are the `diff_ids` of the configuration. Docker from 25 on, and OCI tools: an OCI image layout
//! (`index.json`, `blobs/sha256/HEX`), with `manifest.json` besides it for older Dockers.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Archive;
use super::choice::choose;
use super::configuration::Configuration;
use super::image::{Document, Image, Layer};
use crate::manifest::{self, Descriptor, MAX_MANIFEST, Manifest};
use crate::store::{Cache, Compression, Packing, Pins};
use crate::{Digest, Error, Platform, Problem, Source};

/// Of an image's configuration, in bytes.
pub const MAX_CONFIG: u64 = 8 * 1024 * 1024;
/// Storage drivers end at 128 layers or so.
const MAX_LAYERS: usize = 512;
/// Images that a message names.
const MAX_NAMED: usize = 5;

/// Reads the index of the archive that is `size` bytes long, and the image for `platform` in it, without its volumes. The pins keep
/// what was put into the cache on the way.
pub async fn read_image(
    source: Arc<dyn Source>,
    size: u64,
    cache: &Arc<Cache>,
    platform: &Platform,
) -> Result<(Image, Pins), Error> {
    let mut archive = Archive::open(source, size, cache, None).await?;
    let mut image = match archive.find("index.json") {
        Some(_) => oci(&mut archive, platform).await?,
        None => legacy(&mut archive, Serving::Unpacked).await?.0,
    };
    check_platform(&image.platform, platform)?;
    image.drop_volumes()?;
    Ok((image, archive.into_pins()))
}

/// One image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// What becomes of the compressed layers of an archive in the older layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// They are served unpacked: nobody need have read them to know their digest then.
    Unpacked,
    /// They are served, if every Docker can unpack them; for that they are read.
    AsStored,
}

/// The image that `manifest.json` names, and where its configuration is.
pub async fn legacy(archive: &mut Archive, serving: Serving) -> Result<(Image, Range<u64>), Error> {
    let Some(bytes) = archive.read("manifest.json", MAX_MANIFEST).await? else {
        return Err(no_manifest(archive).into());
    };
    let saved: Vec<Saved> = parse("manifest.json", &bytes)?;
    let name = |saved: &Saved| saved.repo_tags.iter().flatten().next().unwrap_or(&saved.config).clone();
    let [saved] = saved.as_slice() else {
        return Err(match saved.len() {
            0 => bad("manifest.json", "it names no image").into(),
            found => several(found, saved.iter().map(name)).into(),
        });
    };
    let config = required(archive, &saved.config, MAX_CONFIG).await?;
    let config_range = archive.find(&saved.config).unwrap_or_default();
    let configuration: Configuration = parse(&saved.config, &config)?;
    let diff_ids = &configuration.diff_ids;
    check_layers(saved.layers.len(), diff_ids.len(), &saved.config)?;
    let mut layers = vec![];
    for (path, diff_id) in saved.layers.iter().zip(diff_ids) {
        layers.push(legacy_layer(archive, path, diff_id, &saved.config, serving).await?);
    }
    let config = Document::new(manifest::OCI_CONFIG, config);
    let manifest = Document::manifest(&config, &layers)?;
    let (sequential, reads) = (archive.is_sequential(), archive.reads());
    let image = Image { manifest, config, platform: configuration.platform, layers, sequential, reads };
    Ok((image, config_range))
}

/// `docker save` stores a layer uncompressed, so that its digest is its diff_id. Other tools compress; what the digest of such a
/// layer is, the archive does not say.
async fn legacy_layer(
    archive: &mut Archive,
    path: &str,
    diff_id: &str,
    config: &str,
    serving: Serving,
) -> Result<Layer, Error> {
    let missing = || Problem::Missing { file: shorten(path) };
    let name = super::walker::resolve("", path).ok_or_else(missing)?;
    let range = archive.find(&name).ok_or_else(missing)?;
    let diff_id = diff_id_of(diff_id, config)?;
    let layer = match Compression::of(&archive.magic(&range).await?) {
        Compression::None => Layer::as_stored(diff_id, range),
        _ if serving == Serving::Unpacked => return Ok(Layer::packed(diff_id, range, Packing { digest: None })),
        Compression::Gzip => {
            let digest = archive.keep(&range).await?;
            Layer { media_type: manifest::OCI_LAYER_GZIP, ..Layer::as_stored(digest, range) }
        }
        other => {
            let media_type = format!("a tar archive compressed with {other:?}").to_lowercase();
            return Err(Problem::UnsupportedLayer { layer: shorten(path), media_type }.into());
        }
    };
    archive.check_digest(&layer.range, layer.digest)?;
    Ok(layer)
}

fn diff_id_of(text: &str, config: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| bad(config, "a diff_id is not a sha256 digest"))
}

fn no_manifest(archive: &Archive) -> Problem {
    let reason = match archive.is_file_system() {
        true => "it is a container's file system, as `docker export` writes it",
        false => "there is no manifest.json in it",
    };
    Problem::NotADockerArchive { reason: reason.into() }
}

async fn oci(archive: &mut Archive, platform: &Platform) -> Result<Image, Error> {
    let (descriptor, bytes) = choose(archive, platform).await?;
    let file = descriptor.digest.clone();
    let manifest: Manifest = parse_manifest(&file, &bytes)?;
    let config = blob(archive, &manifest.config, MAX_CONFIG).await?;
    let configuration: Configuration = parse(&manifest.config.digest, &config)?;
    check_layers(manifest.layers.len(), configuration.diff_ids.len(), &manifest.config.digest)?;
    let mut layers = vec![];
    for (layer, diff_id) in manifest.layers.iter().zip(&configuration.diff_ids) {
        check_layer(layer)?;
        let (digest, path) = locate(layer)?;
        let range = archive.find(&path).ok_or(Problem::Missing { file: path.clone() })?;
        if range.end - range.start != layer.size {
            return Err(bad(&path, "it has another size than its manifest says").into());
        }
        archive.check_digest(&range, digest)?;
        // What Docker unpacks has no bound there. It goes by the content, whatever the manifest calls it.
        let is_plain = Compression::of(&archive.magic(&range).await?) == Compression::None;
        layers.push(if layer.is_layer() && is_plain {
            Layer::as_stored(digest, range)
        } else {
            let diff_id = diff_id_of(diff_id, &manifest.config.digest)?;
            Layer::packed(diff_id, range, Packing { digest: Some(digest) })
        });
    }
    let manifest_type = if descriptor.media_type.is_empty() { manifest::OCI_MANIFEST } else { &descriptor.media_type };
    let config = Document::new(&manifest.config.media_type, config);
    let manifest = Document::new(manifest_type, bytes);
    let (sequential, reads) = (archive.is_sequential(), archive.reads());
    Ok(Image { manifest, config, platform: configuration.platform, layers, sequential, reads })
}

/// Whether dockerd can, and may, use a layer that is described so.
fn check_layer(layer: &Descriptor) -> Result<(), Problem> {
    if !layer.is_layer() && !layer.is_zstd() {
        let media_type = shorten(&layer.media_type);
        return Err(Problem::UnsupportedLayer { layer: shorten(&layer.digest), media_type });
    }
    // A client would go to whatever address an image's owner writes there, as the host.
    if !layer.urls.is_empty() {
        return Err(bad(&layer.digest, "its manifest sends the client to another address for it"));
    }
    Ok(())
}

/// The content of a small blob, verified.
pub async fn blob(archive: &mut Archive, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
    let (expected, path) = locate(descriptor)?;
    let bytes = required(archive, &path, limit).await?;
    if bytes.len() as u64 != descriptor.size {
        return Err(bad(&path, "it has another size than its manifest says").into());
    }
    let found = expected.algorithm().digest(&bytes);
    if found != expected {
        return Err(bad(&path, &format!("its digest is {found}, not that of its name")).into());
    }
    Ok(bytes)
}

pub fn locate(descriptor: &Descriptor) -> Result<(Digest, String), Problem> {
    let digest = descriptor.digest.parse::<Digest>();
    let digest = digest.map_err(|error| bad("the OCI layout", &format!("a digest in it is {error}")))?;
    Ok((digest, format!("blobs/{}", digest.path())))
}

pub async fn required(archive: &mut Archive, path: &str, limit: u64) -> Result<Bytes, Error> {
    archive.read(path, limit).await?.ok_or_else(|| Problem::Missing { file: shorten(path) }.into())
}

fn check_layers(named: usize, diff_ids: usize, config: &str) -> Result<(), Problem> {
    if named > MAX_LAYERS {
        return Err(Problem::TooManyLayers { found: named, limit: MAX_LAYERS });
    }
    if named != diff_ids {
        return Err(bad(config, &format!("it has {diff_ids} diff_ids, and the manifest {named} layers")));
    }
    if named == 0 {
        return Err(bad(config, "it has no layers: there is nothing to run"));
    }
    Ok(())
}

fn check_platform(found: &Platform, host: &Platform) -> Result<(), Problem> {
    if host.fitness(found).is_some() {
        return Ok(());
    }
    Err(Problem::Platform { found: shorten(&found.to_string()), host: host.to_string() })
}

/// Of a manifest or an index, which dockerd reads as well.
pub fn parse_manifest<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, Problem> {
    manifest::parse(bytes).map_err(|error| bad(file, &error.to_string()))
}

pub fn parse<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| bad(file, &error.to_string()))
}

pub fn bad(file: &str, reason: &str) -> Problem {
    Problem::BadMetadata { file: shorten(file), reason: shorten(reason) }
}

/// Names some of several images.
pub fn several(found: usize, names: impl Iterator<Item = String>) -> Problem {
    Problem::SeveralImages { found, names: names.take(MAX_NAMED).map(|name| shorten(&name)).collect() }
}

/// Messages repeat what the image says, which may be anything.
pub fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
pub mod tests;
