//! Which project's images were seen to hold which blobs.
//!
//! Naming a digest is no proof of having its content: a user can write any digest into an image. So where several projects
//! share a cache, a blob of it is given for an image only after an image of the same circle (a project) was read and had it.
//! That is remembered over restarts, for all processes that share the cache, by an empty file:
//!
//! ```text
//! CACHE/proven/CIRCLE/ALGORITHM-HEX   CIRCLE is a hash of its name
//! ```

use std::path::{Path, PathBuf};

use moka::sync::Cache as Memory;

use super::Cache;
use crate::Digest;
use crate::files::{self, At, FileError, entries, make_parent, private};

/// Proofs in memory; for others the disk is asked.
const MAX_KNOWN: u64 = 16_384;

/// With whom a blob that was read is shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// With every image that names its digest: the cache has no layers of which Docker would make more than they have. The read
    /// is given up when nothing pins the blob.
    Host,
    /// With images of the same circle. The read is finished whoever goes away.
    Circle(String),
}

/// What is proven.
pub struct Proofs {
    directory: PathBuf,
    known: Memory<(Digest, Sharing), ()>,
}

impl Proofs {
    /// Those of a cache; proofs for blobs that it no longer has are removed. Blocks.
    pub fn open(cache: &Cache) -> Self {
        let directory = cache.directory().join("proven");
        if let Err(error) = tidy(&directory, cache) {
            tracing::warn!("layer cache: {error}");
        }
        Self { directory, known: Memory::new(MAX_KNOWN) }
    }

    /// Whether an image of the circle was seen to hold the blob.
    pub fn has(&self, digest: &Digest, sharing: &Sharing) -> bool {
        let Sharing::Circle(circle) = sharing else { return true };
        let key = (*digest, sharing.clone());
        if self.known.contains_key(&key) {
            return true;
        }
        let found = self.path(digest, circle).exists();
        if found {
            self.known.insert(key, ());
        }
        found
    }

    /// Remembers that an image of the circle holds the blob. Blocks.
    pub fn add(&self, digest: Digest, sharing: &Sharing) {
        let Sharing::Circle(circle) = sharing else { return };
        self.known.insert((digest, sharing.clone()), ());
        let path = self.path(&digest, circle);
        let made = make_parent(&path).and_then(|()| private().create(true).open(&path).at("create", &path));
        if let Err(error) = made {
            tracing::warn!("layer cache: {error}");
        }
    }

    fn path(&self, digest: &Digest, circle: &str) -> PathBuf {
        let circle = Digest::of(circle.as_bytes()).hex();
        self.directory.join(circle).join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }
}

fn tidy(directory: &Path, cache: &Cache) -> Result<(), FileError> {
    for circle in entries(directory)? {
        for proof in entries(&circle)? {
            let name = proof.file_name().and_then(|name| name.to_str());
            let digest = name.and_then(|name| name.replacen('-', ":", 1).parse::<Digest>().ok());
            if !digest.is_some_and(|digest| cache.has(&digest)) {
                files::remove(&proof)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
