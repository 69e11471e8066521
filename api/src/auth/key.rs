//! API keys: their text, and what is kept of it.
//!
//! `rvl_<id>_<secret>`: a prefix that secret scanners can look for, the key's id (a UUID without dashes, no secret),
//! and 256 random bits in hexadecimal.

use sha2::{Digest, Sha256};
use uuid::Uuid;

const PREFIX: &str = "rvl";
const SECRET_BYTES: usize = 32;

/// A key that was just made: the only moment at which its text is known.
pub struct NewKey {
    /// Its id.
    pub id: Uuid,
    /// What its holder sends as `Authorization: Bearer …`.
    pub text: String,
    /// What is kept of it.
    pub digest: Vec<u8>,
}

impl NewKey {
    /// A key with a random secret.
    ///
    /// # Errors
    /// A sentence when the operating system has no randomness.
    pub fn random() -> Result<Self, String> {
        let mut secret = [0_u8; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| format!("the system gives no random numbers: {error}"))?;
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let id = Uuid::now_v7();
        let digest = digest(&secret).to_vec();
        Ok(Self { id, text: format!("{PREFIX}_{}_{secret}", id.simple()), digest })
    }
}

/// The id and the secret in a key's text; `None` for what is no key.
pub(crate) fn parts(text: &str) -> Option<(Uuid, &str)> {
    let (prefix, rest) = text.split_once('_')?;
    let (id, secret) = rest.split_once('_')?;
    let is_whole = prefix == PREFIX && id.len() == 32 && secret.len() == 2 * SECRET_BYTES;
    Some((Uuid::try_parse(id).ok().filter(|_| is_whole)?, secret))
}

/// What is kept of a secret. Digests are compared, not secrets: how long that takes tells a caller about the digest
/// of what he sent, from which he learns nothing about the one that is kept.
pub(crate) fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_anything_else_is_none() {
        let key = NewKey::random().unwrap();
        let (id, secret) = parts(&key.text).unwrap();
        assert_eq!((id, digest(secret).to_vec()), (key.id, key.digest));
        assert_ne!(key.text, NewKey::random().unwrap().text);
        let half = &key.text[..key.text.len() - 1];
        for none in ["", "rvl", "rvl__", "rvl_x_y", half, &key.text.replace("rvl_", "abc_"), &format!("{}0", key.text)]
        {
            assert!(parts(none).is_none(), "{none}");
        }
    }
}
