//! Authenticated encryption of what lies on disks and in backups. Sealed bytes say which key they
//! need, cannot be changed unnoticed, and cannot be taken for something else: the context that they
//! were sealed for is part of what is authenticated.
//!
//! ```text
//! offset  bytes
//!      0      8  magic: `novaseal` (one piece), `novaflow` (a stream)
//!      8      4  version of the format (1), little-endian
//!     12      8  id of the key
//!     20     32  salt
//!     52      …  piece: length u32, ciphertext, tag (16) · stream: chunks, see `stream`
//! ```
//!
//! **Keys and nonces.** AES-256-GCM allows one nonce once for each key. So no data key is used
//! twice: each piece and each stream has its own, HKDF-SHA-256 of the vault's key with 32 bytes of
//! salt that are drawn anew each time ([`Salt::draw`], the only randomness here), the purpose and
//! the context. Two equal salts would be needed for an accident: not within 2^100 pieces. The nonce
//! then counts the chunks of a stream, and is zero for a piece. Whoever has a place for each of many small pieces gives
//! them numbers and a key together ([`NumberedKey`]).
//!
//! **Rotation.** A vault has several keys: the first one seals, all of them open.

#![forbid(unsafe_code)]

mod file;
mod key;
mod numbered;
mod stream;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, HKDF_SHA256};
use aws_lc_rs::hmac;

pub use file::KeyFileError;
pub use key::{KeyError, KeyId, VaultKey};
pub use numbered::NumberedKey;
pub use stream::{CHUNK_BYTES, EncryptedReader, EncryptedWriter};

/// Keys that one vault opens with: one that seals and those before it.
pub const KEYS_MAX: usize = 16;

/// Bytes of one sealed piece at most; what is larger is a stream.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

const VERSION: u32 = 1;
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = 52;

/// Bytes that tell whether something was changed.
pub const TAG_BYTES: usize = MAX_TAG_LEN;

const PIECE_MAGIC: [u8; 8] = *b"novaseal";

/// How many bytes a piece is longer than what is in it.
pub const PIECE_OVERHEAD_BYTES: usize = HEAD_BYTES + 4 + TAG_BYTES;

/// Why bytes cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The bytes do not begin as sealed ones do.
    #[error("these bytes are not encrypted by this program")]
    NotSealed,
    /// Another program wrote them.
    #[error("format version {found} is unknown (this program understands {VERSION})")]
    UnknownVersion {
        /// The version in the bytes.
        found: u32,
    },
    /// None of the keys is the one that sealed them.
    #[error("encrypted with key {needed}, which is not here (here: {})", list(known))]
    OtherKey {
        /// The key that is needed.
        needed: KeyId,
        /// The keys that are here.
        known: Vec<KeyId>,
    },
    /// They end too early.
    #[error("the encrypted bytes end too early: something is cut off")]
    CutOff,
    /// They go on after their end.
    #[error("there are bytes after the end of what is encrypted")]
    TooLong,
    /// They are not as they were sealed, or were sealed for something else.
    #[error("the encrypted bytes were changed, or belong elsewhere (at offset {offset})")]
    Changed {
        /// Where the piece or chunk begins that cannot be opened.
        offset: u64,
    },
    /// More than fits into one piece or stream.
    #[error("too large to be encrypted in one piece ({PIECE_BYTES_MAX} bytes at most)")]
    TooLarge,
    /// A vault has 1 to [`KEYS_MAX`] keys.
    #[error("{count} keys are not 1 to {KEYS_MAX}")]
    Keys {
        /// How many there are.
        count: usize,
    },
    /// The machine gives no random numbers.
    #[error("the machine gives no random numbers")]
    NoRandomness,
}

fn list(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}

/// What makes a data key unlike all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; SALT_BYTES]);

impl Salt {
    /// A new one, from the machine's random numbers.
    pub fn draw() -> Result<Salt, VaultError> {
        let mut bytes = [0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| VaultError::NoRandomness)?;
        Ok(Salt(bytes))
    }

    /// Its bytes, to be kept beside what is sealed.
    pub fn to_bytes(self) -> [u8; SALT_BYTES] {
        self.0
    }

    /// One that was drawn elsewhere. It must never be used twice.
    pub fn from_bytes(bytes: [u8; SALT_BYTES]) -> Salt {
        Salt(bytes)
    }
}

/// The keys for one purpose. What one purpose sealed, another does not open.
#[derive(Debug, Clone)]
pub struct Vault {
    purpose: &'static str,
    keys: Vec<VaultKey>,
}

impl Vault {
    /// A vault whose first key seals, and that opens with any of them.
    pub fn new(purpose: &'static str, keys: Vec<VaultKey>) -> Result<Vault, VaultError> {
        if !(1..=KEYS_MAX).contains(&keys.len()) {
            return Err(VaultError::Keys { count: keys.len() });
        }
        Ok(Vault { purpose, keys })
    }

    /// The key that seals.
    pub fn newest(&self) -> KeyId {
        self.keys[0].id()
    }

    /// Seals a piece for `context`: what it is and where it belongs, to be given again to open it.
    pub fn seal(
        &self,
        salt: Salt,
        context: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        if plaintext.len() > PIECE_BYTES_MAX {
            return Err(VaultError::TooLarge);
        }
        let head = Head { magic: PIECE_MAGIC, key: self.newest(), salt };
        let mut sealed = head.encode().to_vec();
        sealed.extend_from_slice(&(plaintext.len() as u32).to_le_bytes());
        let mut content = plaintext.to_vec();
        let key = self.keys[0].data_key(self.purpose, &head, context)?;
        key.seal(0, &sealed, &mut content)?;
        sealed.append(&mut content);
        Ok(sealed)
    }

