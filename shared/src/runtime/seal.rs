//! Seals the secrets of a definition before it is stored and opens them where it is used: AES-256-GCM under a key that
//! is not in the database.
//!
//! A sealed value is text that may stand in a header and in a URL:
//!
//! ```text
//!   sealed.v1.<key id>.<base64url(nonce 12 | ciphertext | tag 16)>
//! ```
//! The key id is the first four bytes of SHA-256 of the key. The nonce is random; 2^32 values may be sealed under one
//! key (NIST SP 800-38D, 8.3). Client key and place are associated data, so that a sealed value that is copied to
//! another schedule or another header does not open.
//!
//! Never logs, and no error of it holds, a value or a key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, Generate, KeyInit, Nonce, Payload};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::model::document;
use crate::model::schedule::{ClientKey, Definition};
use crate::model::secret::{SEALED_PREFIX, SECRET_MASK, SecretHeaders, Slot, is_sealed, rewrite};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// What the key of fingerprints is derived by.
const FINGERPRINTS: &[u8] = b"reveille fingerprints v1";

/// Seals under the first of its keys and opens with any. Cloning shares the keys.
#[derive(Clone, Default)]
pub struct Sealer {
    keys: Arc<[SealingKey]>,
    headers: SecretHeaders,
}

/// A definition cannot be stored: it has secrets, and there is no key to seal them with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no key to seal the secrets with")]
pub struct NoKey {
    /// JSON pointers to the secrets.
    pub pointers: Vec<String>,
}

/// Why a sealed value stays closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// It was sealed under a key that is not here.
    #[error("a secret is sealed under key {0}, which this process does not have")]
    KeyMissing(String),
    /// It was not sealed for this place, or is damaged.
    #[error("a sealed secret is damaged, or was sealed for another schedule")]
    Foreign,
}

impl Sealer {
    /// A sealer with these keys, the first of which seals.
    pub fn new(keys: Vec<SealingKey>, headers: SecretHeaders) -> Self {
        Self { keys: keys.into(), headers }
    }

    /// The same, with the headers counted as secret that are sealed in `stored`: their names were configured once.
    #[must_use]
    pub fn covering(&self, stored: &Definition) -> Self {
        let sealed = stored.task.connection.headers.iter().filter(|(_, value)| is_sealed(value));
        let headers = self.headers.clone().and(sealed.map(|(name, _)| name.clone()));
        Self { keys: self.keys.clone(), headers }
    }

    /// Ids of its keys, the sealing one first.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// Which headers are secret.
    pub fn headers(&self) -> &SecretHeaders {
        &self.headers
    }

    /// Seals every secret of a plain definition.
    ///
    /// # Errors
    /// [`NoKey`] when it has secrets and there is no key; nothing is changed then.
    pub fn seal(&self, definition: &mut Definition) -> Result<(), NoKey> {
        let client = definition.client.clone();
        let mut pointers = Vec::new();
        rewrite(definition, &self.headers, |slot| {
            let sealed = self.keys.first().and_then(|key| key.seal(&bound_to(&client, &slot.place), slot.value));
            if sealed.is_none() {
                pointers.push(slot.pointer.clone());
            }
            sealed
        });
        if pointers.is_empty() { Ok(()) } else { Err(NoKey { pointers }) }
    }

