//! Which key encrypts secrets, and how it turns. The state knows ids; the keys themselves are with the members.
//!
//! ```text
//! (none) ─ Announce ► coming ─ Use ► sealing        a cluster makes its first key by itself
//! sealing ─ Turn ► asked ─ Announce ► coming ─ Use ► sealing, the old one previous ─ Forget ► sealing
//! ```
//!
//! A key is used only when a majority of the members has it: it is as durable as the log. What is encrypted with the
//! previous one is encrypted anew; only then the previous one is forgotten, or another may come.

use std::fmt;

use novacron_protocol::api::EventKind;
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use novacron_vault::KeyId;
use serde::{Deserialize, Serialize};

use crate::state::audit::Subject;
use crate::state::event::About;
use crate::state::fleet::{Applying, Fleet};
use crate::state::reply::{Accepted, Refusal, Reply};
use crate::state::table::{Only, ROW_BYTES_MAX};

/// Names a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretKeyId(pub [u8; 8]);

impl From<KeyId> for SecretKeyId {
    fn from(key: KeyId) -> Self {
        Self(key.0)
    }
}

impl fmt::Display for SecretKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        KeyId(self.0).fmt(formatter)
    }
}

impl fmt::Debug for SecretKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What is to become of the key that encrypts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Turn {
    /// It stays.
    #[default]
    None,
    /// Another one is to be made.
    Asked,
    /// Another one is on its way to the members.
    Coming(SecretKeyId),
}

/// The keys of secrets: one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretKeys {
    /// The one that encrypts; `None` until a cluster has its first.
    pub sealing: Option<SecretKeyId>,
    /// Since when.
    pub since: Timestamp,
    /// The one before, as long as something may be encrypted with it.
    pub previous: Option<SecretKeyId>,
    /// What is to become of it.
    pub turn: Turn,
}

impl Message for SecretKeys {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "secret keys row";
}

impl SecretKeys {
    /// Whether something may be encrypted with a key.
    pub fn opens(&self, key: SecretKeyId) -> bool {
        self.sealing == Some(key) || self.previous == Some(key)
    }

    /// The keys that every member should have, the newest first.
    pub fn wanted(&self) -> impl Iterator<Item = SecretKeyId> + use<> {
        let coming = match self.turn {
            Turn::Coming(key) => Some(key),
            Turn::None | Turn::Asked => None,
        };
        [coming, self.sealing, self.previous].into_iter().flatten()
    }

    /// Whether a key is to be made.
    pub fn needs_another(&self) -> bool {
        self.turn == Turn::Asked || (self.sealing.is_none() && self.turn == Turn::None)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let wanted: Vec<_> = self.wanted().collect();
        let is_twice = |(at, key)| wanted[..at].contains(key);
        let is_right = !wanted.iter().enumerate().any(is_twice)
            && (self.sealing.is_some() || self.previous.is_none());
        is_right.then_some(()).ok_or_else(|| format!("keys of secrets that cannot be: {self:?}"))
    }
}

impl Fleet {
    /// The keys of secrets.
    pub fn secret_keys(&self) -> SecretKeys {
        self.secret_keys.get(&Only).copied().unwrap_or_default()
    }

    fn set_keys(&mut self, now: &mut Applying, keys: SecretKeys, message: String) -> Reply {
        self.secret_keys.insert(Only, keys);
        let about = About::of(Subject::SecretKeys);
        self.emit(now, EventKind::SecretKeyChanged, about, message);
        Ok(Accepted::Nothing)
    }

    /// Whether a value is encrypted with another key than the present one.
    fn is_resealing(&self) -> bool {
        self.secrets_to_reseal().next().is_some()
    }

    pub(super) fn turn_key(&mut self, now: &mut Applying) -> Reply {
        let keys = self.secret_keys();
        if keys.sealing.is_none() || keys.turn != Turn::None || self.is_resealing() {
            let text = "the key of secrets is turning already: wait for its end; if its `to_reseal` stays above 0, the log \
                        of the coordinator that leads names the secrets that are damaged: set them anew or delete them";
            return Err(Refusal::Conflict(text.to_owned()));
        }
        let message = "the key of secrets is to turn".to_owned();
        self.set_keys(now, SecretKeys { turn: Turn::Asked, ..keys }, message)
    }

    /// A key that was announced and is not in use gives way: the only member that has it may be gone for good.
    pub(super) fn announce_key(&mut self, now: &mut Applying, key: SecretKeyId) -> Reply {
        let keys = self.secret_keys();
        let is_due = keys.needs_another() || matches!(keys.turn, Turn::Coming(_));
        if !is_due || keys.wanted().any(|known| known == key) {
            return Err(Refusal::Conflict("no further key of secrets is to be made".to_owned()));
        }
        let message = format!("the key {key} of secrets is on its way to the members");
        self.set_keys(now, SecretKeys { turn: Turn::Coming(key), ..keys }, message)
    }

    pub(super) fn use_key(&mut self, now: &mut Applying, key: SecretKeyId) -> Reply {
        let keys = self.secret_keys();
        if keys.turn != Turn::Coming(key) || self.is_resealing() {
            return Err(Refusal::Conflict(format!("the key {key} of secrets is not the next one")));
        }
        let (sealing, previous) = (Some(key), keys.sealing);
        let keys = SecretKeys { sealing, since: now.at, previous, turn: Turn::None };
        self.set_keys(now, keys, format!("the key {key} encrypts secrets"))
    }

    pub(super) fn forget_key(&mut self, now: &mut Applying, key: SecretKeyId) -> Reply {
        let keys = self.secret_keys();
        if keys.previous != Some(key) || self.is_resealing() {
            return Err(Refusal::Conflict(format!("the key {key} of secrets is in use")));
        }
        let message = format!("the key {key} of secrets is not needed any more");
        self.set_keys(now, SecretKeys { previous: None, ..keys }, message)
    }
}
