//! A manifest that has a name makes an image of what was uploaded: one Glance image, which is complete or not there.
//!
//! While Glance is being filled, its image is `queued` or `saving`, has the property [`property::PUSH`] and an entry in
//! the journal. When that fails, when the client goes away, and when the registry shuts down, it is deleted; once
//! Glance says that it is `active`, it stays. The entry stays until it has its tags, and no other image has them. Proxies in
//! front of the registry must wait for as long as Glance takes to store an image.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{AppendHeaders, IntoResponse, Response};
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::TryStreamExt;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::archive::Archive;
use super::gather::Parts;
use super::journal::{Entry, Open};
use super::manifest::{self, Document, invalid};
use super::recover::close;
use super::request::created;
use super::staging::{Mount, StagingError, blocking};
use super::tags::untagged_name;
use super::{Push, TAGS, refused};
use crate::http::parameters;
use crate::public::images::{Age, Content};
use crate::public::{Name, Reference, Repository, Tag, property};
use crate::{Algorithm, ApiError, Code, Digest};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Registries of different hosts have no lock in common: one that gave a tag to its image may have lost it to another one,
/// and that one to the first. Then whoever is first tries again.
pub(super) const TAG_PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_secs(2))
    .with_max_times(6)
    .with_jitter();
/// What Glance's database takes for a name, and for a property, in bytes.
const MAX_NAME: usize = 255;
const MAX_PROPERTY: usize = 65_535;

/// A manifest that is to become an image.
struct Publication {
    at: Repository,
    document: Document,
    /// None of what was pushed by its digest only.
    tags: Vec<Tag>,
    /// The client has gone, or the registry shuts down.
    stop: CancellationToken,
}