    /// Opens every secret of a stored definition. What an earlier version stored in the clear stays as it is.
    ///
    /// # Errors
    /// Why one of them stays closed.
    pub fn unseal(&self, definition: &mut Definition) -> Result<(), Unopened> {
        let client = definition.client.clone();
        let mut failure = None;
        rewrite(definition, &self.headers, |slot| match self.open(&client, slot) {
            Ok(value) => Some(value),
            Err(unopened) => {
                failure = Some(unopened);
                None
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// Opens one secret of a stored definition of this client.
    ///
    /// # Errors
    /// Why it stays closed.
    pub fn open(&self, client: &ClientKey, slot: &Slot<'_>) -> Result<String, Unopened> {
        let Some(sealed) = slot.value.strip_prefix(SEALED_PREFIX) else { return Ok(slot.value.to_owned()) };
        let (id, text) = sealed.split_once('.').ok_or(Unopened::Foreign)?;
        let key = self.keys.iter().find(|key| key.id == id).ok_or_else(|| Unopened::KeyMissing(printable(id)))?;
        key.open(&bound_to(client, &slot.place), text).ok_or(Unopened::Foreign)
    }

    /// Whether every secret of a stored definition is sealed under the first key.
    pub fn is_current(&self, stored: &Definition) -> bool {
        let first = self.keys.first().map(|key| format!("{SEALED_PREFIX}{}.", key.id));
        let mut current = true;
        rewrite(&mut stored.clone(), &self.headers, |slot| {
            current &= first.as_ref().is_some_and(|prefix| slot.value.starts_with(prefix));
            None
        });
        current
    }

    /// The fingerprint of a plain definition. Its secrets go in as what a keyed digest makes of them, so that nobody
    /// who reads the database can try passwords on it.
    pub fn fingerprint(&self, plain: &Definition) -> String {
        let mut definition = plain.clone();
        rewrite(&mut definition, &self.headers, |slot| {
            let digest = self.keys.first().map(|key| key.digest(&bound_to(&plain.client, &slot.place), slot.value));
            Some(digest.unwrap_or_else(|| SECRET_MASK.to_owned()))
        });
        document::fingerprint(&definition)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.key_ids().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// A key and its id.
pub struct SealingKey {
    id: String,
    cipher: Aes256Gcm,
    fingerprints: Hmac<Sha256>,
}

impl SealingKey {
    /// A new key from the operating system's randomness, as text.
    ///
    /// # Errors
    /// A sentence when there is no randomness to be had.
    pub fn generate() -> Result<String, String> {
        let key = aes_gcm::Key::<Aes256Gcm>::try_generate().map_err(|error| format!("no randomness: {error}"))?;
        Ok(STANDARD.encode(key))
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let id = Sha256::digest(bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut derivation = Hmac::<Sha256>::new_from_slice(bytes).ok()?;
        derivation.update(FINGERPRINTS);
        let fingerprints = Hmac::new_from_slice(&derivation.finalize().into_bytes()).ok()?;
        Some(Self { id, cipher: Aes256Gcm::new_from_slice(bytes).ok()?, fingerprints })
    }

    /// `None` without randomness: then nothing must be sealed.
    fn seal(&self, bound_to: &[u8], value: &str) -> Option<String> {
        let nonce = Nonce::<Aes256Gcm>::try_generate().ok()?;
        let sealed = self.cipher.encrypt(&nonce, Payload { msg: value.as_bytes(), aad: bound_to }).ok()?;
        let bytes = [nonce.as_slice(), sealed.as_slice()].concat();
        Some(format!("{SEALED_PREFIX}{}.{}", self.id, URL_SAFE_NO_PAD.encode(bytes)))
    }

    fn open(&self, bound_to: &[u8], text: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        let nonce = Nonce::<Aes256Gcm>::try_from(nonce).ok()?;
        String::from_utf8(self.cipher.decrypt(&nonce, Payload { msg: sealed, aad: bound_to }).ok()?).ok()
    }

    fn digest(&self, bound_to: &[u8], value: &str) -> String {
        let mut mac = self.fingerprints.clone();
        mac.update(bound_to);
        mac.update(value.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

impl FromStr for SealingKey {
    type Err = String;

    /// Reads 32 bytes of base64, in either alphabet.
    fn from_str(text: &str) -> Result<Self, String> {
        let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
        let bytes = engines.into_iter().find_map(|engine| engine.decode(text).ok());
        let key = bytes.filter(|bytes| bytes.len() == KEY_BYTES).and_then(|bytes| Self::of(&bytes));
        key.ok_or_else(|| {
            format!("a key is {KEY_BYTES} random bytes in base64, as `openssl rand -base64 {KEY_BYTES}` makes them")
        })
    }
}

/// What a sealed value belongs to. Lengths go before the fields, so that no two places read the same.
fn bound_to(client: &ClientKey, place: &str) -> Vec<u8> {
    let fields = [&client.application, &client.group, &client.key, &client.operation, &client.kind];
    let mut bytes = Vec::new();
    for field in fields.into_iter().map(String::as_str).chain([place]) {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field.as_bytes());
    }
    bytes
}

/// A key id out of the database, fit for a log line.
fn printable(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}
