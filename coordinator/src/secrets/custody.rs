//! What each member does about keys of secrets: it gets those that the state names from other members, over the links
//! that only members have, and throws away those that the state does not name any more.

use std::time::Duration;

use novacron_protocol::ids::MemberId;
use novacron_vault::KeyError;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::keyring::{Keyring, KeyringError};
use crate::peers::{Answer, Call, LeaderLink, PeerError};
use crate::raft::MemberNode;
use crate::state::Fleet;
use crate::state::secret::keys::{SecretKeyId, SecretKeys};
use crate::view::View;

/// How long to wait before keys that nobody had are asked for again.
const PERIOD: Duration = Duration::from_secs(1);

/// For one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a key could not be had from a member.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the member does not have it")]
    NotThere,
    #[error("the member answered something else")]
    Confused,
    #[error("no answer in time")]
    TimedOut(#[from] tokio::time::error::Elapsed),
    #[error("the member cannot be asked")]
    Peer(#[from] PeerError),
    #[error("the member has sent no key")]
    NoKey(#[from] KeyError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// Keeps the keys of this member as the state wants them, until `stop`.
pub async fn run(keyring: Keyring, view: View, leader: LeaderLink, stop: CancellationToken) {
    let mut applied = view.applied();
    let mut seen = None;
    let mut next = Instant::now();
    loop {
        let keys = view.local(Fleet::secret_keys);
        let missing = keyring.missing(keys.wanted());
        if !missing.is_empty() && Instant::now() >= next {
            let wanted: Vec<_> = keys.wanted().collect();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = fetch_all(&keyring, &leader, &missing, &wanted) => {}
            }
            next = Instant::now() + PERIOD;
        }
        if seen != Some(keys) {
            seen = Some(keys);
            throw_away(&keyring, &keys);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep_until(next), if !missing.is_empty() => {}
            changed = applied.changed() => if changed.is_err() { return },
        }
    }
}

/// A leader holds a key before it announces it: while one may come, nothing is thrown away.
fn throw_away(keyring: &Keyring, keys: &SecretKeys) {
    if keys.needs_another() {
        return;
    }
    let wanted: Vec<_> = keys.wanted().collect();
    if let Err(error) = keyring.keep(&wanted) {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "keys of secrets that are not needed any more cannot be thrown away");
    }
}

async fn fetch_all(
    keyring: &Keyring,
    leader: &LeaderLink,
    missing: &[SecretKeyId],
    wanted: &[SecretKeyId],
) {
    for key in missing {
        for (member, node) in leader.others() {
            match fetch(keyring, leader, (member, &node), *key, wanted).await {
                Ok(()) => {
                    tracing::info!(%key, %member, "got a key of secrets");
                    break;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(%key, %member, error, "a key of secrets cannot be had");
                }
            }
        }
    }
}

async fn fetch(
    keyring: &Keyring,
    leader: &LeaderLink,
    (member, node): (MemberId, &MemberNode),
    key: SecretKeyId,
    wanted: &[SecretKeyId],
) -> Result<(), FetchError> {
    let asked = leader.links().call(member, node, Call::SecretKey(key));
    let text = match timeout(ANSWER_TIMEOUT, asked).await?? {
        Answer::SecretKey(Some(text)) => text,
        Answer::SecretKey(None) => return Err(FetchError::NotThere),
        _ => return Err(FetchError::Confused),
    };
    let found = text.key()?;
    if SecretKeyId::from(found.id()) != key {
        return Err(FetchError::Confused);
    }
    Ok(keyring.add(found, wanted)?)
}
