//! Signatures of outgoing requests by Standard Webhooks 1.0.0 (github.com/standard-webhooks/standard-webhooks,
//! spec/standard-webhooks.md): HMAC-SHA256 over `id.timestamp.body`, by which the target knows who called, that nothing
//! was changed, and that it is not an old call played again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// The new key and the old one, while targets are told of the new one.
const MAX_KEYS: usize = 2;

/// The keys of an application, none of which is ever printed.
#[derive(Clone, Default)]
pub(crate) struct SigningKeys(Vec<Hmac<Sha256>>);

impl SigningKeys {
    /// Reads `whsec_<base64>`, one or two of them, separated by white space.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let keys: Option<Vec<_>> = text.split_whitespace().map(key).collect();
        keys.filter(|keys| (1..=MAX_KEYS).contains(&keys.len())).map(Self)
    }

    /// The value of `webhook-signature`, `timestamp` in unix seconds; `None` where nothing is to be signed with.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let signatures = self.0.iter().map(|key| {
            let mut mac = key.clone();
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        });
        let signatures: Vec<String> = signatures.collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

fn key(text: &str) -> Option<Hmac<Sha256>> {
    let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok().filter(|bytes| !bytes.is_empty())?;
    Hmac::new_from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with the package `standardwebhooks` of PyPI, an implementation of others.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn signatures_are_those_of_another_implementation() {
        let sign =
            |keys: &str| SigningKeys::read(keys).unwrap().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, BODY);
        const BODY: &[u8] = br#"{"test": 2432232314}"#;
        assert_eq!(sign(KEY).unwrap(), SIGNATURE);
        let rotated = sign(&format!("whsec_bmV3 {KEY}\n")).unwrap();
        let (new, old) = rotated.split_once(' ').unwrap();
        assert_eq!((old, new.starts_with("v1,"), new == old), (SIGNATURE, true, false));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_YQ== whsec_Yg== whsec_Yw=="] {
            assert!(SigningKeys::read(bad).is_none(), "{bad}");
        }
        assert_eq!(SigningKeys::default().sign("id", 0, b""), None);
    }
}
