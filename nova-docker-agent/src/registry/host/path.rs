//! The end-points of the distribution specification (1.1, "Endpoints") that are served.

use uuid::Uuid;

use crate::registry::digest::Digest;

/// Images are named `glance/IMAGE_ID`.
pub const NAMESPACE: &str = "glance";

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v2/`: is this a registry, and am I let in?
    Base,
    /// `/v2/NAME/manifests/REFERENCE`. Only digests refer to a manifest: an image in Glance has no tags.
    Manifest { image: Uuid, digest: Option<Digest> },
    /// `/v2/NAME/blobs/DIGEST`
    Blob { image: Uuid, digest: Digest },
    /// A digest that is none.
    InvalidDigest,
    /// A name under which there can be no image.
    UnknownName,
    /// No end-point at all.
    Other,
}

impl Endpoint {
    /// Reads the path of a request.
    pub fn of(path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/v2") else { return Self::Other };
        if rest.is_empty() || rest == "/" {
            return Self::Base;
        }
        // Names have slashes in them: the end-point is found from the end.
        let mut parts = rest.rsplitn(3, '/');
        let (Some(reference), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Self::Other;
        };
        let image = name.strip_prefix('/').and_then(image_of);
        match (kind, image) {
            ("manifests", Some(image)) if reference.contains(':') => match reference.parse() {
                Ok(digest) => Self::Manifest { image, digest: Some(digest) },
                Err(_) => Self::InvalidDigest,
            },
            ("manifests", Some(image)) => Self::Manifest { image, digest: None },
            ("blobs", Some(image)) => match reference.parse() {
                Ok(digest) => Self::Blob { image, digest },
                Err(_) => Self::InvalidDigest,
            },
            ("manifests" | "blobs", None) => Self::UnknownName,
            _ => Self::Other,
        }
    }
}

fn image_of(name: &str) -> Option<Uuid> {
    let id = name.strip_prefix(NAMESPACE)?.strip_prefix('/')?;
    // Only the one form that references are written in.
    id.parse().ok().filter(|parsed: &Uuid| parsed.to_string() == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6e0b6f8e-3b1f-4f0a-9d57-0c2a8a4f2f11";

    #[test]
    fn the_end_points_of_an_image_are_told_apart() {
        let digest = Digest::of(b"");
        let image: Uuid = ID.parse().unwrap();
        let manifests = format!("/v2/glance/{ID}/manifests");
        for (path, expected) in [
            ("/v2/".to_owned(), Endpoint::Base),
            ("/v2".to_owned(), Endpoint::Base),
            (format!("{manifests}/{digest}"), Endpoint::Manifest { image, digest: Some(digest) }),
            (format!("{manifests}/latest"), Endpoint::Manifest { image, digest: None }),
            (format!("{manifests}/sha256:0"), Endpoint::InvalidDigest),
            (format!("/v2/glance/{ID}/blobs/{digest}"), Endpoint::Blob { image, digest }),
            (format!("/v2/glance/{ID}/blobs/latest"), Endpoint::InvalidDigest),
            (format!("/v2/library/{ID}/blobs/{digest}"), Endpoint::UnknownName),
            (format!("/v2/glance/{}/blobs/{digest}", ID.to_uppercase()), Endpoint::UnknownName),
            (format!("/v2/glance/{ID}/blobs/uploads/"), Endpoint::Other),
            ("/v2/_catalog".to_owned(), Endpoint::Other),
            ("/v1/_ping".to_owned(), Endpoint::Other),
            ("/".to_owned(), Endpoint::Other),
        ] {
            assert_eq!(Endpoint::of(&path), expected, "{path}");
        }
    }
}
