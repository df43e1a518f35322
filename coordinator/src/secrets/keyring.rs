//! The keys of secrets that this member holds: one record in its data directory that only its owner reads. Where the
//! configuration names a file with a key (a systemd credential, say), the record is encrypted with it, and a disk that
//! was lost opens nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_storage::disk::Disk;
use novacron_storage::record::{RecordError, RecordStore};
use novacron_vault::{KEYS_MAX, KeyError, KeyFileError, Salt, Vault, VaultError, VaultKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::state::secret::keys::SecretKeyId;
use crate::state::secret::{SealedValue, SecretPlace};

/// What values are sealed for.
const VALUE_PURPOSE: &str = "novacron secret";

/// What the record is sealed for, where it is.
const RECORD_PURPOSE: &str = "novacron keyring";

pub(crate) const DIRECTORY: &str = "keys";
const RECORD: &str = "secrets";

/// Why keys or values cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The record cannot be read or written.
    #[error("the keys of secrets cannot be read or written")]
    Record(#[from] RecordError),
    /// The record is encrypted, and the configuration names no key for it.
    #[error(
        "the keys of secrets are encrypted: name the file with their key in `secret_key_file` of the configuration"
    )]
    NoRecordKey,
    /// The key of the record cannot be read.
    #[error("the key of the keys of secrets cannot be used")]
    RecordKey(#[from] KeyFileError),
    /// The record was encrypted with another key, or changed.
    #[error("the keys of secrets cannot be decrypted with the key in {}", path.display())]
    Locked {
        /// Where that key is.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: VaultError,
    },
    /// The record holds something else.
    #[error("the record of the keys of secrets holds no keys")]
    NoKeys(#[from] KeyError),
    /// The key that is needed is not here.
    #[error(
        "key {needed} of secrets is not on this coordinator; it is being fetched from another: try again, or ask \
         another coordinator"
    )]
    Missing {
        /// Which.
        needed: SecretKeyId,
    },
    /// A value that cannot be encrypted, or is not what was encrypted.
    #[error("the secret cannot be encrypted or decrypted")]
    Value(#[from] VaultError),
    /// A value that is no text.
    #[error("the secret is no text")]
    NoText,
}

/// The text of a key on its way between members. It does not show itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyText(String);

impl fmt::Debug for KeyText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(a key)")
    }
}

impl KeyText {
    /// The key in it.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn key(&self) -> Result<VaultKey, KeyError> {
        self.0.parse()
    }
}

/// The keys of this member. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keyring(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    records: RecordStore,
    lock: Option<(PathBuf, Vault)>,
    /// The newest first; at most [`KEYS_MAX`].
    keys: Mutex<Vec<VaultKey>>,
}

