//! Texts that only holders of the key can make or read: encrypted and authenticated.
//!
//! ChaCha20-Poly1305 (RFC 8439) under a key that HKDF-SHA256 (RFC 5869) makes for each text from the key file and 256 random
//! bits, so that no two texts are sealed with the same key and nonce, however many there are. Form: base64url of one byte for
//! the version, the random bits, and the ciphertext with its tag.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

use super::key::Key;

const VERSION: u8 = 1;
const SALT: usize = 32;

impl Key {
    /// Seals `content`. It opens only for the same `purpose`, which is not part of it. None only if it is too long to be
    /// encrypted (256 GiB).
    pub fn seal(&self, purpose: &str, content: &[u8]) -> Option<String> {
        let salt: [u8; SALT] = rand::random();
        let mut sealed = content.to_vec();
        let key = self.key_for(&salt, purpose)?;
        key.seal_in_place_append_tag(nonce(), Aad::from(purpose.as_bytes()), &mut sealed).ok()?;
        let mut text = vec![VERSION];
        text.extend_from_slice(&salt);
        text.append(&mut sealed);
        Some(URL_SAFE_NO_PAD.encode(text))
    }

    /// What was sealed; None for everything that was not sealed with this key for this purpose.
    pub fn open(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (salt, sealed) = rest.split_at_checked(SALT)?;
        if *version != VERSION {
            return None;
        }
        let mut sealed = sealed.to_vec();
        let key = self.key_for(salt, purpose)?;
        let content = key.open_in_place(nonce(), Aad::from(purpose.as_bytes()), &mut sealed).ok()?;
        Some(content.to_vec())
    }

    fn key_for(&self, salt: &[u8], purpose: &str) -> Option<LessSafeKey> {
        let info = [purpose.as_bytes()];
        let extracted = Salt::new(HKDF_SHA256, salt).extract(&*self.0);
        let key: UnboundKey = extracted.expand(&info, &CHACHA20_POLY1305).ok()?.into();
        Some(LessSafeKey::new(key))
    }
}

/// Always the same: each key seals one text only.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests;
