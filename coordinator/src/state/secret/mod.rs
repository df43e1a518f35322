//! Secrets: names and what is encrypted under them. What is in the log, in tables and in snapshots is ciphertext only;
//! the keys are with the members, outside of the state, which knows their ids ([`keys`]).

pub mod keys;

use std::fmt;
use std::ops::Bound::{Excluded, Unbounded};

use novacron_protocol::access::Scope;
use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{ProjectName, SecretName};
use novacron_protocol::limits::{SECRET_VALUE_BYTES_MAX, SECRETS_PER_PROJECT_MAX};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use novacron_transport::SubjectName;
use novacron_vault::PIECE_OVERHEAD_BYTES;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::keys::SecretKeyId;
use super::audit::Subject;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::origin::Origin;
use super::reply::{Accepted, Refusal, Reply};
use super::table::{Key, ROW_BYTES_MAX};

/// Bytes of all encrypted values: the fleet is held in memory, and this is 16 KiB for each of 4,096 secrets.
pub const SECRETS_BYTES_MAX: usize = 64 << 20;

/// Bytes of those of one project: an eighth, so that no project takes the room of all others.
pub const SECRETS_BYTES_PER_PROJECT_MAX: usize = SECRETS_BYTES_MAX / 8;

/// Secrets of the whole fleet: what is done to all of them when the key turns goes through all rows.
pub const SECRETS_MAX: usize = 10_000;

/// Bytes of an encrypted value.
pub const SEALED_BYTES_MAX: usize = SECRET_VALUE_BYTES_MAX + PIECE_OVERHEAD_BYTES;

/// Values in one command that encrypts anew: at most 1 MiB, a fourth of a command.
pub const RESEALED_MAX: usize = 15;

/// Between a project's name and a secret's in encoded keys: no name has it, and it sorts before what names have.
const BORDER: u8 = 0;

/// Whose secret, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretPlace {
    /// Whose; `None`: of no project.
    pub project: Option<ProjectName>,
    /// The name.
    pub name: SecretName,
}

impl SecretPlace {
    /// Where permission is needed for it.
    pub fn scope(&self) -> Scope {
        self.project.clone().map_or(Scope::Fleet, Scope::Project)
    }
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.project {
            Some(project) => write!(formatter, "{project}/{}", self.name),
            None => write!(formatter, "{}", self.name),
        }
    }
}

impl Key for SecretPlace {
    fn encode(&self) -> Vec<u8> {
        let project = self.project.as_ref().map_or("", ProjectName::as_str);
        [project.as_bytes(), &[BORDER], self.name.as_str().as_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let border = bytes.iter().position(|byte| *byte == BORDER)?;
        let (project, name) = (&bytes[..border], &bytes[border + 1..]);
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let project = match text(project)? {
            "" => None,
            project => Some(project.parse().ok()?),
        };
        Some(Self { project, name: text(name)?.parse().ok()? })
    }
}

/// An encrypted value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedValue {
    /// Drawn when it was encrypted, and with its place part of what is authenticated: no value is taken for another.
    pub id: Uuid,
    /// The key that it is encrypted with.
    pub key: SecretKeyId,
    /// The ciphertext, at most [`SEALED_BYTES_MAX`].
    pub sealed: Vec<u8>,
}

impl fmt::Debug for SealedValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes with key {}", self.sealed.len(), self.key)
    }
}

/// A secret as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// How often a value was written since it is there, from 1.
    pub version: u64,
    /// The value.
    pub value: SealedValue,
    /// When the first value was written.
    pub created_at: Timestamp,
    /// When this value was written.
    pub updated_at: Timestamp,
    /// Who wrote it; `None`: the cluster itself.
    pub updated_by: Option<SubjectName>,
}

impl Message for Secret {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "secret row";
}

/// What can be done about secrets and their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretOrder {
    /// Keep a value, in place of what is there.
    Put {
        /// Under which name.
        place: SecretPlace,
        /// The value.
        value: SealedValue,
        /// Equal for equal values of the same place, so that a request that comes again is known; says nothing without
        /// the key.
        mark: u64,
    },
    /// Remove a secret.
    Delete {
        /// Which.
        place: SecretPlace,
    },
    /// Note that somebody reads a value.
    Reveal {
        /// Which.
        place: SecretPlace,
    },
    /// Turn the key.
    Turn,
    /// The leader has made a key.
    Announce {
        /// Its id.
        key: SecretKeyId,
    },
    /// A majority of the members has the key: from now on it encrypts.
    Use {
        /// Its id.
        key: SecretKeyId,
    },
    /// The same values, encrypted with the present key; at most [`RESEALED_MAX`].
    Reseal(Vec<(SecretPlace, SealedValue)>),
    /// The key before is not needed any more.
    Forget {
        /// Its id.
        key: SecretKeyId,
    },
}

