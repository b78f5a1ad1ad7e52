//! The one manifest for this host among those that an archive's indexes name.

use bytes::Bytes;

use super::Archive;
use super::configuration::Configuration;
use super::layout::{MAX_CONFIG, bad, blob, locate, parse, parse_manifest, required, several, shorten};
use crate::manifest::{Descriptor, Index, MAX_ALL_MANIFESTS, MAX_DEPTH, MAX_MANIFEST, MAX_MANIFESTS, Manifest};
use crate::platform::Fitness;
use crate::{Error, Platform, Problem};

/// A manifest that is there, and which image it is a form of: those of one image are for different platforms, or compressed
/// in different ways.
struct Found {
    descriptor: Descriptor,
    bytes: Bytes,
    image: String,
}

/// A manifest that runs here.
struct Fitting {
    found: Found,
    fitness: Fitness,
    manifest: Manifest,
}

/// The manifest that fits best: that of the highest level that the processor has, and then one whose layers need no other
/// compression than gzip. Of an image for several platforms, usually only one was saved: what is named and not there is
/// passed over.
pub async fn choose(archive: &mut Archive, host: &Platform) -> Result<(Descriptor, Bytes), Error> {
    let found = manifests(archive).await?;
    if found.is_empty() {
        return Err(bad("index.json", "no image that it names is in the archive").into());
    }
    let mut fitting = vec![];
    let mut others = vec![];
    for found in found {
        let manifest: Manifest = parse_manifest(&found.descriptor.digest, &found.bytes)?;
        let declared = platform_of(archive, &found.descriptor, &manifest).await?;
        match host.fitness(&declared) {
            Some(fitness) => fitting.push(Fitting { found, fitness, manifest }),
            None => others.push(declared.to_string()),
        }
    }
    // An image for the host itself goes before one that its processor also runs.
    if fitting.iter().any(|one| one.fitness.is_native) {
        fitting.retain(|one| one.fitness.is_native);
    }
    let mut images: Vec<&Found> = vec![];
    for one in &fitting {
        if !images.iter().any(|other| other.image == one.found.image) {
            images.push(&one.found);
        }
    }
    if images.len() > 1 {
        return Err(several(images.len(), images.iter().map(|found| found.name())).into());
    }
    // The first of those that are equally good, as containerd does.
    let best = fitting.into_iter().rev().max_by_key(|one| (one.fitness, one.manifest.is_for_every_docker()));
    let none = || Problem::Platform { found: shorten(&others.join(", ")), host: host.to_string() };
    let Fitting { found, .. } = best.ok_or_else(none)?;
    Ok((found.descriptor, found.bytes))
}

impl Found {
    fn name(&self) -> String {
        self.descriptor.name().unwrap_or(&self.descriptor.digest).to_owned()
    }
}

/// The manifests in the archive, each once, however many names it has.
async fn manifests(archive: &mut Archive) -> Result<Vec<Found>, Error> {
    let bytes = required(archive, "index.json", MAX_MANIFEST).await?;
    let index: Index = parse_manifest("index.json", &bytes)?;
    let top = index.manifests.into_iter().rev();
    let mut waiting: Vec<_> = top.map(|descriptor| (image_of(&descriptor), descriptor, 0)).collect();
    let mut found: Vec<Found> = vec![];
    let (mut named, mut size) = (0, 0);
    while let Some((image, descriptor, depth)) = waiting.pop() {
        named += 1;
        if named > MAX_MANIFESTS || depth > MAX_DEPTH {
            return Err(bad("index.json", "it names too many manifests").into());
        }
        let is_manifest = descriptor.is_index() || descriptor.is_manifest();
        let is_known = found.iter().any(|known| known.descriptor.digest == descriptor.digest);
        if !is_manifest || descriptor.is_attestation() || is_known {
            continue;
        }
        let (_, path) = locate(&descriptor)?;
        let Some(range) = archive.find(&path) else { continue };
        size += range.end - range.start;
        if size > MAX_ALL_MANIFESTS {
            let what = "its manifests".to_owned();
            return Err(Problem::TooLarge { what, found: size, limit: MAX_ALL_MANIFESTS }.into());
        }
        let bytes = blob(archive, &descriptor, MAX_MANIFEST).await?;
        if descriptor.is_index() {
            let index: Index = parse_manifest(&path, &bytes)?;
            let below = index.manifests.into_iter().rev();
            waiting.extend(below.map(|descriptor| (image.clone(), descriptor, depth + 1)));
        } else {
            found.push(Found { descriptor, bytes, image });
        }
    }
    Ok(found)
}

/// What tells the images of `index.json` apart: their names. Entries for platforms that have no name are of one image, whose
/// index `index.json` is then.
fn image_of(descriptor: &Descriptor) -> String {
    match (descriptor.name(), &descriptor.platform) {
        (Some(name), _) => name.to_owned(),
        (None, Some(_)) => String::new(),
        (None, None) => descriptor.digest.clone(),
    }
}

/// What a manifest is for: its descriptor says so, or its configuration.
async fn platform_of(archive: &mut Archive, descriptor: &Descriptor, manifest: &Manifest) -> Result<Platform, Error> {
    if let Some(platform) = &descriptor.platform {
        return Ok(platform.clone());
    }
    let config = blob(archive, &manifest.config, MAX_CONFIG).await?;
    Ok(parse::<Configuration>(&manifest.config.digest, &config)?.platform)
}

#[cfg(test)]
mod tests;
