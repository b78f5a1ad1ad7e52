//! Content digests: an algorithm, a colon, and lower-case hexadecimal digits.
//!
//! Source: OCI image specification 1.1, descriptor.md, "Registered algorithms".

use std::fmt;
use std::str::FromStr;

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

use crate::Problem;

/// The digest of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// A registered algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// The one that `docker save`, dockerd and nearly everybody else use.
    Sha256,
    Sha512,
}

impl Algorithm {
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The algorithm of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name before the colon, and in the paths of an OCI layout.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The digest of nothing yet.
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
            Self::Sha512 => Hasher::Sha512(Box::new(Sha512::new())),
        }
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

/// A digest that is being computed.
#[derive(Clone)]
pub enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Where it is, in hexadecimal digits: another process can go on from there.
    pub fn state(&self) -> String {
        match self {
            Self::Sha256(hasher) => hex::encode(hasher.serialize()),
            Self::Sha512(hasher) => hex::encode(hasher.serialize()),
        }
    }

    /// One that is where this state says. None for what is no state of the algorithm.
    pub fn resume(algorithm: Algorithm, state: &str) -> Option<Self> {
        fn read<H: SerializableState>(state: &str) -> Option<H> {
            let bytes = hex::decode(state).ok()?;
            H::deserialize(&SerializedState::<H>::try_from(bytes.as_slice()).ok()?).ok()
        }
        match algorithm {
            Algorithm::Sha256 => read(state).map(Self::Sha256),
            Algorithm::Sha512 => read(state).map(|hasher| Self::Sha512(Box::new(hasher))),
        }
    }

    /// The digest of everything that it was fed.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Whether content that should have it was found to have it.
    pub fn check(self, found: Self) -> Result<(), Problem> {
        if found == self { Ok(()) } else { Err(Problem::DigestMismatch { expected: self, found }) }
    }

    /// `ALGORITHM/HEX`, as blobs are named in directories and OCI layouts.
    pub fn path(&self) -> String {
        format!("{}/{}", self.algorithm().name(), self.hex())
    }

    /// The hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        match self {
            Self::Sha256(bytes) => hex::encode(bytes),
            Self::Sha512(bytes) => hex::encode(bytes),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not the name of a registered algorithm followed by a colon and as many lower-case hexadecimal digits as it has.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not a sha256 or sha512 digest")]
pub struct InvalidDigest;

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let (algorithm, digits) = text.split_once(':').ok_or(InvalidDigest)?;
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidDigest);
        }
        match algorithm {
            "sha256" => decode(digits).map(Self::Sha256),
            "sha512" => decode(digits).map(Self::Sha512),
            _ => Err(InvalidDigest),
        }
    }
}

fn decode<const N: usize>(digits: &str) -> Result<[u8; N], InvalidDigest> {
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidDigest)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
