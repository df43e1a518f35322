//! Keys of a vault, and how they are written into a file.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hkdf::{self, HKDF_SHA256};

use super::{DataKey, Head, VaultError};

/// How the text of a key begins: what it is, and the version of its form.
const TEXT_PREFIX: &str = "novacron-key-1-";

const SECRET_BYTES: usize = 32;

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not begin as keys do.
    #[error("this is no key: a key begins with `{TEXT_PREFIX}`")]
    Prefix,
    /// It is not 64 hexadecimal digits.
    #[error("this is no key: `{TEXT_PREFIX}` is followed by 64 hexadecimal digits and no more")]
    Digits,
}

/// Names a key without saying anything about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A key of 256 bits. Nothing prints it but [`VaultKey::to_text`].
#[derive(Clone, PartialEq, Eq)]
pub struct VaultKey {
    id: KeyId,
    secret: [u8; SECRET_BYTES],
}

impl fmt::Debug for VaultKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VaultKey({})", self.id)
    }
}

impl VaultKey {
    /// A new key, from the machine's random numbers.
    pub fn generate() -> Result<VaultKey, VaultError> {
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| VaultError::NoRandomness)?;
        Ok(VaultKey::from_bytes(secret))
    }

    /// A key of 32 random bytes.
    pub fn from_bytes(secret: [u8; SECRET_BYTES]) -> VaultKey {
        VaultKey { id: id_of(&secret), secret }
    }

    /// Its name, which follows from it.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key as a text of one line, which [`FromStr`] reads again. It is the secret itself.
    pub fn to_text(&self) -> String {
        let digits = self.secret.iter().map(|byte| format!("{byte:02x}"));
        TEXT_PREFIX.chars().chain(digits.collect::<String>().chars()).collect()
    }

    /// The key of [`Vault::mark`](super::Vault::mark).
    pub(super) fn mark_key(&self, purpose: &str) -> [u8; SECRET_BYTES] {
        let extracted = hkdf::Salt::new(HKDF_SHA256, b"novacron mark").extract(&self.secret);
        let mut key = [0; SECRET_BYTES];
        // HKDF gives up to 8,160 bytes; as many as a hash has cannot fail.
        let info = [purpose.as_bytes()];
        let _ = extracted.expand(&info, HKDF_SHA256).and_then(|derived| derived.fill(&mut key));
        key
    }

    pub(super) fn data_key(
        &self,
        purpose: &str,
        head: &Head,
        context: &[u8],
    ) -> Result<DataKey, VaultError> {
        DataKey::derive(&self.secret, purpose, head, context)
    }
}

impl Drop for VaultKey {
    fn drop(&mut self) {
        // As far as the language lets us: copies that the compiler made stay.
        self.secret.fill(0);
    }
}

impl FromStr for VaultKey {
    type Err = KeyError;

    /// Takes the text with or without spaces and ends of lines around it.
    fn from_str(text: &str) -> Result<VaultKey, KeyError> {
        let digits = text.trim().strip_prefix(TEXT_PREFIX).ok_or(KeyError::Prefix)?;
        if digits.len() != SECRET_BYTES * 2
            || !digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        {
            return Err(KeyError::Digits);
        }
        let mut secret = [0; SECRET_BYTES];
        for (at, byte) in secret.iter_mut().enumerate() {
            let digits = &digits[at * 2..at * 2 + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| KeyError::Digits)?;
        }
        Ok(VaultKey::from_bytes(secret))
    }
}

struct IdLength;

impl hkdf::KeyType for IdLength {
    fn len(&self) -> usize {
        8
    }
}

/// Eight bytes that say nothing about the key to whoever does not have it.
fn id_of(secret: &[u8; SECRET_BYTES]) -> KeyId {
    let extracted = hkdf::Salt::new(HKDF_SHA256, b"novacron vault").extract(secret);
    let mut id = [0; 8];
    // HKDF gives up to 8,160 bytes; eight cannot fail.
    let _ = extracted.expand(&[b"key id"], IdLength).and_then(|derived| derived.fill(&mut id));
    KeyId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_shows_itself_nowhere_else() {
        let key = VaultKey::from_bytes([7; 32]);
        let text = key.to_text();
        assert_eq!(format!(" {text}\n").parse::<VaultKey>().unwrap(), key);
        assert!(!format!("{key:?}").contains("0707"));
        assert_ne!(VaultKey::generate().unwrap(), VaultKey::generate().unwrap());
        assert_eq!("key".parse::<VaultKey>(), Err(KeyError::Prefix));
        assert_eq!(text[..text.len() - 1].parse::<VaultKey>(), Err(KeyError::Digits));
        assert_eq!(format!("{text}0").parse::<VaultKey>(), Err(KeyError::Digits));
        assert_eq!(text.replace("07", "0g").parse::<VaultKey>(), Err(KeyError::Digits));
    }

    #[test]
    fn ids_are_as_ever() {
        assert_eq!(VaultKey::from_bytes([7; 32]).id().to_string(), "ae8e11ce84d3c4a1");
        assert_ne!(VaultKey::from_bytes([8; 32]).id(), VaultKey::from_bytes([7; 32]).id());
    }
}