impl Keyring {
    /// Opens the keys on a disk; `key_file` holds the key that they are encrypted with there.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn open(disk: Arc<dyn Disk>, key_file: Option<&Path>) -> Result<Self, KeyringError> {
        let records = RecordStore::open(disk, DIRECTORY)?;
        records.renew()?;
        let lock = key_file.map(record_lock).transpose()?;
        let record = records.get(RECORD)?;
        let text = record.as_ref().map(|record| unlock(lock.as_ref(), record)).transpose()?;
        let keys = text.map_or(Ok(Vec::new()), |text| parse_keys(&text))?;
        let is_locked = record.is_none_or(|record| Vault::key_of(&record).is_some());
        let keyring = Self(Arc::new(Shared { records, lock, keys: Mutex::new(keys.clone()) }));
        // A key file that was named since it was written.
        if keyring.0.lock.is_some() && !is_locked {
            keyring.replace(&mut keyring.keys(), keys)?;
        }
        Ok(keyring)
    }

    fn keys(&self) -> MutexGuard<'_, Vec<VaultKey>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Durable first, then known.
    fn replace(&self, held: &mut Vec<VaultKey>, keys: Vec<VaultKey>) -> Result<(), KeyringError> {
        let text = text_of(&keys);
        let record = match &self.0.lock {
            Some((_, vault)) => vault.seal(Salt::draw()?, b"", text.as_bytes())?,
            None => text.into_bytes(),
        };
        self.0.records.put(RECORD, &record)?;
        *held = keys;
        Ok(())
    }

    /// Takes a key into custody; durable on return. Where there is no room, the oldest gives way that is not wanted: keys
    /// that were made and never came into use may be many.
    ///
    /// # Errors
    /// [`KeyringError::Record`].
    pub fn add(&self, key: VaultKey, wanted: &[SecretKeyId]) -> Result<(), KeyringError> {
        let mut held = self.keys();
        if held.iter().any(|known| known.id() == key.id()) {
            return Ok(());
        }
        let mut keys = vec![key];
        keys.extend(held.iter().cloned());
        if keys.len() > KEYS_MAX {
            let is_spare = |held: &VaultKey| !wanted.contains(&held.id().into());
            let oldest = keys.iter().skip(1).rposition(is_spare);
            keys.remove(oldest.map_or(keys.len() - 1, |place| place + 1));
        }
        self.replace(&mut held, keys)
    }

    /// Throws away all but these keys.
    ///
    /// # Errors
    /// [`KeyringError::Record`].
    pub fn keep(&self, wanted: &[SecretKeyId]) -> Result<(), KeyringError> {
        let mut held = self.keys();
        let is_wanted = |key: &&VaultKey| wanted.contains(&key.id().into());
        let keys: Vec<_> = held.iter().filter(is_wanted).cloned().collect();
        if keys.len() == held.len() {
            return Ok(());
        }
        self.replace(&mut held, keys)
    }

    /// Which of some keys are not here.
    pub fn missing(&self, wanted: impl Iterator<Item = SecretKeyId>) -> Vec<SecretKeyId> {
        let held = self.keys();
        let is_held = |key: &SecretKeyId| held.iter().any(|held| *key == held.id().into());
        wanted.filter(|key| !is_held(key)).collect()
    }

    fn find(&self, needed: SecretKeyId) -> Result<VaultKey, KeyringError> {
        let held = self.keys();
        let found = held.iter().find(|key| needed == key.id().into());
        found.cloned().ok_or(KeyringError::Missing { needed })
    }

    /// A key for another member, which has shown that it is one.
    pub fn text(&self, key: SecretKeyId) -> Option<KeyText> {
        self.find(key).ok().map(|key| KeyText(key.to_text()))
    }

    /// Some keys as the lines of a backup.
    ///
    /// # Errors
    /// [`KeyringError::Missing`].
    pub fn lines(&self, wanted: impl Iterator<Item = SecretKeyId>) -> Result<String, KeyringError> {
        let keys = wanted.map(|key| self.find(key)).collect::<Result<Vec<_>, _>>()?;
        Ok(text_of(&keys))
    }

    /// Encrypts a value for a place with a key, and marks it: equal for the same value at the same place only.
    ///
    /// # Errors
    /// [`KeyringError::Missing`], [`KeyringError::Value`].
    pub fn seal(
        &self,
        key: SecretKeyId,
        place: &SecretPlace,
        id: Uuid,
        value: &str,
    ) -> Result<(SealedValue, u64), KeyringError> {
        let vault = Vault::new(VALUE_PURPOSE, vec![self.find(key)?])?;
        let sealed = vault.seal(Salt::draw()?, &context(place, id), value.as_bytes())?;
        let mark = vault.mark(&encoded(place), value.as_bytes());
        Ok((SealedValue { id, key, sealed }, mark))
    }

    /// What a value may have been marked with when the same request came before: with another of these keys, and without
    /// its place, as builds before 0.1.0 did. Keys that are not here marked nothing that can be known again.
    pub fn earlier_marks(
        &self,
        keys: impl Iterator<Item = SecretKeyId>,
        place: &SecretPlace,
        value: &str,
    ) -> Vec<u64> {
        let vaults =
            keys.filter_map(|key| Vault::new(VALUE_PURPOSE, vec![self.find(key).ok()?]).ok());
        let marks = vaults.flat_map(|vault| {
            [&encoded(place)[..], b""].map(|context| vault.mark(context, value.as_bytes()))
        });
        marks.collect()
    }

    /// Decrypts a value of a place.
    ///
    /// # Errors
    /// [`KeyringError::Missing`], [`KeyringError::Value`] if it is another's or changed.
    pub fn open_value(
        &self,
        place: &SecretPlace,
        value: &SealedValue,
    ) -> Result<String, KeyringError> {
        let vault = Vault::new(VALUE_PURPOSE, vec![self.find(value.key)?])?;
        let opened = vault.open(&context(place, value.id), &value.sealed)?;
        String::from_utf8(opened).map_err(|_| KeyringError::NoText)
    }
}

/// The keys in the lines of a backup or of a record.
///
/// # Errors
/// [`KeyError`].
pub fn parse_keys(text: &str) -> Result<Vec<VaultKey>, KeyError> {
    text.lines().take(KEYS_MAX).map(str::parse).collect()
}

fn text_of(keys: &[VaultKey]) -> String {
    keys.iter().map(|key| format!("{}\n", key.to_text())).collect()
}

fn record_lock(path: &Path) -> Result<(PathBuf, Vault), KeyringError> {
    let vault = Vault::new(RECORD_PURPOSE, vec![VaultKey::load(path)?])?;
    Ok((path.to_owned(), vault))
}

fn unlock(lock: Option<&(PathBuf, Vault)>, record: &[u8]) -> Result<String, KeyringError> {
    let bytes = match (lock, Vault::key_of(record)) {
        (_, None) => record.to_vec(),
        (None, Some(_)) => return Err(KeyringError::NoRecordKey),
        (Some((path, vault)), Some(_)) => vault
            .open(b"", record)
            .map_err(|source| KeyringError::Locked { path: path.clone(), source })?,
    };
    String::from_utf8(bytes).map_err(|_| KeyringError::NoText)
}

/// What a value belongs to: neither another name nor an earlier value is taken for it.
fn context(place: &SecretPlace, id: Uuid) -> Vec<u8> {
    let place = encoded(place);
    [&(place.len() as u32).to_le_bytes()[..], &place, id.as_bytes()].concat()
}

fn encoded(place: &SecretPlace) -> Vec<u8> {
    crate::state::table::Key::encode(place)
}