impl Push {
    /// `PUT /v2/NAME/manifests/REFERENCE`: answers when the image is in Glance, or the manifest, without a name, on the disk.
    ///
    /// # Errors
    /// [`ApiError`] for the client; nothing is left in Glance then.
    pub async fn put_manifest(
        self: &Arc<Self>,
        at: &Repository,
        reference: &Reference,
        query: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, ApiError> {
        let name = &at.name;
        if name.repository().parse::<Uuid>().is_ok() {
            let message = "a repository that is named by an id is one image, and cannot be pushed to";
            return Err(ApiError::new(Code::Denied, message));
        }
        let bytes = manifest::read(headers, body, self.config.max_manifest, self.config.manifest_patience).await?;
        let algorithm = match reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let document = Document::parse(bytes, manifest::content_type(headers), algorithm)?;
        if let Reference::Digest(digest) = reference
            && *digest != document.digest
        {
            let message = format!("the manifest has the digest {}, not {digest}", document.digest);
            return Err(ApiError::new(Code::DigestInvalid, message));
        }
        let more = parameters(query, "tag")
            .map(|tag| tag.parse().map_err(|error: crate::public::name::InvalidTag| invalid(error.to_string())));
        let more = more.collect::<Result<Vec<Tag>, ApiError>>()?;
        let tags = all_tags(reference, &more);
        check_lengths(name, &tags, &document.digest)?;
        let created = created(name, "manifests", &document.digest);
        let subject = document.subject.map(|subject| [(OCI_SUBJECT, subject.to_string())]);
        let tagged = AppendHeaders(more.into_iter().map(|tag| (OCI_TAG, tag.to_string())));
        let response = (subject, tagged, created).into_response();

        let stop = self.stop.child_token();
        let client = stop.clone().drop_guard();
        let publication = Publication { at: at.clone(), document, tags, stop };
        let push = self.clone();
        self.run(async move { push.publish_all(publication).await }).await?;
        client.disarm();
        Ok(response)
    }

    /// Publishes a manifest, and then what waits for its image because it says something of it.
    async fn publish_all(self: &Arc<Self>, first: Publication) -> Result<(), ApiError> {
        let Publication { at, document, tags, stop } = &first;
        let name = &at.name;
        let waited = tags.is_empty() && self.staged_manifest(at, &document.digest).await?.is_some();
        let published = Box::pin(self.publish(&first)).await;
        // What an earlier request was told of stays.
        if published.is_err()
            && tags.is_empty()
            && !waited
            && let Err(error) = self.drop_staged(at, &document.digest).await
        {
            tracing::warn!(%name, %error, "a manifest that was not accepted waits until it is too old");
        }
        let mut named = published?;
        while !named.is_empty() {
            let waiting = self.staged_referrers(at, &named).await.unwrap_or_else(|error| {
                tracing::warn!(%name, "what waits for an image cannot be looked for: {}", error.message);
                vec![]
            });
            named.clear();
            for digest in waiting {
                match self.publish_staged(at, &digest, stop).await {
                    Ok(published) => named.extend(published),
                    // It waits on; the image that it says something of is there.
                    Err(error) => tracing::warn!(%name, %digest, "it cannot be published: {}", error.message),
                }
            }
        }
        Ok(())
    }

    /// Publishes a manifest that waits.
    async fn publish_staged(
        self: &Arc<Self>,
        at: &Repository,
        digest: &Digest,
        stop: &CancellationToken,
    ) -> Result<Vec<Digest>, ApiError> {
        let Some(document) = self.staged_manifest(at, digest).await? else { return Ok(vec![]) };
        Box::pin(self.publish(&Publication { at: at.clone(), document, tags: vec![], stop: stop.clone() })).await
    }

    /// Returns what is in an image now; nothing where the manifest waits for a name.
    async fn publish(self: &Arc<Self>, publication: &Publication) -> Result<Vec<Digest>, ApiError> {
        let Publication { at, document, tags, .. } = publication;
        let grant = &at.grant;
        // The same manifest twice at one time: the second request finds what the first one has made.
        let _alone = self.lock(at, document.digest).await?;
        if let Err(error) = self.recover(Some(grant)).await {
            tracing::warn!("unfinished pushes: {error}");
        }
        self.images.changed(grant);
        let known = self.images.holder(at, &document.digest, Age::Seconds).await?;
        let parts = match known {
            // It can be pulled by its digest, also within an index's image.
            Some(content) if tags.is_empty() => {
                self.renew_image(grant, &content.record).await?;
                return Ok(vec![]);
            }
            Some(content) if content.root == document.digest => {
                self.tag_known(publication, &content).await?;
                content.manifests.keys().chain(content.blobs.keys()).copied().collect()
            }
            _ if tags.is_empty() && !self.keep(publication).await? => return Ok(vec![]),
            _ => self.publish_new(publication).await?,
        };
        self.images.changed(grant);
        self.release(at, parts.clone()).await;
        let (push, retiring) = (self.clone(), grant.clone());
        self.tasks.spawn(async move { push.retire(&retiring).await });
        Ok(parts)
    }

    /// Keeps a manifest that has no name, with all that it refers to. Whether it is to have an image nevertheless: it says
    /// something of an image. The subject is looked for afterwards; so either this finds its image, or who makes that finds this.
    async fn keep(&self, publication: &Publication) -> Result<bool, ApiError> {
        let Publication { at, document, .. } = publication;
        let parts = self.gather(at, document).await?.all.iter().map(|part| part.digest).collect();
        let kept = document.clone();
        self.on_disk(at, move |area| area.keep_manifest(&kept)).await?;
        self.renew(at, parts).await?;
        let Some(subject) = document.subject else { return Ok(false) };
        Ok(self.images.holder(at, &subject, Age::now()).await?.is_some())
    }

    /// Lets what was uploaded wait for a manifest for as long again.
    pub(super) async fn renew(&self, at: &Repository, digests: Vec<Digest>) -> Result<(), StagingError> {
        self.on_disk(at, move |area| area.renew(&digests)).await
    }

    /// The image is there already: only its tags change.
    async fn tag_known(self: &Arc<Self>, publication: &Publication, content: &Content) -> Result<(), ApiError> {
        let Publication { document, tags, .. } = publication;
        let runnable = document.is_runnable()
            || content.manifests.iter().any(|(digest, (media_type, bytes))| {
                Document::parse(bytes.clone(), Some(media_type), digest.algorithm())
                    .is_ok_and(|document| document.is_runnable())
            });
        let open = self.begin_entry(publication, content.record.id, tags[0].to_string()).await?;
        self.end(publication, open, Ok(()), runnable).await
    }

    /// Gives tags to an image, and takes them from all others. Of several pushes of the same tag, the last one has it.
    async fn move_tags(&self, at: &Repository, id: Uuid, tags: &[Tag], runnable: bool) -> Result<(), ApiError> {
        let grant = &at.grant;
        let _alone = self.lock(at, TAGS).await?;
        for pause in TAG_PAUSES.build() {
            // As it is now: another push may have taken its tags, or given it more, since it was made or found.
            let record = self.glance.image(&grant.caller(), id).await.map_err(|error| refused(&error))?;
            self.add_tags(at, &record, tags, runnable).await?;
            // No other image loses the tags to one that goes.
            if self.is_retiring(grant, &record).await? {
                tokio::time::sleep(pause).await;
                continue;
            }
            self.take_tags(at, tags, id).await?;
            if self.are_given(at, tags, id).await? {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
        Err(ApiError::new(Code::Unavailable, "another registry moves the same tags, or deletes the image; try again"))
    }

    /// Makes an image in Glance that has its tags, or leaves nothing there. Returns the digests of everything that is in it.
    async fn publish_new(self: &Arc<Self>, publication: &Publication) -> Result<Vec<Digest>, ApiError> {
        let Publication { at, document, tags, .. } = publication;
        let Parts { all, runnable, subjects } = self.gather(at, document).await?;
        let digests = all.iter().map(|part| part.digest).collect();
        let archive = Archive::new(document, &at.name, tags, all).map_err(|error| invalid(error.to_string()))?;
        let (caller, id) = (at.grant.caller(), Uuid::new_v4());
        let record = record(publication, id, &archive, tags.is_empty() || !runnable, &subjects);
        let name = record["name"].as_str().unwrap_or_default().to_owned();
        let open = self.begin_entry(publication, id, name.clone()).await?;
        if let Err(refused) = self.fill(publication, id, &record, archive).await {
            match self.glance.delete(&caller, id).await {
                Ok(_) => close(open).await,
                Err(error) => self.end_later(publication, open, &error.to_string()),
            }
            return Err(refused);
        }
        tracing::info!(image = %id, name, project = at.grant.owner, "an image was pushed");
        let finished = self.glance_finish(&caller, id).await.map_err(|error| error.to_string());
        self.end(publication, open, finished, runnable).await?;
        Ok(digests)
    }

    /// The uploaded blobs are in an image now. Whoever pulls it should not wait for Glance.
    async fn release(&self, at: &Repository, digests: Vec<Digest>) {
        let (name, images) = (&at.name, self.images.clone());
        let image = Mount { from: name.to_string(), owner: at.grant.owner.clone() };
        let released = self.on_disk(at, move |area| {
            area.release(&digests, &image, |digest, file| {
                if let Err(error) = images.adopt(&image.owner, digest, file) {
                    tracing::warn!(%digest, "what was uploaded was not kept for pulls: {error}");
                }
            })
        });
        if let Err(error) = released.await {
            tracing::warn!(%name, "what was uploaded is left until it expires: {error}");
        }
    }

    async fn begin_entry(&self, publication: &Publication, id: Uuid, label: String) -> Result<Open, ApiError> {
        let Publication { at: Repository { grant, name }, tags, .. } = publication;
        let entry = Entry::new(id, &grant.owner, label, &grant.token, &self.key).with_tags(name, tags);
        let journal = self.journal.clone();
        Ok(blocking(move || journal.begin(entry)).await?)
    }

    /// Gives an image that is there its tags, and ends its entry when there is nothing left to do.
    async fn end(
        self: &Arc<Self>,
        publication: &Publication,
        open: Open,
        finished: Result<(), String>,
        runnable: bool,
    ) -> Result<(), ApiError> {
        let Publication { at, tags, .. } = publication;
        let moved = match tags.is_empty() {
            true => Ok(()),
            false => self.move_tags(at, open.entry.image, tags, runnable).await,
        };
        match (&finished, &moved) {
            (Ok(()), Ok(())) => close(open).await,
            (Err(reason), _) => self.end_later(publication, open, reason),
            (_, Err(error)) => self.end_later(publication, open, &error.message),
        }
        moved
    }

    fn end_later(self: &Arc<Self>, publication: &Publication, open: Open, reason: &str) {
        tracing::warn!(image = %open.entry.image, name = open.entry.name, "a push is to be ended later: {reason}");
        let (push, grant) = (self.clone(), publication.at.grant.clone());
        self.tasks.spawn(async move { push.clean_up_soon(&grant, open).await });
    }

    /// Returns when the image is complete.
    async fn fill(
        &self,
        publication: &Publication,
        id: Uuid,
        record: &Map<String, Value>,
        archive: Archive,
    ) -> Result<(), ApiError> {
        let (caller, stop) = (&publication.at.grant.caller(), &publication.stop);
        let gone = || ApiError::new(Code::Unavailable, "the push was given up");
        if stop.is_cancelled() {
            return Err(gone());
        }
        self.glance.create(caller, record).await.map_err(|error| refused(&error))?;
        let length = archive.length;
        let sent = Arc::new(Mutex::new(Algorithm::Sha512.hasher()));
        let hasher = sent.clone();
        let stream = archive.stream().inspect_ok(move |piece| {
            hasher.lock().unwrap_or_else(PoisonError::into_inner).update(piece);
        });
        let upload = self.glance.upload_sized(caller, id, length, stream);
        tokio::select! {
            biased;
            () = stop.cancelled() => return Err(gone()),
            uploaded = upload => uploaded.map_err(|error| refused(&error))?,
        }
        let stored = self.glance.image(caller, id).await.map_err(|error| refused(&error))?;
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone().finish().hex();
        // Glance hashes by what it is told to; hardly anybody tells it anything.
        let is_same = stored.os_hash_algo.as_deref() != Some("sha512") || stored.os_hash_value.as_ref() == Some(&sent);
        if stored.status != "active" || stored.size != Some(length) || !is_same {
            tracing::warn!(image = %id, status = stored.status, size = stored.size, length, is_same, "an image was not stored as it was sent");
            return Err(ApiError::new(Code::Unavailable, "the image service did not store the image; try again"));
        }
        Ok(())
    }
}

/// The tag of the path, and those of the query.
fn all_tags(reference: &Reference, more: &[Tag]) -> Vec<Tag> {
    let mut tags: Vec<Tag> = vec![];
    let first = match reference {
        Reference::Tag(tag) => Some(tag),
        Reference::Digest(_) => None,
    };
    for tag in first.into_iter().chain(more) {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags
}

fn check_lengths(name: &Name, tags: &[Tag], digest: &Digest) -> Result<(), ApiError> {
    let names = tags.iter().map(|tag| name.glance_name(tag));
    // An image that loses its tags gets that name.
    let too_long = names.chain([untagged_name(name, digest)]).any(|name| name.len() > MAX_NAME);
    if too_long {
        let message =
            format!("the repository's name is too long: with tag, or digest, it has more than {MAX_NAME} characters");
        return Err(ApiError::new(Code::NameInvalid, message));
    }
    Ok(())
}

/// What Glance is told of the image.
fn record(
    publication: &Publication,
    id: Uuid,
    archive: &Archive,
    hidden: bool,
    subjects: &[Digest],
) -> Map<String, Value> {
    let Publication { at: Repository { name, .. }, document, tags, .. } = publication;
    let glance_name = tags.first().map_or_else(|| untagged_name(name, &document.digest), |tag| name.glance_name(tag));
    let more: Vec<String> = tags.iter().skip(1).map(|tag| name.glance_name(tag)).collect();
    let mut record = Map::new();
    let mut set = |key: &str, value: Value| record.insert(key.to_owned(), value);
    set("id", id.to_string().into());
    set("name", glance_name.into());
    set("tags", more.into());
    set("container_format", "docker".into());
    set("disk_format", "raw".into());
    set("os_hidden", hidden.into());
    set(property::REPOSITORY, name.repository().into());
    set(property::DIGEST, document.digest.to_string().into());
    set(property::MEDIA_TYPE, document.media_type.as_str().into());
    set(property::PUSH, Uuid::new_v4().to_string().into());
    let subjects: Vec<String> = subjects.iter().map(Digest::to_string).collect();
    let blobs: Map<String, Value> =
        archive.places.iter().map(|(digest, offset, size)| (digest.to_string(), json!([offset, size]))).collect();
    let blobs = Value::from(blobs).to_string();
    let optional = [
        (property::ARTIFACT_TYPE, document.artifact_type.clone()),
        (property::BLOBS, Some(blobs)),
        (property::SUBJECT, Some(subjects.join(" ")).filter(|subjects| !subjects.is_empty())),
    ];
    for (key, value) in optional {
        if let Some(value) = value.filter(|value| value.len() <= MAX_PROPERTY) {
            set(key, value.into());
        }
    }
    record
}