impl SecretOrder {
    /// What the audit log calls it. That values are encrypted anew changes no secret.
    pub fn action(&self) -> Option<&'static str> {
        Some(match self {
            Self::Put { .. } => "secret.put",
            Self::Delete { .. } => "secret.delete",
            Self::Reveal { .. } => "secret.reveal",
            Self::Turn => "secret-key.turn",
            Self::Announce { .. } => "secret-key.announce",
            Self::Use { .. } => "secret-key.use",
            Self::Forget { .. } => "secret-key.forget",
            Self::Reseal(_) => return None,
        })
    }

    /// The secret that it is about.
    pub fn place(&self) -> Option<&SecretPlace> {
        match self {
            Self::Put { place, .. } | Self::Delete { place } | Self::Reveal { place } => {
                Some(place)
            }
            _ => None,
        }
    }
}

impl Fleet {
    pub(super) fn order_secret(
        &mut self,
        now: &mut Applying,
        origin: &Origin,
        order: &SecretOrder,
    ) -> Reply {
        match order {
            SecretOrder::Put { place, value, .. } => self.put_secret(now, origin, place, value),
            SecretOrder::Delete { place } => self.delete_secret(now, place),
            SecretOrder::Reveal { place } => {
                self.require_secret(place).map(|row| Accepted::SecretValue(row.value.id))
            }
            SecretOrder::Reseal(values) => self.reseal(values),
            SecretOrder::Turn => self.turn_key(now),
            SecretOrder::Announce { key } => self.announce_key(now, *key),
            SecretOrder::Use { key } => self.use_key(now, *key),
            SecretOrder::Forget { key } => self.forget_key(now, *key),
        }
    }

    fn delete_secret(&mut self, now: &mut Applying, place: &SecretPlace) -> Reply {
        let row = self.require_secret(place)?;
        self.index.secret_bytes -= row.value.sealed.len();
        self.secrets.remove(place);
        let about = About::of(Subject::Secret(place.clone()));
        self.emit(now, EventKind::SecretDeleted, about, format!("secret {place} was deleted"));
        Ok(Accepted::Nothing)
    }

    fn require_secret(&self, place: &SecretPlace) -> Result<&Secret, Refusal> {
        self.secrets.get(place).ok_or_else(|| Refusal::NoSuchSecret(place.clone()))
    }

    fn put_secret(
        &mut self,
        now: &mut Applying,
        origin: &Origin,
        place: &SecretPlace,
        value: &SealedValue,
    ) -> Reply {
        self.check_place(place)?;
        self.check_sealed(value)?;
        let before = self.secrets.get(place);
        let bytes = self.index.secret_bytes - before.map_or(0, |row| row.value.sealed.len())
            + value.sealed.len();
        if bytes > SECRETS_BYTES_MAX {
            let mib = SECRETS_BYTES_MAX >> 20;
            return Err(Refusal::Full(format!("all secrets have {mib} MiB; remove some")));
        }
        self.check_share(place, value.sealed.len())?;
        let version = before.map_or(1, |row| row.version + 1);
        let secret = Secret {
            version,
            value: value.clone(),
            created_at: before.map_or(now.at, |row| row.created_at),
            updated_at: now.at,
            updated_by: origin.asker().map(|asker| asker.name.clone()),
        };
        self.index.secret_bytes = bytes;
        self.secrets.insert(place.clone(), secret);
        let about = About::of(Subject::Secret(place.clone()));
        let message = format!("secret {place} has value number {version}");
        self.emit(now, EventKind::SecretSet, about, message);
        Ok(Accepted::Secret(version))
    }

    /// Whether a project has no more than its share: what one fills is missed by all others.
    fn check_share(&self, place: &SecretPlace, bytes: usize) -> Result<(), Refusal> {
        let Some(project) = &place.project else { return Ok(()) };
        let others = self.secrets_of(Some(project), None).filter(|(other, _)| *other != place);
        let all = bytes + others.map(|(_, row)| row.value.sealed.len()).sum::<usize>();
        if all > SECRETS_BYTES_PER_PROJECT_MAX {
            let mib = SECRETS_BYTES_PER_PROJECT_MAX >> 20;
            return Err(Refusal::Full(format!(
                "the secrets of a project have {mib} MiB; remove some"
            )));
        }
        Ok(())
    }

