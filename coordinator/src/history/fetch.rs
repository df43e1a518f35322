//! Getting what this member misses of the past from the other members.

use std::time::Duration;

use novacron_protocol::ids::MemberId;
use novacron_storage::archive::ContentHash;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{History, HistoryError};
use crate::peers::{Answer, Call, LeaderLink, PeerError};
use crate::raft::MemberNode;

/// Bytes of a file in one answer: below what a message between members may have.
pub const PART_BYTES_MAX: usize = 1 << 20;

/// Bytes of a file: what the archive takes at most, and its head.
const FILE_BYTES_MAX: usize = novacron_storage::archive::CONTENT_BYTES_MAX + 4096;

/// How often a member looks whether something is missing, beside the times when a reader found that out.
const PERIOD: Duration = Duration::from_secs(30);

/// When it looks again for what it did not get, though somebody may have it: twice as long each time, up to [`PERIOD`].
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// For one part.
const PART_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a file could not be had from a member.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the member does not have it")]
    NotThere,
    #[error("it is larger than an archived file can be")]
    TooLarge,
    #[error("the member answered something else")]
    Confused,
    #[error("no answer in time")]
    TimedOut(#[from] tokio::time::error::Elapsed),
    #[error("the member cannot be asked")]
    Peer(#[from] PeerError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl FetchError {
    /// Whether it is certain that the member has nothing of use.
    fn is_absence(&self) -> bool {
        match self {
            Self::NotThere | Self::TooLarge => true,
            Self::History(HistoryError::Archive(error)) => error.is_rot(),
            Self::History(_) | Self::Confused | Self::TimedOut(_) | Self::Peer(_) => false,
        }
    }
}

/// Fetches what is missing until `stop`: at once, whenever a reader misses something, and now and then.
pub async fn run(history: History, leader: LeaderLink, stop: CancellationToken) {
    let mut pause = PAUSE_MIN;
    loop {
        let is_settled = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            is_settled = fetch_all(&history, &leader) => is_settled,
        };
        let (wait, next) = if is_settled { (PERIOD, PAUSE_MIN) } else { (pause, pause * 2) };
        pause = next.min(PERIOD);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = history.missed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Whether everything is here then, or nowhere.
async fn fetch_all(history: &History, leader: &LeaderLink) -> bool {
    let missing = match history.stock() {
        Ok(stock) => stock.missing,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the archive cannot be listed");
            return false;
        }
    };
    let mut is_settled = true;
    for (name, hash) in missing {
        is_settled &= fetch_from_anybody(history, leader, &name, hash).await;
    }
    is_settled
}

/// Whether it is here then, or nowhere.
async fn fetch_from_anybody(
    history: &History,
    leader: &LeaderLink,
    name: &str,
    hash: ContentHash,
) -> bool {
    let others = leader.others();
    let mut is_nowhere = !others.is_empty();
    for (member, node) in others {
        match fetch(history, leader, (member, &node), name, hash).await {
            Ok(()) => {
                tracing::info!(name, %member, "fetched what was missing in the archive");
                history.note_search(name, false);
                return true;
            }
            Err(error) => {
                is_nowhere &= error.is_absence();
                let error = &error as &dyn std::error::Error;
                tracing::debug!(name, %member, error, "cannot fetch from a member");
            }
        }
    }
    history.note_search(name, is_nowhere);
    tracing::warn!(name, "no member has what is missing in the archive; trying again");
    is_nowhere
}

async fn fetch(
    history: &History,
    leader: &LeaderLink,
    (member, node): (MemberId, &MemberNode),
    name: &str,
    hash: ContentHash,
) -> Result<(), FetchError> {
    let mut file = Vec::new();
    loop {
        let call = Call::ArchivePart { name: name.to_owned(), offset: file.len() as u64 };
        let asked = leader.links().call(member, node, call);
        let part = match timeout(PART_TIMEOUT, asked).await?? {
            Answer::ArchivePart(Some(part)) => part,
            Answer::ArchivePart(None) => return Err(FetchError::NotThere),
            _ => return Err(FetchError::Confused),
        };
        if part.is_empty() {
            break;
        }
        file.extend(part);
        if file.len() > FILE_BYTES_MAX {
            return Err(FetchError::TooLarge);
        }
    }
    let (outgoing, name) = (history.outgoing.clone(), name.to_owned());
    // What came is checked whole before it counts.
    let put = move || outgoing.archive().put_physical(&name, &file, &hash);
    let written = history.work.run(put).await.map_err(HistoryError::from)?;
    Ok(written.map_err(HistoryError::from)?)
}
