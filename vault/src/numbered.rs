//! A key for many small pieces, which whoever has it numbers.
//!
//! [`Vault::seal`] derives a key for each piece, which takes some microseconds, and writes a head of 52 bytes. Where
//! pieces come by the thousand and have a place of their own – records of a log, chunks of a file – one key is derived for
//! all that lies together, and the number of a piece is its nonce. Nothing of that is in the bytes: whoever keeps them
//! keeps the id of the key and the salt as well.

use super::{DataKey, Head, KeyId, Salt, TAG_BYTES, Vault, VaultError};

/// Sets these keys apart from those of pieces and streams with the same salt.
const MAGIC: [u8; 8] = *b"novanumb";

/// A key for pieces with numbers. One number is for one content: used twice, it gives both away.
pub struct NumberedKey(DataKey);

impl std::fmt::Debug for NumberedKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("NumberedKey")
    }
}

impl Vault {
    /// The key that belongs to one of this vault's keys, a salt and a context. Whoever draws the salt numbers the
    /// pieces; with a salt that comes from a disk they are only opened.
    ///
    /// # Errors
    /// [`VaultError::OtherKey`].
    pub fn numbered(
        &self,
        key: KeyId,
        salt: Salt,
        context: &[u8],
    ) -> Result<NumberedKey, VaultError> {
        let head = Head { magic: MAGIC, key, salt };
        Ok(NumberedKey(self.find(key)?.data_key(self.purpose, &head, context)?))
    }

    /// The keys that are here; the first is the newest.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys.iter().map(super::VaultKey::id).collect()
    }
}

impl NumberedKey {
    /// Encrypts in place, and returns the tag.
    ///
    /// # Errors
    /// [`VaultError::TooLarge`]: 64 GiB at most.
    pub fn seal(
        &self,
        number: u64,
        authenticated: &[u8],
        content: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], VaultError> {
        self.0.seal_apart(number, authenticated, content)
    }

    /// Decrypts in place what ends with its tag; the tag stays where it is. `None`, and rubbish in `content`, if
    /// anything is not as it was sealed.
    pub fn open(&self, number: u64, authenticated: &[u8], content: &mut [u8]) -> Option<()> {
        self.0.open_slice(number, authenticated, content).map(drop)
    }
}
