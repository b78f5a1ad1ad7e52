//! Images in Docker's store. They are only ever asked for by digest, from our own registry; they carry no tag.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{ContainerSummary, CreateImageInfo};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use futures::TryStreamExt;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::engine::Engine;
use super::{Docker, Error, image_whole, labels, snapshot};
use crate::registry::PullReference;

/// Docker answers a pull at once and then reports; this bounds the answer only.
const ANSWER: Duration = Duration::from_secs(300);
/// What the references of our registry have in common, after the host and the port: those may change with a restart.
const NAMESPACE: &str = "/glance/";

impl Docker {
    /// Has Docker pull an image by `name@digest`, with the lease's credentials. Docker removes the layers of a pull that
    /// failed, or that was dropped, by itself. A registry on loopback answers in time unless the whole host stood still, so a
    /// pull that ran into a time limit is tried once more.
    pub async fn pull(&self, reference: &PullReference) -> Result<(), Error> {
        match self.pull_once(reference).await {
            Err(Error::ImageUnavailable { image, reason }) if is_timeout(&reason) => {
                tracing::warn!(image, reason, "the pull took too long to begin; trying once more");
                self.pull_once(reference).await?;
            }
            result => result?,
        }
        self.complete(reference).await
    }

    async fn pull_once(&self, reference: &PullReference) -> Result<(), Error> {
        let name = reference.name.as_str();
        let credentials = DockerCredentials {
            username: Some(reference.username.clone()),
            password: Some(reference.secret.expose_secret().to_owned()),
            serveraddress: name.split('/').next().map(str::to_owned),
            ..Default::default()
        };
        let options = CreateImageOptionsBuilder::default().from_image(name).build();
        let docker = self.engine().patient(ANSWER);
        let mut progress = docker.create_image(Some(options), None, Some(credentials));
        loop {
            match progress.try_next().await {
                Ok(Some(step)) => report(name, &step),
                Ok(None) => return Ok(()),
                Err(error) => {
                    return Err(pull_error(name, self.engine().error("pull", &format!("image {name}"), error)));
                }
            }
        }
    }

    /// The references to images that came from our registry and that no container uses.
    pub async fn unused_images(&self) -> Result<Vec<UnusedImage>, Error> {
        let options = ListImagesOptionsBuilder::default().digests(true).build();
        let images = self.engine().docker.list_images(Some(options)).await;
        let images = images.map_err(|error| self.engine().error("list", "images", error))?;
        // Docker itself lets go of a reference as long as a used image has another one.
        let used = self.used_images().await?;
        let unused = images.into_iter().filter(|image| !used.contains(&image.id));
        // The containerd image store tells one name of several as a digest, and all of them as tags.
        let names: BTreeSet<String> =
            unused.flat_map(|image| image.repo_digests.into_iter().chain(image.repo_tags)).collect();
        Ok(names.into_iter().filter_map(UnusedImage::of).collect())
    }

    /// Removes a reference to an image, and the image with the last one; its layers stay in the registry's cache. False when a
    /// container uses it by now, or when it has gone.
    pub async fn remove_image(&self, image: &UnusedImage) -> Result<bool, Error> {
        remove(self.engine(), &image.reference).await
    }

    /// Removes what a crash has left: the temporary images of snapshots, and the names under which images were loaded.
    pub(super) async fn remove_stale_images(&self) -> Result<(), Error> {
        // Docker fails to list all images where it cannot read one of them.
        let filters = HashMap::from([("reference", vec![snapshot::REPOSITORY, image_whole::LOADED_PATTERN])]);
        let options = ListImagesOptionsBuilder::default().digests(true).filters(&filters).build();
        let images = self.engine().docker.list_images(Some(options)).await;
        let images = images.map_err(|error| self.engine().error("list", "images", error))?;
        let names = images.into_iter().flat_map(|image| image.repo_digests.into_iter().chain(image.repo_tags));
        let stale = |name: &String| snapshot::is_temporary(name) || image_whole::is_loaded(name);
        for name in names.filter(stale).collect::<BTreeSet<_>>() {
            tracing::info!(image = name, "removing an image that an interrupted snapshot or launch has left");
            remove(self.engine(), &name).await?;
        }
        Ok(())
    }

