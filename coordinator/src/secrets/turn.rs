//! The leader's part in the turn of the key of secrets. Each step is decided from the state and ends in the state, so
//! the next leader goes on where this one stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use novacron_protocol::ids::MemberId;
use novacron_vault::VaultKey;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::keyring::{Keyring, KeyringError};
use crate::clock::{Clock, new_request};
use crate::peers::desk::Desk;
use crate::peers::{Answer, Call, LeaderLink};
use crate::raft::MemberNode;
use crate::state::formats::SECRETS;
use crate::state::secret::keys::{SecretKeyId, SecretKeys, Turn};
use crate::state::secret::{RESEALED_MAX, SealedValue, SecretOrder, SecretPlace};
use crate::state::{Body, Command, Fleet};
use crate::view::View;

/// How long to wait after a step that could not be made.
const PAUSE: Duration = Duration::from_millis(500);

/// For one member to say whether it has a key.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the key before is held after the last value was encrypted anew: longer than any proposal that was encrypted
/// with it can be under way.
const PREVIOUS_HELD_MS: u64 = 10 * 60 * 1000;

/// What the duty works with.
#[derive(Clone)]
pub(crate) struct Turning {
    pub(crate) keyring: Keyring,
    pub(crate) view: View,
    pub(crate) leader: LeaderLink,
    pub(crate) clock: Clock,
}

/// Ids of values that their key does not decrypt. They are passed over, and the key before is kept for them.
type Damaged = BTreeSet<Uuid>;

/// What is next.
enum Step {
    /// Nothing to do until the state changes.
    Rest,
    /// Nothing to do for a while.
    Wait,
    Make,
    Spread(SecretKeyId),
    Reseal(SecretKeyId),
    Forget(SecretKeyId),
}

impl Turning {
    /// Turns what is to be turned, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (mut applied, mut damaged) = (self.view.applied(), Damaged::new());
        loop {
            let step = self.view.local(|fleet| next(fleet, &damaged));
            let is_done = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                is_done = self.take(&step, &mut damaged) => is_done,
            };
            if is_done && !matches!(step, Step::Rest) {
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = applied.changed(), if matches!(step, Step::Rest) => {
                    if changed.is_err() { return }
                }
                () = tokio::time::sleep(PAUSE), if !matches!(step, Step::Rest) => {}
            }
        }
    }

    /// Makes one step; whether it was made.
    async fn take(&self, step: &Step, damaged: &mut Damaged) -> bool {
        match step {
            Step::Rest => true,
            Step::Wait => false,
            Step::Make => self.make().await,
            Step::Spread(key) => self.spread(*key).await,
            Step::Reseal(key) => self.reseal(*key, damaged).await,
            Step::Forget(key) => self.order(SecretOrder::Forget { key: *key }).await,
        }
    }

    /// The order of durability: held here before it is announced.
    async fn make(&self) -> bool {
        let made = VaultKey::generate().map_err(KeyringError::from);
        let wanted: Vec<_> = self.view.local(Fleet::secret_keys).wanted().collect();
        let key =
            made.and_then(|key| self.keyring.add(key.clone(), &wanted).map(|()| key.id().into()));
        match key {
            Ok(key) => self.order(SecretOrder::Announce { key }).await,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "no key of secrets can be made");
                false
            }
        }
    }

    /// Has a key used when a majority of those that vote has it. If nobody who answers has it, the leader that made it is
    /// gone, perhaps for good: another one takes its place.
    async fn spread(&self, key: SecretKeyId) -> bool {
        let voters = self.leader.voters();
        let asked = voters.iter().map(|(member, node)| self.has(*member, node, key));
        let holders = join_all(asked).await.into_iter().filter(|has| *has).count();
        match holders {
            0 => self.make().await,
            _ => holders > voters.len() / 2 && self.order(SecretOrder::Use { key }).await,
        }
    }

    async fn has(&self, member: MemberId, node: &MemberNode, key: SecretKeyId) -> bool {
        if member == self.leader.links().own() {
            return self.keyring.missing([key].into_iter()).is_empty();
        }
        let asked = self.leader.links().call(member, node, Call::HasSecretKey(key));
        matches!(timeout(ANSWER_TIMEOUT, asked).await, Ok(Ok(Answer::HasSecretKey(true))))
    }

    async fn reseal(&self, key: SecretKeyId, damaged: &mut Damaged) -> bool {
        let values = self.view.local(|fleet| {
            let rows =
                fleet.secrets_to_reseal().filter(|(_, row)| !damaged.contains(&row.value.id));
            let rows = rows.take(RESEALED_MAX);
            rows.map(|(place, row)| (place.clone(), row.value.clone())).collect::<Vec<_>>()
        });
        match self.anew(key, values, damaged) {
            // There were only damaged ones: the others are next.
            Ok(values) if values.is_empty() => true,
            Ok(values) => self.order(SecretOrder::Reseal(values)).await,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "secrets cannot be encrypted anew now");
                false
            }
        }
    }

    /// Values encrypted anew, without those that cannot be decrypted by the key that they name.
    fn anew(
        &self,
        key: SecretKeyId,
        values: Vec<(SecretPlace, SealedValue)>,
        damaged: &mut Damaged,
    ) -> Result<Vec<(SecretPlace, SealedValue)>, KeyringError> {
        let mut resealed = Vec::new();
        for (place, value) in values {
            let opened = match self.keyring.open_value(&place, &value) {
                Ok(opened) => opened,
                Err(error @ (KeyringError::Value(_) | KeyringError::NoText)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, %place, "a secret is damaged: set or delete it");
                    damaged.insert(value.id);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (value, _) = self.keyring.seal(key, &place, value.id, &opened)?;
            resealed.push((place, value));
        }
        Ok(resealed)
    }

    async fn order(&self, order: SecretOrder) -> bool {
        let (at, body) = (self.clock.now(), Body::Secrets(order));
        let command = Command::of_cluster(new_request(at), at, body);
        let desk: &Desk = self.leader.desk();
        matches!(desk.propose(command).await, Ok(Ok(_)))
    }
}

fn next(fleet: &Fleet, damaged: &Damaged) -> Step {
    let keys = fleet.secret_keys();
    let SecretKeys { sealing, previous, turn, since } = keys;
    if fleet.formats() < SECRETS {
        return Step::Rest;
    }
    if let Some(key) = sealing
        && fleet.secrets_to_reseal().any(|(_, row)| !damaged.contains(&row.value.id))
    {
        return Step::Reseal(key);
    }
    match (turn, previous) {
        _ if keys.needs_another() => Step::Make,
        (Turn::Coming(key), _) => Step::Spread(key),
        // What is damaged may be repaired as long as its key is there, by a backup for example.
        (_, Some(_)) if fleet.secrets_to_reseal().next().is_some() => Step::Wait,
        (_, Some(key)) if fleet.clock() > since.plus_ms(PREVIOUS_HELD_MS) => Step::Forget(key),
        (_, Some(_)) => Step::Wait,
        (_, None) => Step::Rest,
    }
}
