//! Secrets: encrypted here before they are proposed, decrypted here for those who may read them.
//!
//! | module | holds |
//! |---|---|
//! | [`keyring`] | the keys of this member |
//! | [`custody`] | getting keys from the other members, and throwing them away |
//! | [`turn`] | the leader's part: making a key, and turning it |

pub mod custody;
pub mod keyring;
pub mod turn;

use novacron_protocol::api::{Code, KeyTurn, Problem, SecretKeysView, SecretRevealed};
use novacron_protocol::ids::RequestId;
use novacron_protocol::secret::SecretText;

use self::keyring::{Keyring, KeyringError};
use crate::auth::Authorized;
use crate::clock::new_uuid;
use crate::propose::{ProposeError, Proposer};
use crate::state::secret::keys::{SecretKeys, Turn};
use crate::state::secret::{SecretOrder, SecretPlace};
use crate::state::{Accepted, Asker, Body, Command, Fleet, Origin, Reply};
use crate::view::View;

/// Why something about a secret was not done.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It was not agreed on.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// A key is missing, or a value is damaged.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The cluster has no key yet.
    #[error("the cluster is making its first key of secrets: try again in a few seconds")]
    NoKeyYet,
    /// Somebody wrote another value, or removed it, between the audit record and the reading.
    #[error("the secret was changed at the same time: ask again with a new idempotency key")]
    Changed,
}

impl SecretError {
    /// The whole answer of the API.
    pub fn to_problem(&self) -> Problem {
        let code = match self {
            Self::Propose(error) => return error.to_problem(),
            Self::Keyring(KeyringError::Missing { .. }) | Self::NoKeyYet => Code::SecretKeyMissing,
            Self::Keyring(_) => Code::Internal,
            Self::Changed => Code::Conflict,
        };
        if code == Code::Internal {
            tracing::error!(error = self as &dyn std::error::Error, "a secret cannot be used");
        }
        Problem::new(code, self.to_string())
    }
}

/// A value to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// Under which name.
    pub place: SecretPlace,
    /// The value; [`SecretText::check_value`]d.
    pub value: SecretText,
}

/// Secrets, on any member that has their key. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    proposer: Proposer,
    view: View,
    keyring: Keyring,
}

impl Secrets {
    pub(crate) fn new(proposer: Proposer, view: View, keyring: Keyring) -> Self {
        Self { proposer, view, keyring }
    }

    /// Encrypts a value and keeps it.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn put(
        &self,
        request: RequestId,
        new: Authorized<NewSecret>,
    ) -> Result<(), SecretError> {
        let (NewSecret { place, value }, asker) = new.into_parts();
        tracing::info!(%asker, %place, "asked to keep a secret");
        // This member may be behind; what is encrypted with the key before is taken, too.
        let key = self.view.local(Fleet::secret_keys).sealing.ok_or(SecretError::NoKeyYet)?;
        let id = new_uuid(self.proposer.clock().now());
        let (sealed, mark) = self.keyring.seal(key, &place, id, value.expose())?;
        let put = |mark| SecretOrder::Put { place: place.clone(), value: sealed.clone(), mark };
        let order = put(mark);
        // Its mark may have been another one when it came before: nobody is told that it is another request then.
        let keys = self.view.local(Fleet::secret_keys).wanted();
        let earlier = self.keyring.earlier_marks(keys, &place, value.expose());
        let earlier = earlier.into_iter().filter(|earlier| *earlier != mark).map(put);
        if let Some(reply) = self.answered(request, &asker, earlier) {
            return reply.map(drop).map_err(|refusal| ProposeError::from(refusal).into());
        }
        self.propose(request, asker, order).await.map(drop)
    }

    /// What a request was answered, if it was one of these orders.
    fn answered(
        &self,
        request: RequestId,
        asker: &Asker,
        mut orders: impl Iterator<Item = SecretOrder>,
    ) -> Option<Reply> {
        self.view.local(|fleet| {
            // Hardly any request comes twice.
            fleet.kept_answer(request)?;
            let at = self.proposer.clock().now();
            orders.find_map(|order| {
                let (origin, body) = (Origin::Asker(asker.clone()), Body::Secrets(order));
                fleet.answer_to(&Command { request, at, origin, body })
            })
        })
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// [`SecretError::Propose`].
    pub async fn delete(
        &self,
        request: RequestId,
        place: Authorized<SecretPlace>,
    ) -> Result<(), SecretError> {
        let (place, asker) = place.into_parts();
        tracing::info!(%asker, %place, "asked to remove a secret");
        self.propose(request, asker, SecretOrder::Delete { place }).await.map(drop)
    }

    /// Notes in the audit log that somebody reads a value, and then gives it out.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn reveal(
        &self,
        request: RequestId,
        place: Authorized<SecretPlace>,
    ) -> Result<SecretRevealed, SecretError> {
        let (place, asker) = place.into_parts();
        tracing::info!(%asker, %place, "asked for the value of a secret");
        let order = SecretOrder::Reveal { place: place.clone() };
        let noted = self.propose(request, asker, order).await?;
        let found = self.view.local(|fleet| fleet.secret(&place).cloned());
        // A request that is repeated is noted once: it is for the value that was there, and not for what came after it.
        let row = found.filter(|row| noted == Accepted::SecretValue(row.value.id));
        let row = row.ok_or(SecretError::Changed)?;
        let value = SecretText::new(self.keyring.open_value(&place, &row.value)?);
        Ok(SecretRevealed { name: place.name, version: row.version, value })
    }

    /// Begins to turn the key.
    ///
    /// # Errors
    /// [`SecretError::Propose`] if it is turning already.
    pub async fn turn(&self, request: RequestId, asked: Authorized<()>) -> Result<(), SecretError> {
        let ((), asker) = asked.into_parts();
        tracing::info!(%asker, "asked to turn the key of secrets");
        self.propose(request, asker, SecretOrder::Turn).await.map(drop)
    }

    async fn propose(
        &self,
        request: RequestId,
        asker: Asker,
        order: SecretOrder,
    ) -> Result<Accepted, SecretError> {
        let (at, origin) = (self.proposer.clock().now(), Origin::Asker(asker));
        let command = Command { request, at, origin, body: Body::Secrets(order) };
        Ok(self.proposer.propose(command).await?)
    }
}

/// The key as the world sees it.
pub fn keys_view(fleet: &Fleet) -> SecretKeysView {
    let SecretKeys { sealing, since, turn, .. } = fleet.secret_keys();
    let to_reseal = fleet.secrets_to_reseal().count() as u64;
    let turn = match turn {
        Turn::Asked => KeyTurn::Asked,
        Turn::Coming(_) => KeyTurn::Spreading,
        Turn::None if to_reseal > 0 => KeyTurn::Resealing,
        Turn::None => KeyTurn::Settled,
    };
    let key = sealing.map(|key| key.to_string());
    SecretKeysView { since: sealing.map(|_| since), key, turn, to_reseal }
}
