//! Whether Docker has all of an image, and what it is given where it has not.
//!
//! Its containerd image store does not fetch a layer whose files it has already unpacked from another image where that one was
//! compressed otherwise, as what Docker commits is. Containers of the image run, but Docker saves neither it nor a snapshot of such
//! a container, 26.1 does not list it, and 28.5 tells nothing of its configuration. No pull brings the rest, but
//! Docker takes it from an archive.

use std::io;
use std::sync::{Arc, OnceLock};

use bollard::query_parameters::ImportImageOptionsBuilder;
use futures::TryStreamExt as _;
use serde::Deserialize;
use serde_json::json;
use tracing::Instrument as _;
use url::form_urlencoded;

use super::image::{UnusedImage, image_name, name_in_registry};
use super::snapshot::COMMIT;
use super::{Docker, Error, image_archive};
use crate::registry::PullReference;

/// Ends the repository of the name under which an image is loaded. It is one of our registry, so that it is known for ours if a crash
/// leaves it.
const LOADED: &str = "/loaded";
/// Finds such names among Docker's.
pub(super) const LOADED_PATTERN: &str = "*/glance/*/loaded";

impl Docker {
    /// Sees to it that Docker has every layer of an image that it has pulled. Where that fails, servers of the image still run, unless
    /// the lease of the image has failed, too.
    ///
    /// # Errors
    /// The disk is full, or Docker is down.
    pub(super) async fn complete(&self, reference: &PullReference) -> Result<(), Error> {
        if !self.inner.storage.image_store {
            return Ok(());
        }
        match self.give_rest(reference).await {
            Err(error @ (Error::NoSpace { .. } | Error::Unavailable { .. })) => Err(error),
            Err(error) => {
                let image = image_name(&reference.name);
                tracing::warn!(image, %error, "Docker lacks layers of an image: no snapshot of its servers can be taken");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn give_rest(&self, reference: &PullReference) -> Result<(), Error> {
        if self.is_whole(&reference.name).await? {
            return Ok(());
        }
        // Whoever gives it up leaves no name behind.
        let (docker, reference) = (self.clone(), reference.clone());
        let given = tokio::spawn(async move { docker.give_rest_once(&reference).await }.in_current_span());
        given.await.unwrap_or_else(|panic| {
            Err(Error::System { action: "load an image".to_owned(), source: io::Error::other(panic) })
        })
    }

    async fn give_rest_once(&self, reference: &PullReference) -> Result<(), Error> {
        let image = reference.name.as_str();
        // Docker makes one of several pulls, and not of loads.
        let id = UnusedImage::of(image.to_owned()).and_then(|image| image.id()).unwrap_or_default();
        let _turn = self.inner.giving.lock(id).await;
        if self.is_whole(image).await? {
            return Ok(());
        }
        tracing::info!(image, "Docker has left out layers that it has unpacked from another image; it is given them");
        let name = loaded_name(image);
        let loaded = self.load(reference, &name).await;
        if let Some(name) = UnusedImage::of(name) {
            self.remove_image(&name).await?;
        }
        loaded?;
        if self.is_whole(image).await? {
            return Ok(());
        }
        Err(Error::Lacking {
            reason: "Docker has loaded the whole image, and still lists layers as missing".to_owned(),
        })
    }

    /// Whether the image store has every layer of an image.
    async fn is_whole(&self, name: &str) -> Result<bool, Error> {
        let listed: Vec<Listed> = self.read_json(&list_of(name), "list", &format!("image {name}")).await?;
        Ok(listed.iter().any(|image| image.is_whole(name)))
    }

    /// Has Docker load what the registry has under the reference.
    async fn load(&self, reference: &PullReference, name: &str) -> Result<(), Error> {
        let what = format!("image {}", image_name(&reference.name));
        let unread = |source| Error::System { action: format!("read {what} from the registry"), source };
        let archive = image_archive::archive(reference, name).await.map_err(unread)?;
        // Docker's client tells no failure of what is sent from one of the connection.
        let broken = Arc::new(OnceLock::new());
        let breaks = broken.clone();
        let archive = archive.inspect_err(move |error| drop(breaks.set(error.to_string())));
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        // It answers when it has read all.
        let docker = self.engine().patient(COMMIT);
        let loaded = docker.import_image(options, bollard::body_try_stream(archive), None);
        let told = loaded.try_for_each(async |step| {
            tracing::debug!(image = name, "{}", step.stream.as_deref().unwrap_or_default().trim());
            Ok(())
        });
        told.await.map_err(|error| match broken.get() {
            Some(words) => unread(io::Error::other(words.clone())),
            None => self.engine().error("load", &what, error),
        })
    }
}

/// Whether it is the name under which an image of our registry was loaded.
pub(super) fn is_loaded(name: &str) -> bool {
    name_in_registry(name).and_then(|name| name.split_once('@')).is_some_and(|(name, _)| name.ends_with(LOADED))
}

/// `127.0.0.1:5000/glance/<image>/loaded@sha256:...` for an image of our registry.
fn loaded_name(name: &str) -> String {
    name.replacen('@', &format!("{LOADED}@"), 1)
}

/// Asks for one image alone.
fn list_of(name: &str) -> String {
    // It is a pattern.
    let filters = json!({"reference": [name.replace('[', "\\[")]}).to_string();
    let mut query = form_urlencoded::Serializer::new(String::new());
    // Docker knows it from 27 on.
    query.append_pair("manifests", "true").append_pair("filters", &filters);
    format!("/images/json?{}", query.finish())
}

/// An image of a list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    manifests: Option<Vec<Manifest>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    available: bool,
}

impl Listed {
    fn is_whole(&self, name: &str) -> bool {
        let mut names = [&self.repo_tags, &self.repo_digests].into_iter().flatten().flatten();
        // Docker 26 lists no others.
        let is_there = |manifests: &Vec<Manifest>| manifests.iter().any(|manifest| manifest.available);
        names.any(|other| other == name) && self.manifests.as_ref().is_none_or(is_there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str =
        "127.0.0.1:5999/glance/img@sha256:6fd93ef67d1941840e05b2c0cf146922b9d529fdd11800e20efa7627d9b959fb";

    /// What Docker 28.5.2 lists.
    fn listed(available: bool) -> String {
        let (id, size) = (&NAME[26..], json!({"Content": 1240, "Total": 1240}));
        let platform = json!({"Platform": {"architecture": "", "os": ""}, "Size": {"Unpacked": 0}, "Containers": null});
        let manifest = json!({"ID": id, "Available": available, "Size": size, "Kind": "image", "ImageData": platform});
        json!([{"Containers": -1, "Id": id, "Labels": null, "Manifests": [manifest], "RepoDigests": [id], "RepoTags": [NAME]}])
            .to_string()
    }

    fn is_whole(answer: &str) -> bool {
        let listed: Vec<Listed> = serde_json::from_str(answer).unwrap();
        listed.iter().any(|image| image.is_whole(NAME))
    }

    #[test]
    fn an_image_is_whole_where_docker_says_that_it_is_available_or_lists_it_at_all() {
        assert!(!is_whole(&listed(false)));
        assert!(is_whole(&listed(true)));
        // Docker 26.1.5, without the layers and with them.
        assert!(!is_whole("[]"));
        assert!(is_whole(&json!([{"RepoTags": [NAME], "RepoDigests": [NAME]}]).to_string()));
        assert!(!is_whole(&json!([{"RepoTags": null, "RepoDigests": ["other@sha256:00"]}]).to_string()));
    }

    #[test]
    fn the_name_under_which_an_image_is_loaded_is_one_of_our_registry_and_of_no_image() {
        assert!(is_loaded(&loaded_name(NAME)) && !is_loaded(NAME));
        assert!(!is_loaded(&loaded_name(NAME).replace("127.0.0.1", "192.0.2.1")));
        let unused = UnusedImage::of(loaded_name(NAME)).unwrap();
        assert!(unused.name().starts_with("img/loaded@sha256:6fd93") && unused.id().is_none());
    }
}
