//! API keys: what a program shows instead of a certificate. The state knows a hash of the secret, never the secret.

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::ApiKeyId;
use novacron_protocol::limits::DISPLAY_NAME_BYTES_MAX;
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use novacron_transport::SubjectName;
use novacron_transport::token::SecretHash;
use serde::{Deserialize, Serialize};

use super::audit::Subject;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::project::check_display_name;
use super::reply::{Accepted, Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// API keys of one fleet: at most 300 bytes each, so 3 MB.
pub const API_KEYS_MAX: usize = 10_000;

/// How long a key is remembered after it expired, so that people see why it stopped working: 30 days.
const REMEMBERED_MS: u64 = 30 * 24 * 3600 * 1000;

/// An API key as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// What it is filed under.
    pub id: ApiKeyId,
    /// Whom it speaks for.
    pub principal: SubjectName,
    /// What it is for.
    pub name: String,
    /// What decides whether a secret is its.
    pub secret_hash: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
}

impl Message for ApiKey {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "API key row";
}

impl Fleet {
    /// An API key.
    pub fn api_key(&self, key: ApiKeyId) -> Option<&ApiKey> {
        self.api_keys.get(&key)
    }

    /// The API keys behind an id, in order.
    pub fn api_keys_after(&self, after: Option<ApiKeyId>) -> impl Iterator<Item = &ApiKey> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, Excluded);
        self.api_keys.range((begin, Unbounded)).map(|(_, key)| key)
    }

    pub(super) fn create_key(&mut self, now: &mut Applying, key: &ApiKey) -> Reply {
        self.known_principal(&key.principal)?;
        check_key_name(&key.name)?;
        let at = now.at;
        self.forget_keys(|old| at.since_ms(old.expires_at) > REMEMBERED_MS);
        if self.api_keys.len() >= API_KEYS_MAX {
            return Err(Refusal::Full(format!("{API_KEYS_MAX} API keys")));
        }
        if self.api_keys.get(&key.id).is_some() {
            return Err(Refusal::Conflict(format!("API key {} exists already", key.id)));
        }
        let message = format!("principal {} got API key {}", key.principal, key.id);
        self.api_keys.insert(key.id, ApiKey { created_at: at, ..key.clone() });
        self.emit(now, EventKind::AccessChanged, About::of(Subject::ApiKey(key.id)), message);
        Ok(Accepted::ApiKey(key.id))
    }

    pub(super) fn revoke_key(&mut self, now: &mut Applying, id: ApiKeyId) -> Reply {
        let key = self.api_keys.remove(&id).ok_or(Refusal::NoSuchApiKey(id))?;
        let message = format!("API key {id} of principal {} was revoked", key.principal);
        self.emit(now, EventKind::AccessChanged, About::of(Subject::ApiKey(id)), message);
        Ok(Accepted::ApiKey(id))
    }

    pub(super) fn forget_keys(&mut self, is_old: impl Fn(&ApiKey) -> bool) {
        let old = self.api_keys.values().filter(|key| is_old(key));
        let old: Vec<ApiKeyId> = old.map(|key| key.id).collect();
        for id in old {
            self.api_keys.remove(&id);
        }
    }
}

fn check_key_name(name: &str) -> Result<(), Refusal> {
    if !name.is_empty() && check_display_name(name).is_ok() {
        return Ok(());
    }
    Err(Refusal::Invalid {
        field: "name".to_owned(),
        problem: format!("say what the key is for, in 1 to {DISPLAY_NAME_BYTES_MAX} bytes"),
    })
}
