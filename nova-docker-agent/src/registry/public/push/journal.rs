//! What has to be undone when this process is killed in the middle of a push.

/// Keeps a secret on the disk so that only the registry's own processes, which share a key, can read it.
pub trait Sealer: Send + Sync {
    /// Encrypts and authenticates.
    fn seal(&self, secret: &[u8]) -> Vec<u8>;

    /// What was sealed; none when it was altered, or sealed with another key.
    fn unseal(&self, sealed: &[u8]) -> Option<Vec<u8>>;
}
