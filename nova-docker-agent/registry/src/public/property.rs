//! What is written into the properties of a Glance image that was pushed, so that it need not be searched for, nor opened.
//!
//! Users can write properties too: what they say is only where to look. Content is served by its digest alone.

use nova_docker_cloud::glance::ImageMeta;

/// The repository, without its project. Its tags are the image's name and Glance tags of the form `REPOSITORY:TAG`.
pub const REPOSITORY: &str = "oci_repository";
/// Digest of the manifest, or index, that the image was pushed as.
pub const DIGEST: &str = "oci_digest";
/// Media type of that manifest.
pub const MEDIA_TYPE: &str = "oci_media_type";
/// Of a manifest that refers to another one (`subject`): that one's digest. Of an index, also those that its manifests refer to,
/// with spaces between.
pub const SUBJECT: &str = "oci_subject";
/// `artifactType`, or the configuration's media type, as the referrers API filters by it.
pub const ARTIFACT_TYPE: &str = "oci_artifact_type";
/// Where each blob is in the archive: JSON, `{"DIGEST": [OFFSET, SIZE], ...}`, manifests among them. Left out where it would not
/// fit into a property (65,535 bytes); the archive's own headers say the same.
pub const BLOBS: &str = "oci_blobs";
/// While an image is being filled: the push that does it, so that one that was cut off is recognised.
pub const PUSH: &str = "oci_push";
/// Of an image without a tag: when it was last pushed by its digest, or somebody who may push was last told of a blob of it.
pub const RENEWED: &str = "oci_renewed";
/// How the properties begin by which a registry says that it is about to delete an image without a tag, and since when.
pub const RETIRING: &str = "oci_retiring_";

/// Glance's: the image cannot be deleted.
pub const PROTECTED: &str = "protected";
/// Nova's, of an image that it made of a server.
pub const IMAGE_TYPE: &str = "image_type";

/// Those that say where to look; listings have no others.
pub const TOLD: [&str; 8] = [REPOSITORY, DIGEST, MEDIA_TYPE, SUBJECT, ARTIFACT_TYPE, BLOBS, RENEWED, IMAGE_TYPE];

/// Whether the registry has made the image, or its user has marked it so: by [`REPOSITORY`]. Then its name and whether it is
/// hidden are the registry's to change. A snapshot or backup has the mark of the image that its server was made of.
pub fn is_own(record: &ImageMeta) -> bool {
    text(record, REPOSITORY).is_some() && !is_of_a_server(record)
}

/// What an image says of its content. What Nova has copied from the image of a server, and cut, says nothing of a snapshot.
pub fn told<'a>(record: &'a ImageMeta, key: &str) -> Option<&'a str> {
    if is_of_a_server(record) { None } else { text(record, key) }
}

fn is_of_a_server(record: &ImageMeta) -> bool {
    text(record, IMAGE_TYPE).is_some()
}

/// Whether Glance lets nobody delete it.
pub fn is_protected(record: &ImageMeta) -> bool {
    record.properties.get(PROTECTED).is_some_and(|value| *value == true)
}

/// What an image's property says.
pub fn text<'a>(record: &'a ImageMeta, key: &str) -> Option<&'a str> {
    record.properties.get(key).and_then(|value| value.as_str())
}

/// What the manifests of an image refer to, as it says.
pub fn subjects(record: &ImageMeta) -> impl Iterator<Item = &str> {
    text(record, SUBJECT).into_iter().flat_map(str::split_whitespace)
}
