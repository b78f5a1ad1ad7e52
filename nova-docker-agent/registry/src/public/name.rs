//! What the path of a request names: a project, a repository in it, a tag or a digest.
//!
//! Source: OCI distribution specification 1.1, "Pulling manifests" (the grammar of names and tags).

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::Digest;
use nova_docker_cloud::glance::ImageMeta;

/// The longest `PROJECT/REPOSITORY`, as clients count it.
const MAX_NAME: usize = 255;
/// A Glance image's name and its tags have at most 255 characters: `REPOSITORY:TAG`.
const MAX_GLANCE_NAME: usize = 255;
const MAX_TAG: usize = 128;
const DEFAULT_TAG: &str = "latest";

/// `PROJECT/REPOSITORY`: the first component is a project of Keystone, by name or by id; what follows may have slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    project: String,
    repository: String,
}

impl Name {
    /// A project's name, or its id, as it was written.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The repository within the project.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The image that the repository is named after, if it has the form of an id.
    pub fn image_id(&self) -> Option<Uuid> {
        self.repository.parse::<Uuid>().ok().filter(|id| id.to_string() == self.repository)
    }

    /// What Glance calls an image of this repository with this tag.
    pub fn glance_name(&self, tag: &Tag) -> String {
        format!("{}:{tag}", self.repository)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.repository)
    }
}

/// Not a name of this registry; the text continues "NAME: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("names have lower-case letters, digits and single separators (. _ - /)")]
    Grammar,
    #[error("a name is PROJECT/REPOSITORY, with the project's name or id")]
    NoProject,
    #[error("a name has at most {MAX_NAME} characters")]
    TooLong,
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() > MAX_NAME {
            return Err(InvalidName::TooLong);
        }
        if !text.split('/').all(is_component) {
            return Err(InvalidName::Grammar);
        }
        let (project, repository) = text.split_once('/').ok_or(InvalidName::NoProject)?;
        Ok(Self { project: project.to_owned(), repository: repository.to_owned() })
    }
}

/// Whether an image of this name in Glance can be addressed as a repository.
pub fn is_repository(text: &str) -> bool {
    text.len() < MAX_GLANCE_NAME && text.split('/').all(is_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_well =
        bytes.first().is_some_and(|&byte| alphanumeric(byte)) && bytes.last().is_some_and(|&byte| alphanumeric(byte));
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends_well
        && separators
            .into_iter()
            .all(|run| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag of an image whose name has none.
    pub fn latest() -> Self {
        Self(DEFAULT_TAG.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tag has at most 128 letters, digits, dots, dashes and underscores, and begins with none of . and -")]
pub struct InvalidTag;

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let first = text.bytes().next().is_some_and(word);
        let all = text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if first && all && text.len() <= MAX_TAG { Ok(Self(text.to_owned())) } else { Err(InvalidTag) }
    }
}

/// What follows `/manifests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Of a Glance image, the repositories and tags that its name, and then its Glance tags, stand for.
pub fn all_of_glance(image: &ImageMeta) -> impl Iterator<Item = (String, Tag)> + '_ {
    let tags = image.tags.iter().filter(|tag| tag.contains(':'));
    image.name.iter().chain(tags).filter_map(|name| of_glance(name))
}

/// The tags that an image has in a repository; its name's first.
pub fn tags_of(image: &ImageMeta, repository: &str) -> Vec<Tag> {
    let mut tags: Vec<Tag> = vec![];
    for (of, tag) in all_of_glance(image) {
        if of == repository && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags
}

/// The repository and tag that a name, or a tag, of a Glance image stands for: `REPOSITORY:TAG`, or `REPOSITORY` for its
/// tag `latest`. None for names that no client could send.
pub fn of_glance(name: &str) -> Option<(String, Tag)> {
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) => (repository, tag),
        None => (name, DEFAULT_TAG),
    };
    let tag = tag.parse().ok()?;
    is_repository(repository).then(|| (repository.to_owned(), tag))
}

#[cfg(test)]
mod tests;
