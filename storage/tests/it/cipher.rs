//! A cipher for tests: no secrecy to speak of, but everything that the stores rely on, and it does not forgive a number
//! that is used twice.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use novacron_storage::cipher::{Cipher, EncryptedDisk, FileKey, KeyId, SALT_BYTES, TAG_BYTES};
use novacron_storage::disk::{Disk, SimulatedDisk};
use sha2::{Digest, Sha256};

/// Clones draw from the same salts, and remember the same numbers.
#[derive(Debug, Clone)]
pub struct TestCipher {
    keys: Vec<u8>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    salts: Mutex<u64>,
    used: Mutex<BTreeSet<([u8; 32], u64)>>,
}

impl TestCipher {
    /// With these keys; the first seals.
    pub fn new(keys: &[u8]) -> TestCipher {
        TestCipher { keys: keys.to_vec(), shared: Arc::default() }
    }

    /// The same, later, with other keys.
    pub fn turned(&self, keys: &[u8]) -> TestCipher {
        TestCipher { keys: keys.to_vec(), shared: Arc::clone(&self.shared) }
    }

    pub fn disk(&self, disk: &SimulatedDisk) -> Arc<dyn Disk> {
        Arc::new(EncryptedDisk::new(Arc::new(disk.clone()), Arc::new(self.clone())))
    }
}

pub fn key_id(key: u8) -> KeyId {
    KeyId([key; 8])
}

impl Cipher for TestCipher {
    fn keys(&self) -> Vec<KeyId> {
        self.keys.iter().copied().map(key_id).collect()
    }

    fn draw_salt(&self) -> io::Result<[u8; SALT_BYTES]> {
        let mut salts = self.shared.salts.lock().unwrap();
        *salts += 1;
        let mut salt = [0x5A; SALT_BYTES];
        salt[..8].copy_from_slice(&salts.to_le_bytes());
        Ok(salt)
    }

    fn file_key(
        &self,
        key: KeyId,
        salt: &[u8; SALT_BYTES],
        context: &[u8],
    ) -> Option<Arc<dyn FileKey>> {
        self.keys().contains(&key).then_some(())?;
        let secret = hash(&[&key.0, salt, context]);
        Some(Arc::new(TestKey { secret, shared: Arc::clone(&self.shared) }))
    }
}

#[derive(Debug)]
struct TestKey {
    secret: [u8; 32],
    shared: Arc<Shared>,
}

impl TestKey {
    fn mask(&self, number: u64, content: &mut [u8]) {
        let mut state = u64::from_le_bytes(self.part_of(b"mask", number)) | 1;
        for bytes in content.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.iter_mut().zip(state.to_le_bytes()).for_each(|(byte, mask)| *byte ^= mask);
        }
    }

    fn tag(&self, number: u64, authenticated: &[u8], sealed: &[u8]) -> [u8; TAG_BYTES] {
        let begin = crc32c::crc32c_append(number as u32, &self.part_of(b"tag", number));
        let begin = crc32c::crc32c_append(begin, authenticated);
        let sum = crc32c::crc32c_append(begin, sealed).to_le_bytes();
        std::array::from_fn(|at| sum[at % 4] ^ self.secret[at])
    }

    fn part_of(&self, what: &[u8], number: u64) -> [u8; 8] {
        let part = hash(&[&self.secret, what, &number.to_le_bytes()]);
        std::array::from_fn(|at| part[at])
    }
}

impl FileKey for TestKey {
    fn seal(
        &self,
        number: u64,
        authenticated: &[u8],
        content: &mut [u8],
    ) -> io::Result<[u8; TAG_BYTES]> {
        let is_new = self.shared.used.lock().unwrap().insert((self.secret, number));
        assert!(is_new, "number {number} of one key is used twice");
        self.mask(number, content);
        Ok(self.tag(number, authenticated, content))
    }

    fn open(&self, number: u64, authenticated: &[u8], content: &mut [u8]) -> Option<()> {
        let (sealed, tag) = content.split_at_mut(content.len().checked_sub(TAG_BYTES)?);
        (self.tag(number, authenticated, sealed) == *tag).then_some(())?;
        self.mask(number, sealed);
        Some(())
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
