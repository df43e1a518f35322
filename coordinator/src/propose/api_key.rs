//! Making an API key: its secret is drawn here, goes into the one answer, and only its hash into the command.

use novacron_protocol::ids::{ApiKeyId, RequestId};
use novacron_protocol::limits::API_KEY_TTL_S_RANGE;
use novacron_transport::SubjectName;
use novacron_transport::api_key::{ApiKeySecret, SECRET_RANDOM_BYTES};

use super::{ProposeError, Proposer};
use crate::auth::Authorized;
use crate::clock::new_uuid;
use crate::state::api_key::ApiKey;
use crate::state::principal::AccessOrder;
use crate::state::{Accepted, Body, Command, Origin, Refusal};

/// Seconds that a key lives unless said: 90 days.
const TTL_SECONDS_DEFAULT: u64 = 90 * 86_400;

/// A key that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiKey {
    /// Whom it shall speak for.
    pub principal: SubjectName,
    /// What it is for.
    pub name: String,
    /// Seconds until it expires.
    pub ttl_seconds: Option<u64>,
}

impl Proposer {
    /// Makes an API key. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`ProposeError`], also for a field that cannot be.
    pub async fn create_api_key(
        &self,
        request: RequestId,
        new: Authorized<NewApiKey>,
    ) -> Result<ApiKeySecret, ProposeError> {
        let (NewApiKey { principal, name, ttl_seconds }, asker) = new.into_parts();
        let seconds = ttl_seconds.unwrap_or(TTL_SECONDS_DEFAULT);
        if !API_KEY_TTL_S_RANGE.contains(&seconds) {
            let (least, most) = (API_KEY_TTL_S_RANGE.start(), API_KEY_TTL_S_RANGE.end());
            let problem = format!("{seconds} is outside {least} to {most}");
            return Err(Refusal::Invalid { field: "ttl_seconds".to_owned(), problem }.into());
        }
        let now = self.clock().now();
        let random: [u8; SECRET_RANDOM_BYTES] = rand::random();
        let secret = ApiKeySecret::new(ApiKeyId(new_uuid(now)), random);
        let key = ApiKey {
            id: secret.id(),
            principal,
            name,
            secret_hash: secret.secret_hash(),
            created_at: now,
            expires_at: now.plus_ms(seconds * 1000),
        };
        let (origin, body) = (Origin::Asker(asker), Body::Access(AccessOrder::CreateKey(key)));
        match self.propose(Command { request, at: now, origin, body }).await? {
            Accepted::ApiKey(id) if id == secret.id() => Ok(secret),
            _ => Err(ProposeError::AnsweredBefore(
                "this request made a key before, and its secret is shown only once: revoke that \
                 and use a new idempotency key",
            )),
        }
    }
}