#[cfg(test)]
mod tests {
    use novacron_storage::disk::SimulatedDisk;

    use super::*;

    fn place(name: &str) -> SecretPlace {
        SecretPlace { project: None, name: name.parse().unwrap() }
    }

    fn key(byte: u8) -> VaultKey {
        VaultKey::from_bytes([byte; 32])
    }

    #[test]
    fn a_key_that_is_wanted_does_not_give_way_to_any_number_of_others() {
        let keyring = Keyring::open(Arc::new(SimulatedDisk::new(1)), None).unwrap();
        let wanted = [key(1).id().into(), key(2).id().into()];
        for number in 1..100 {
            keyring.add(key(number), &wanted).unwrap();
        }
        assert_eq!(keyring.missing(wanted.into_iter()), []);
        let all = (1..100).map(|number| key(number).id().into());
        assert_eq!(keyring.missing(all).len(), 99 - KEYS_MAX);
    }

    #[test]
    fn a_value_opens_at_its_place_with_its_key_only() {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let keyring = Keyring::open(Arc::clone(&disk), None).unwrap();
        let (one, two) = (key(1).id().into(), key(2).id().into());
        let id = Uuid::from_u128(7);
        let missing = keyring.seal(one, &place("a"), id, "x").unwrap_err();
        assert!(matches!(missing, KeyringError::Missing { needed } if needed == one));
        keyring.add(key(1), &[]).unwrap();
        keyring.add(key(2), &[]).unwrap();
        let (value, mark) = keyring.seal(one, &place("a"), id, "hunter2").unwrap();
        assert_eq!(keyring.seal(one, &place("a"), id, "hunter2").unwrap().1, mark);
        assert_eq!(keyring.open_value(&place("a"), &value).unwrap(), "hunter2");
        assert!(keyring.open_value(&place("b"), &value).is_err());
        let replayed = SealedValue { id: Uuid::from_u128(8), ..value.clone() };
        assert!(matches!(
            keyring.open_value(&place("a"), &replayed),
            Err(KeyringError::Value(VaultError::Changed { .. }))
        ));
        let wrong_key = SealedValue { key: two, ..value.clone() };
        assert!(matches!(
            keyring.open_value(&place("a"), &wrong_key),
            Err(KeyringError::Value(VaultError::OtherKey { .. }))
        ));

        // They are there again after a restart, but for what was thrown away.
        keyring.keep(&[two]).unwrap();
        drop(keyring);
        let keyring = Keyring::open(disk, None).unwrap();
        assert_eq!(keyring.missing([one, two].into_iter()), [one]);
        assert!(!format!("{keyring:?} {:?}", keyring.text(two)).contains("0202"));
    }

    #[test]
    fn equal_values_in_two_places_have_different_marks() {
        let keyring = Keyring::open(Arc::new(SimulatedDisk::new(1)), None).unwrap();
        let keys: [SecretKeyId; 2] = [key(1).id().into(), key(2).id().into()];
        for number in [1, 2] {
            keyring.add(key(number), &keys).unwrap();
        }
        let of_project = |project: &str, name: &str| SecretPlace {
            project: Some(project.parse().unwrap()),
            ..place(name)
        };
        let places = [place("a"), place("b"), of_project("a", "b"), of_project("b", "b")];
        let mark =
            |key, place, value| keyring.seal(key, place, Uuid::from_u128(7), value).unwrap().1;
        let marks = places.iter().flat_map(|place| {
            ["x", "y"].into_iter().flat_map(move |value| keys.map(|key| (key, place, value)))
        });
        let marks: Vec<_> = marks.map(|(key, place, value)| mark(key, place, value)).collect();
        let different: std::collections::BTreeSet<_> = marks.iter().collect();
        assert_eq!((marks.len(), different.len()), (16, 16));
        // What was marked with the key before, or without its place, is known again.
        let known = keyring.earlier_marks(keys.into_iter(), &places[0], "x");
        let without_place =
            |number| Vault::new(VALUE_PURPOSE, vec![key(number)]).unwrap().mark(b"", b"x");
        for earlier in [marks[0], marks[1], without_place(1), without_place(2)] {
            assert!(known.contains(&earlier), "{earlier} of {known:?}");
        }
        assert!(!known.contains(&mark(keys[0], &places[1], "x")));
    }

    #[test]
    fn a_record_that_is_locked_says_what_would_open_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = |byte: u8| {
            let path = directory.path().join(format!("key-{byte}"));
            key(byte).save_new(&path).unwrap();
            path
        };
        let (right, wrong) = (file(9), file(8));
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let open = |path: Option<&Path>| Keyring::open(Arc::clone(&disk), path);
        // It was there before the key was named.
        open(None).unwrap().add(key(1), &[]).unwrap();
        assert_eq!(open(Some(&right)).unwrap().missing([key(1).id().into()].into_iter()), []);
        assert!(matches!(open(None), Err(KeyringError::NoRecordKey)));
        assert!(matches!(open(Some(&wrong)), Err(KeyringError::Locked { .. })));
        assert!(open(Some(&right)).is_ok());
    }
}
