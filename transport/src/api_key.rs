//! API keys: what a program shows instead of a certificate. Pure functions; randomness is an argument.
//!
//! Text form: `nck_<id>_<secret>`, both lower-case hexadecimal: 16 bytes under which the cluster files the key, and
//! 32 random bytes. The cluster stores a SHA-256 of the secret only, so its replicated state, log and snapshots let
//! nobody in. A password would need a slow hash with salt, because it can be guessed; 256 random bits cannot, at any
//! speed, so a fast hash gives nothing away and costs a request nothing.

use std::fmt;
use std::str::FromStr;

use novacron_protocol::ids::ApiKeyId;
use sha2::digest::CtOutput;
use sha2::{Digest, Sha256};

use crate::hex;
use crate::token::SecretHash;

const PREFIX: &str = "nck";
const SECRET_BYTES: usize = 32;

/// Random bytes of a secret.
pub const SECRET_RANDOM_BYTES: usize = SECRET_BYTES;

/// The text is not an API key; it is not repeated, because it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: expected {PREFIX}_<id>_<secret> as printed when it was made")]
pub struct InvalidApiKey;

/// A key as its bearer holds it. `Debug` shows the id only.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeySecret {
    id: ApiKeyId,
    secret: [u8; SECRET_BYTES],
}

impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ApiKeySecret({})", self.id)
    }
}

impl ApiKeySecret {
    /// A key from random bytes, which must come from the system's generator.
    pub fn new(id: ApiKeyId, secret: [u8; SECRET_RANDOM_BYTES]) -> Self {
        Self { id, secret }
    }

    /// What the cluster files it under.
    pub fn id(&self) -> ApiKeyId {
        self.id
    }

    /// What the cluster stores instead of the secret.
    pub fn secret_hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.secret).into())
    }

    /// Whether this is the key of which a hash was stored. Takes as long whatever the difference is.
    pub fn is_that_of(&self, stored: &SecretHash) -> bool {
        let own = CtOutput::<Sha256>::new(Sha256::digest(self.secret));
        own == CtOutput::new(stored.0.into())
    }

    /// The text for the bearer: shown once, never logged.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}_{}_{}", self.id.0.simple(), hex::encode(&self.secret))
    }
}

impl FromStr for ApiKeySecret {
    type Err = InvalidApiKey;

    fn from_str(text: &str) -> Result<Self, InvalidApiKey> {
        let parts: Vec<&str> = text.trim().splitn(4, '_').collect();
        let [PREFIX, id, secret] = parts[..] else { return Err(InvalidApiKey) };
        let id: [u8; 16] = hex::decode(id).ok_or(InvalidApiKey)?;
        let secret = hex::decode(secret).ok_or(InvalidApiKey)?;
        Ok(Self { id: ApiKeyId(uuid::Uuid::from_bytes(id)), secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: u8) -> ApiKeySecret {
        ApiKeySecret::new(ApiKeyId(uuid::Uuid::from_u128(7)), [secret; SECRET_BYTES])
    }

    #[test]
    fn the_text_comes_back_and_only_its_own_hash_fits() {
        let read: ApiKeySecret = format!(" {}\n", key(1).to_text()).parse().unwrap();
        assert_eq!(read, key(1));
        assert!(read.is_that_of(&key(1).secret_hash()));
        for other in 2..=255 {
            assert!(!read.is_that_of(&key(other).secret_hash()), "{other}");
        }
        assert!(read.to_text().starts_with("nck_00000000000000000000000000000007_0101"));
    }

    #[test]
    fn nothing_shows_the_secret() {
        let text = key(0xab).to_text();
        assert!(!format!("{:?}", key(0xab)).contains("abab"));
        for bad in [&text[..text.len() - 1], &format!("{text}0"), &text.to_uppercase(), "nck", ""] {
            let error = bad.parse::<ApiKeySecret>().unwrap_err();
            assert!(!error.to_string().contains("abab"), "{error}");
        }
    }
}
