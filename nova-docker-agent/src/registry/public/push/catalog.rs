//! What pushes need to know of the images that are in Glance already.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::error::ApiError;
use super::super::grant::Grant;
use super::super::images::{Content, Images, ReadableBlob};
use super::super::name::{Name, Reference, Tag};
use crate::cloud::glance::ImageMeta;
use crate::registry::Digest;

/// An answer to come.
pub type Coming<'a, T> = BoxFuture<'a, Result<T, ApiError>>;
/// The records of a repository's images, with the tags of each.
pub type Records = Vec<(ImageMeta, Vec<Tag>)>;

/// Finds images; the methods are those of [`Images`].
pub trait Catalog: Send + Sync {
    fn find<'a>(
        &'a self,
        grant: &'a Grant,
        name: &'a Name,
        reference: &'a Reference,
    ) -> Coming<'a, Option<Arc<Content>>>;

    fn of_repository<'a>(&'a self, grant: &'a Grant, name: &'a Name) -> Coming<'a, Records>;

    fn blob<'a>(
        &'a self,
        grant: &'a Grant,
        name: &'a Name,
        digest: &'a Digest,
    ) -> Coming<'a, Option<Arc<dyn ReadableBlob>>>;

    fn changed(&self, grant: &Grant, name: &Name);
}

impl Catalog for Images {
    fn find<'a>(
        &'a self,
        grant: &'a Grant,
        name: &'a Name,
        reference: &'a Reference,
    ) -> Coming<'a, Option<Arc<Content>>> {
        Self::find(self, grant, name, reference).boxed()
    }

    fn of_repository<'a>(&'a self, grant: &'a Grant, name: &'a Name) -> Coming<'a, Records> {
        Self::of_repository(self, grant, name).boxed()
    }

    fn blob<'a>(
        &'a self,
        grant: &'a Grant,
        name: &'a Name,
        digest: &'a Digest,
    ) -> Coming<'a, Option<Arc<dyn ReadableBlob>>> {
        Self::blob(self, grant, name, digest).boxed()
    }

    fn changed(&self, grant: &Grant, name: &Name) {
        Self::changed(self, grant, name);
    }
}