    /// Whether a secret may be there.
    fn check_place(&self, place: &SecretPlace) -> Result<(), Refusal> {
        if let Some(project) = &place.project
            && self.projects.get(project).is_none()
        {
            return Err(Refusal::NoSuchProject(project.clone()));
        }
        if self.secrets.get(place).is_some() {
            return Ok(());
        }
        let own = self.secrets_of(place.project.as_ref(), None).count();
        if own >= SECRETS_PER_PROJECT_MAX || self.secrets.len() >= SECRETS_MAX {
            return Err(Refusal::Full(format!(
                "a project has at most {SECRETS_PER_PROJECT_MAX} secrets, and all have {SECRETS_MAX}; remove some"
            )));
        }
        Ok(())
    }

    fn check_sealed(&self, value: &SealedValue) -> Result<(), Refusal> {
        let bytes = value.sealed.len();
        if bytes > SEALED_BYTES_MAX {
            let problem = format!("{bytes} bytes encrypted; at most {SEALED_BYTES_MAX}");
            return Err(Refusal::Invalid { field: "value".to_owned(), problem });
        }
        if self.secret_keys().opens(value.key) {
            return Ok(());
        }
        // The key turned twice while this was on its way; its members may have thrown it away.
        Err(Refusal::Conflict(format!(
            "the key {} of secrets is of the past: ask again",
            value.key
        )))
    }

    /// Replaces values by the same ones encrypted anew. What was written meanwhile stays.
    fn reseal(&mut self, values: &[(SecretPlace, SealedValue)]) -> Reply {
        let sealing = self.secret_keys().sealing;
        for (place, value) in values.iter().take(RESEALED_MAX) {
            let Some(row) = self.secrets.get(place) else { continue };
            let is_same = row.value.id == value.id && row.value.sealed.len() == value.sealed.len();
            if is_same && Some(value.key) == sealing {
                self.secrets.update(place, |row| row.value = value.clone());
            }
        }
        Ok(Accepted::Nothing)
    }

    /// Removes the secrets of a project that is gone.
    pub(super) fn forget_secrets(&mut self, project: &ProjectName) {
        let own = self.secrets_of(Some(project), None);
        let own: Vec<_> = own.map(|(place, _)| place.clone()).collect();
        for place in own {
            let gone = self.secrets.remove(&place).map_or(0, |row| row.value.sealed.len());
            self.index.secret_bytes -= gone;
        }
    }

    /// A secret.
    pub fn secret(&self, place: &SecretPlace) -> Option<&Secret> {
        self.secrets.get(place)
    }

    /// The secrets of a project, or of none, behind a name, in order.
    pub fn secrets_of<'a>(
        &'a self,
        project: Option<&'a ProjectName>,
        after: Option<&SecretName>,
    ) -> impl Iterator<Item = (&'a SecretPlace, &'a Secret)> + use<'a> {
        let place =
            |name: &SecretName| SecretPlace { project: project.cloned(), name: name.clone() };
        let from = after.map_or(Unbounded, |name| Excluded(place(name)));
        let rows = self.secrets.range((from, Unbounded));
        let rows = rows.skip_while(move |(place, _)| place.project.as_ref() < project);
        rows.take_while(move |(place, _)| place.project.as_ref() == project)
    }

    /// The secrets that are not encrypted with the present key.
    pub fn secrets_to_reseal(&self) -> impl Iterator<Item = (&SecretPlace, &Secret)> {
        let keys = self.secret_keys();
        // Without a key before the present one there is nothing that another one sealed, and nobody looks at all secrets.
        let rows = keys.previous.is_some().then(|| self.secrets.iter());
        rows.into_iter().flatten().filter(move |(_, row)| Some(row.value.key) != keys.sealing)
    }

    pub(super) fn all_secret_bytes(&self) -> usize {
        self.secrets.values().map(|row| row.value.sealed.len()).sum()
    }

    pub(super) fn check_secrets(&self) -> Result<(), String> {
        let keys = self.secret_keys();
        for (place, row) in self.secrets.iter() {
            let is_somewhere =
                place.project.as_ref().is_none_or(|project| self.projects.get(project).is_some());
            let is_bounded = row.value.sealed.len() <= SEALED_BYTES_MAX && row.version > 0;
            if !is_somewhere || !is_bounded || !keys.opens(row.value.key) {
                return Err(format!("secret {place}: of no project, too large or of no key"));
            }
        }
        let is_within =
            self.index.secret_bytes <= SECRETS_BYTES_MAX && self.secrets.len() <= SECRETS_MAX;
        is_within.then_some(()).ok_or_else(|| "too many secrets".to_owned())?;
        keys.check()
    }
}