    /// Opens a piece that was sealed for the same purpose and context.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (head, rest) = Head::decode(sealed, PIECE_MAGIC)?;
        let (length, content) = rest.split_first_chunk::<4>().ok_or(VaultError::CutOff)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > PIECE_BYTES_MAX {
            return Err(VaultError::Changed { offset: HEAD_BYTES as u64 });
        }
        match content.len().checked_sub(TAG_BYTES) {
            Some(found) if found > length => return Err(VaultError::TooLong),
            Some(found) if found == length => {}
            _ => return Err(VaultError::CutOff),
        }
        let key = self.find(head.key)?.data_key(self.purpose, &head, context)?;
        let mut content = content.to_vec();
        let authenticated = &sealed[..HEAD_BYTES + 4];
        key.open(0, authenticated, &mut content).ok_or(VaultError::Changed { offset: 0 })?;
        Ok(content)
    }

    /// A number that equal contents for one context have in common, as long as one key seals. It says nothing about
    /// them to whoever does not have the key.
    pub fn mark(&self, context: &[u8], plaintext: &[u8]) -> u64 {
        let context_bytes = (context.len() as u32).to_le_bytes();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.keys[0].mark_key(self.purpose));
        let mut signing = hmac::Context::with_key(&key);
        [&context_bytes[..], context, plaintext].iter().for_each(|part| signing.update(part));
        let tag = signing.sign();
        u64::from_le_bytes(std::array::from_fn(|at| tag.as_ref()[at]))
    }

    /// Which key a sealed piece needs; `None` if it is no sealed piece.
    pub fn key_of(sealed: &[u8]) -> Option<KeyId> {
        Head::decode(sealed, PIECE_MAGIC).ok().map(|(head, _)| head.key)
    }

    fn find(&self, needed: KeyId) -> Result<&VaultKey, VaultError> {
        let known = || self.keys.iter().map(VaultKey::id).collect();
        let found = self.keys.iter().find(|key| key.id() == needed);
        found.ok_or_else(|| VaultError::OtherKey { needed, known: known() })
    }
}

/// How sealed bytes begin.
#[derive(Debug, Clone, Copy)]
struct Head {
    magic: [u8; 8],
    key: KeyId,
    salt: Salt,
}

impl Head {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.key.0);
        bytes[20..].copy_from_slice(&self.salt.0);
        bytes
    }

    fn decode(bytes: &[u8], magic: [u8; 8]) -> Result<(Head, &[u8]), VaultError> {
        let begins = bytes.iter().zip(magic).all(|(found, wanted)| *found == wanted);
        if !begins {
            return Err(VaultError::NotSealed);
        }
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(VaultError::CutOff)?;
        let found = u32::from_le_bytes(std::array::from_fn(|at| head[8 + at]));
        if found != VERSION {
            return Err(VaultError::UnknownVersion { found });
        }
        let key = KeyId(std::array::from_fn(|at| head[12 + at]));
        let salt = Salt(std::array::from_fn(|at| head[20 + at]));
        Ok((Head { magic, key, salt }, rest))
    }
}

/// The key of one piece or one stream.
struct DataKey(LessSafeKey);

/// A length that HKDF can give: one key.
struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        AES_256_GCM.key_len()
    }
}

impl DataKey {
    fn derive(
        secret: &[u8; 32],
        purpose: &str,
        head: &Head,
        context: &[u8],
    ) -> Result<DataKey, VaultError> {
        let extracted = hkdf::Salt::new(HKDF_SHA256, &head.salt.0).extract(secret);
        // The length keeps purpose and context apart.
        let purpose_bytes = (purpose.len() as u32).to_le_bytes();
        let info = [&head.magic[..], &purpose_bytes, purpose.as_bytes(), context];
        let mut bytes = [0; 32];
        let derived = extracted.expand(&info, KeyLength).and_then(|key| key.fill(&mut bytes));
        let key = derived.and_then(|()| UnboundKey::new(&AES_256_GCM, &bytes));
        bytes.fill(0);
        key.map(|key| DataKey(LessSafeKey::new(key))).map_err(|_| VaultError::TooLarge)
    }

    /// Encrypts in place and appends the tag.
    fn seal(
        &self,
        number: u64,
        authenticated: &[u8],
        content: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        let sealed =
            self.0.seal_in_place_append_tag(nonce(number), Aad::from(authenticated), content);
        sealed.map_err(|_| VaultError::TooLarge)
    }

    /// Encrypts in place, and returns the tag.
    fn seal_apart(
        &self,
        number: u64,
        authenticated: &[u8],
        content: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], VaultError> {
        let sealed =
            self.0.seal_in_place_separate_tag(nonce(number), Aad::from(authenticated), content);
        let tag = sealed.map_err(|_| VaultError::TooLarge)?;
        tag.as_ref().try_into().map_err(|_| VaultError::TooLarge)
    }

    /// Decrypts in place and takes the tag off; `None` if anything is not as it was sealed.
    fn open(&self, number: u64, authenticated: &[u8], content: &mut Vec<u8>) -> Option<()> {
        let length = self.open_slice(number, authenticated, content)?;
        content.truncate(length);
        Some(())
    }

    /// The same; how much is left without the tag.
    fn open_slice(&self, number: u64, authenticated: &[u8], content: &mut [u8]) -> Option<usize> {
        let opened = self.0.open_in_place(nonce(number), Aad::from(authenticated), content);
        Some(opened.ok()?.len())
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