    /// IDs of the images of all containers, ours and others, and of those that resized ones were made from at first.
    async fn used_images(&self) -> Result<HashSet<String>, Error> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let listed = self.engine().docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| self.engine().error("list", "containers", error))?;
        let base = |labels: &HashMap<String, String>| labels.get(labels::BASE).cloned();
        let images = |container: ContainerSummary| [container.image_id, container.labels.as_ref().and_then(base)];
        Ok(listed.into_iter().flat_map(images).flatten().collect())
    }
}

/// Removes a name of an image, and the image with its last one. False when a container uses it, or when it has gone.
pub(super) async fn remove(engine: &Engine, name: &str) -> Result<bool, Error> {
    let options = RemoveImageOptionsBuilder::default().build();
    match engine.docker.remove_image(name, Some(options), None).await {
        Ok(_) => Ok(true),
        Err(error) => match engine.error("remove", &format!("image {name}"), error) {
            Error::Docker { status: 409, .. } | Error::NotFound { .. } => Ok(false),
            other => Err(other),
        },
    }
}

/// A reference to an image of our registry that no container uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedImage {
    /// As Docker has it, with the address that the registry had.
    reference: String,
}

impl UnusedImage {
    /// None for any other reference.
    pub(crate) fn of(reference: String) -> Option<Self> {
        name_in_registry(&reference)?.split_once('@')?;
        Some(Self { reference })
    }

    /// Glance's id and the digest, whatever address the registry had.
    pub fn name(&self) -> &str {
        name_in_registry(&self.reference).unwrap_or(&self.reference)
    }

    /// The image in Glance.
    pub fn id(&self) -> Option<Uuid> {
        Uuid::parse_str(self.name().split_once('@')?.0).ok()
    }
}

/// Glance's id and the digest in a reference to our registry; none for any other reference.
pub fn name_in_registry(reference: &str) -> Option<&str> {
    path_in_registry(reference)?.strip_prefix(NAMESPACE)
}

/// `/glance/<image>@sha256:...` of a reference to our registry, which listens on loopback only.
fn path_in_registry(name: &str) -> Option<&str> {
    let (host, _) = name.split_once('/')?;
    let path = &name[host.len()..];
    let address = host.rsplit_once(':').map_or(host, |(address, _)| address);
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = address == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    (is_loopback && path.starts_with(NAMESPACE)).then_some(path)
}

/// The name of an image for users: its Glance id if it came from our registry, else the reference. A fault has no room
/// for a digest and a reason.
pub(super) fn image_name(reference: &str) -> &str {
    let id = name_in_registry(reference);
    id.map_or(reference, |id| id.split_once('@').map_or(id, |(id, _)| id))
}

fn report(image: &str, step: &CreateImageInfo) {
    let status = step.status.as_deref().unwrap_or_default();
    let layer = step.id.as_deref().unwrap_or_default();
    match step.progress_detail.as_ref().and_then(|detail| Some((detail.current?, detail.total?))) {
        Some((current, total)) => tracing::trace!(image, layer, current, total, "{status}"),
        None => tracing::debug!(image, layer, "{status}"),
    }
}

/// Whether Docker's text is of a time limit in Go's HTTP client.
fn is_timeout(reason: &str) -> bool {
    let text = reason.to_lowercase();
    ["i/o timeout", "client.timeout", "handshake timeout", "deadline exceeded"].iter().any(|words| text.contains(words))
}

