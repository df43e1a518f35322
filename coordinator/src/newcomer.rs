//! A member that was admitted asks to take part until it votes.

use std::time::Duration;

use novacron_protocol::ids::MemberId;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::peers::{Answer, Call, LeaderLink};
use crate::raft::{MemberNode, Raft};
use crate::view::FleetCell;

/// How long it waits before it asks again: twice as long each time.
const PERIOD_MIN: Duration = Duration::from_millis(250);
const PERIOD_MAX: Duration = Duration::from_secs(10);

/// How long asking may take: catching up is included.
const TIMEOUT: Duration = Duration::from_secs(150);

/// A member that may not vote yet.
pub struct Newcomer {
    /// Its consensus.
    pub raft: Raft,
    /// Its way to the others.
    pub leader: LeaderLink,
    /// What it knows of the fleet.
    pub cell: FleetCell,
    /// Where others were when it was admitted.
    pub contacts: Vec<String>,
}

impl Newcomer {
    /// Asks until it votes, or until `stop`.
    pub async fn enter(self, stop: CancellationToken) {
        let own = self.leader.links().own();
        let mut period = PERIOD_MIN;
        while !self.votes(own) {
            for contact in self.contacts.iter().cloned().chain(self.other_members(own)) {
                let node = MemberNode::at(contact.clone());
                let call = Call::Enter { member: own };
                let asked = self.leader.links().call(MemberId(0), &node, call);
                let answer = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    answer = timeout(TIMEOUT, asked) => answer,
                };
                match answer {
                    Ok(Ok(Answer::Done)) => return,
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(error)) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::info!(contact, error, "cannot take part yet");
                    }
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(period) => {}
            }
            period = (period * 2).min(PERIOD_MAX);
        }
    }

    fn votes(&self, own: MemberId) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().voter_ids().any(|voter| voter == own.0)
    }

    /// Addresses of those that it knows from the time when it took part.
    fn other_members(&self, own: MemberId) -> Vec<String> {
        self.cell.look(|fleet| {
            let others = fleet.present_members().filter(|member| member.id != own);
            others.map(|member| member.facts.peer_address.clone()).collect()
        })
    }
}
