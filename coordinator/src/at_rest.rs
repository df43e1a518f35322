//! Encryption of what lies on this member's disk, with the keys of the file that `storage_key_file` names (decision 50):
//! the stores' [`Cipher`], over the vault.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use novacron_storage::cipher::{self, Cipher, FileKey, Locked, SALT_BYTES, TAG_BYTES};
use novacron_vault::{KeyFileError, NumberedKey, Salt, Vault, VaultError, VaultKey};

/// What the keys of files are for.
const PURPOSE: &str = "novacron storage";

/// Where salts come from.
type Salts = Arc<dyn Fn() -> io::Result<[u8; SALT_BYTES]> + Send + Sync>;

/// Why the keys of a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageKeyError {
    /// The file cannot be read, or holds something else.
    #[error(
        "the key of this coordinator's files cannot be read (`storage_key_file` of the configuration)"
    )]
    File(#[from] KeyFileError),
    /// There are too many.
    #[error("the keys in {} cannot be used (`storage_key_file` of the configuration)", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: VaultError,
    },
}

/// A file that cannot be opened with the keys of the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{locked}; {advice}")]
pub struct LockedOut {
    locked: Locked,
    advice: &'static str,
}

impl From<Locked> for LockedOut {
    fn from(locked: Locked) -> Self {
        let advice = match locked.problem {
            cipher::LockProblem::NoKey { .. } => {
                "name the file with that key in `storage_key_file` of the configuration. Nothing was changed"
            }
            cipher::LockProblem::OtherKey { .. } => {
                "put that key into the file that `storage_key_file` of the configuration names, in a line of its own \
                 below the first. Nothing was changed"
            }
            cipher::LockProblem::NotEncrypted => {
                "what was written without a key stays as it is, so either take `storage_key_file` out of the \
                 configuration, or remove this member from the cluster and let it join anew with an empty data \
                 directory (the only member there is: back the cluster up and restore it; one that never came to take \
                 part: empty the directory and begin again). Nothing was changed"
            }
        };
        Self { locked, advice }
    }
}

/// The keys of what lies on a disk. Cheap to clone.
#[derive(Clone)]
pub struct StorageCipher {
    vault: Vault,
    salts: Salts,
}

impl fmt::Debug for StorageCipher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StorageCipher({})", self.vault.newest())
    }
}

impl StorageCipher {
    /// With the keys in a file: the first encrypts, all of them decrypt.
    ///
    /// # Errors
    /// [`StorageKeyError`].
    pub fn load(path: &Path) -> Result<Self, StorageKeyError> {
        let keys = VaultKey::load_all(path)?;
        Self::new(keys).map_err(|source| StorageKeyError::Keys { path: path.to_owned(), source })
    }

    /// With these keys.
    ///
    /// # Errors
    /// [`VaultError::Keys`].
    pub fn new(keys: Vec<VaultKey>) -> Result<Self, VaultError> {
        let draw = || Ok(Salt::draw().map_err(io::Error::other)?.to_bytes());
        Ok(Self { vault: Vault::new(PURPOSE, keys)?, salts: Arc::new(draw) })
    }

    /// With one key, and salts from elsewhere, each only once: where the machine's random numbers must not be used.
    ///
    /// # Errors
    /// None that could be; see [`StorageCipher::new`].
    pub fn drawing(
        secret: [u8; 32],
        draw: impl Fn() -> [u8; SALT_BYTES] + Send + Sync + 'static,
    ) -> Result<Self, VaultError> {
        let cipher = Self::new(vec![VaultKey::from_bytes(secret)])?;
        Ok(Self { salts: Arc::new(move || Ok(draw())), ..cipher })
    }
}

impl Cipher for StorageCipher {
    fn keys(&self) -> Vec<cipher::KeyId> {
        self.vault.ids().into_iter().map(|id| cipher::KeyId(id.0)).collect()
    }

    fn draw_salt(&self) -> io::Result<[u8; SALT_BYTES]> {
        (self.salts)()
    }

    fn file_key(
        &self,
        key: cipher::KeyId,
        salt: &[u8; SALT_BYTES],
        context: &[u8],
    ) -> Option<Arc<dyn FileKey>> {
        let id = novacron_vault::KeyId(key.0);
        let key = self.vault.numbered(id, Salt::from_bytes(*salt), context).ok()?;
        Some(Arc::new(OneKey(key)))
    }
}

/// The key of one file.
#[derive(Debug)]
struct OneKey(NumberedKey);

impl FileKey for OneKey {
    fn seal(
        &self,
        number: u64,
        authenticated: &[u8],
        content: &mut [u8],
    ) -> io::Result<[u8; TAG_BYTES]> {
        self.0.seal(number, authenticated, content).map_err(io::Error::other)
    }

    fn open(&self, number: u64, authenticated: &[u8], content: &mut [u8]) -> Option<()> {
        self.0.open(number, authenticated, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(numbers: &[u8]) -> StorageCipher {
        let keys = numbers.iter().map(|number| VaultKey::from_bytes([*number; 32]));
        StorageCipher::new(keys.collect()).unwrap()
    }

    #[test]
    fn files_have_keys_of_their_own_that_every_holder_of_the_key_finds_again() {
        let (one, two) = (cipher(&[1]), cipher(&[2, 1]));
        let id = one.keys()[0];
        assert_eq!(two.keys()[1], id);
        let salt = one.draw_salt().unwrap();
        assert_ne!(one.draw_salt().unwrap(), salt);
        let mut sealed = b"content".to_vec();
        let tag = one.file_key(id, &salt, b"file").unwrap().seal(7, b"", &mut sealed).unwrap();
        sealed.extend(tag);
        let open = |cipher: &StorageCipher, context: &[u8]| {
            let mut bytes = sealed.clone();
            cipher.file_key(id, &salt, context)?.open(7, b"", &mut bytes)?;
            Some(bytes[..7].to_vec())
        };
        assert_eq!(open(&two, b"file").unwrap(), b"content");
        assert_eq!(open(&two, b"other"), None);
        assert!(cipher(&[3]).file_key(id, &salt, b"file").is_none());
        assert!(!format!("{one:?}").contains("0101"), "the id says nothing of the key");
        let drawn = StorageCipher::drawing([1; 32], || [9; SALT_BYTES]).unwrap();
        assert_eq!((drawn.draw_salt().unwrap(), drawn.keys()), ([9; SALT_BYTES], one.keys()));
    }
}
