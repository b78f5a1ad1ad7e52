//! The end-points of the distribution specification (1.1, "Endpoints"), and those for tokens and for load balancers.

use percent_encoding::percent_decode_str;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// `/v2/`: is this a registry, and am I let in?
    Base,
    /// `/token`
    Token,
    /// `/healthcheck`
    Health,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/...`; the name is as it was written.
    Repository(&'a str, Part),
    Other,
}

/// What of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `/manifests/REFERENCE`
    Manifest(String),
    /// `/blobs/DIGEST`
    Blob(String),
    /// `/blobs/uploads/`
    Uploads,
    /// `/blobs/uploads/ID`
    Upload(String),
    /// `/tags/list`
    Tags,
    /// `/referrers/DIGEST`
    Referrers(String),
}

impl<'a> Endpoint<'a> {
    /// Reads the path of a request. Names have slashes in them: the end-point is found from the end.
    pub fn of(path: &'a str) -> Self {
        match path {
            "/token" => return Self::Token,
            "/healthcheck" => return Self::Health,
            "/v2" | "/v2/" => return Self::Base,
            "/v2/_catalog" => return Self::Catalog,
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Self::Other };
        if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
            return Self::Repository(name, Part::Uploads);
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Self::Repository(name, Part::Tags);
        }
        let Some((before, last)) = rest.rsplit_once('/') else { return Self::Other };
        let last = percent_decode_str(last).decode_utf8_lossy().into_owned();
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            return Self::Repository(name, Part::Upload(last));
        }
        match before.rsplit_once('/') {
            Some((name, "manifests")) => Self::Repository(name, Part::Manifest(last)),
            Some((name, "blobs")) => Self::Repository(name, Part::Blob(last)),
            Some((name, "referrers")) => Self::Repository(name, Part::Referrers(last)),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests;