/// What a failed pull was about, from Docker's text. Of the text itself more is known to the registry: see
/// [`Lease::failure`](crate::registry::Lease::failure).
fn pull_error(image: &str, error: Error) -> Error {
    let reason = match error {
        Error::Docker { message, .. } => message,
        Error::NotFound { .. } => return Error::NotFound { what: format!("image {}", image_name(image)) },
        other => return other,
    };
    let text = reason.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let image = image_name(image).to_owned();
    // In this order: "unexpected EOF" may end a message that began with the real reason.
    if has(&["unauthorized", "authentication required", "access denied", "denied:", "no basic auth", "forbidden"]) {
        Error::ImageUnauthorised { image, reason }
    } else if has(&["manifest unknown", "name unknown", "blob unknown", "not found"]) {
        Error::NotFound { what: format!("image {image}") }
    } else if has(&[
        "verification failed",
        "unexpected commit digest",
        "wrong diff id",
        "does not match",
        "digest mismatch",
        "failed to register layer",
        "tar header",
        "tar file",
        "unsupported",
        "no matching manifest",
        "invalid",
        // Docker's reader of configurations: `json: cannot unmarshal ...`, `parsing time ...`.
        "cannot unmarshal",
        "parsing time",
        "too many non-empty layers",
        "operating system",
    ]) {
        Error::ImageUnacceptable { image, reason }
    } else {
        Error::ImageUnavailable { image, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulled(message: &str) -> Error {
        let error = Error::Docker { action: String::new(), status: 0, message: message.to_owned() };
        pull_error("127.0.0.1:5000/glance/x@sha256:0", error)
    }

    #[test]
    fn failed_pulls_are_told_apart_by_dockers_words() {
        let unauthorised = pulled("Get \"http://127.0.0.1:5000/v2/\": unauthorized: authentication required");
        assert!(matches!(unauthorised, Error::ImageUnauthorised { .. }));
        assert!(matches!(pulled("manifest for x not found: manifest unknown"), Error::NotFound { .. }));
        let digest = pulled("filesystem layer verification failed for digest sha256:00");
        assert!(matches!(digest, Error::ImageUnacceptable { .. }));
        let config = pulled("json: cannot unmarshal number into Go struct field Config.config.Env of type []string");
        assert!(matches!(config, Error::ImageUnacceptable { .. }));
        let refused = pulled("Get \"http://127.0.0.1:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused");
        assert!(matches!(refused, Error::ImageUnavailable { .. }));
    }

    #[test]
    fn a_time_limit_is_told_from_a_refusal() {
        assert!(is_timeout("Get \"http://127.0.0.1:5000/v2/\": dial tcp 127.0.0.1:5000: i/o timeout"));
        assert!(is_timeout("Get \"http://127.0.0.1:5000/v2/\": net/http: request canceled (Client.Timeout exceeded)"));
        assert!(!is_timeout("Get \"http://127.0.0.1:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused"));
    }

    #[test]
    fn an_image_of_our_registry_is_called_by_its_id() {
        assert_eq!(image_name("127.0.0.1:5000/glance/a-b@sha256:0"), "a-b");
        assert_eq!(image_name("sha256:0123"), "sha256:0123");
    }

    #[test]
    fn an_image_keeps_its_name_when_the_registry_has_another_address() {
        let id = Uuid::from_u128(7);
        let at = |port: u16| UnusedImage::of(format!("127.0.0.1:{port}/glance/{id}@sha256:0")).unwrap();
        assert_eq!((at(5000).name(), at(5000).id()), (at(5001).name(), Some(id)));
        for foreign in ["docker.io/library/busybox@sha256:0", "127.0.0.1:5000/glance/a:tagged"] {
            assert_eq!(UnusedImage::of(foreign.to_owned()), None, "{foreign}");
        }
    }

    #[test]
    fn only_references_to_our_own_registry_are_ours() {
        for host in ["127.0.0.1:5000", "127.0.0.2:5000", "[::1]:5000", "localhost"] {
            assert_eq!(path_in_registry(&format!("{host}/glance/a@sha256:0")), Some("/glance/a@sha256:0"), "{host}");
        }
        for foreign in
            ["glance/a@sha256:0", "example.org/glance/a", "127.0.0.1:5000/other/a", "127.0.0.1.nip.io/glance/a"]
        {
            assert_eq!(path_in_registry(foreign), None, "{foreign}");
        }
    }
}
