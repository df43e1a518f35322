//! The leader's part in an upgrade: it asks what all members understand, and has the state note it. When all understand
//! more than the cluster works with, it goes up.

use std::time::Duration;

use futures_util::future::join_all;
use novacron_protocol::api::MemberReport;
use novacron_protocol::ids::MemberId;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, new_request};
use crate::peers::{Answer, Call, LeaderLink};
use crate::raft::MemberNode;
use crate::state::formats::{FormatVersion, Formats};
use crate::state::{Body, Command, Fleet};
use crate::status::ANSWER_TIMEOUT;
use crate::view::View;

/// How often the members are asked, while the state does not say of each what this member understands itself.
const PERIOD: Duration = Duration::from_secs(2);

/// What the duty works with.
#[derive(Clone)]
pub(crate) struct Upgrade {
    pub(crate) view: View,
    pub(crate) leader: LeaderLink,
    pub(crate) clock: Clock,
}

impl Upgrade {
    /// Asks and notes until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let asked = async {
                if self.view.local(|fleet| self.is_due(fleet)) {
                    self.note().await;
                }
                sleep(PERIOD).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = asked => {}
            }
        }
    }

    /// A cluster whose members are all like this one has nothing to note.
    fn is_due(&self, fleet: &Fleet) -> bool {
        let own = self.leader.links().formats();
        let mut members = fleet.present_members();
        fleet.formats() < own.newest || members.any(|member| member.facts.formats != own)
    }

    /// Nothing is noted unless all have answered: one that is away may have gone back to an earlier release.
    async fn note(&self) {
        let asked = self.leader.voters().into_iter().map(|(id, node)| self.ask(id, node));
        let Some(said) = join_all(asked).await.into_iter().collect::<Option<Vec<_>>>() else {
            return;
        };
        let is_known = self.view.local(|fleet| is_known(fleet, &said));
        if is_known {
            return;
        }
        let (at, body) = (self.clock.now(), Body::NoteFormats(said));
        let command = Command::of_cluster(new_request(at), at, body);
        match self.leader.desk().propose(command).await {
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => tracing::info!(%refusal, "formats are not noted"),
            Err(declined) => tracing::info!(%declined, "formats are not noted"),
        }
    }

    async fn ask(&self, member: MemberId, node: MemberNode) -> Option<(MemberId, Formats)> {
        let links = self.leader.links();
        if member == links.own() {
            return Some((member, links.formats()));
        }
        let call = links.call(member, &node, Call::Status);
        let Ok(Ok(Answer::Status(report))) = timeout(ANSWER_TIMEOUT, call).await else {
            return None;
        };
        let report: MemberReport = serde_json::from_str(&report).ok()?;
        let (oldest, newest) = (report.formats_oldest, report.formats_newest);
        let formats = Formats { oldest: FormatVersion(oldest), newest: FormatVersion(newest) };
        Some((member, formats))
    }
}

/// Whether the state says this of each already, and noting it again would not go up.
fn is_known(fleet: &Fleet, said: &[(MemberId, Formats)]) -> bool {
    let is_noted = |(id, formats): &(MemberId, Formats)| {
        fleet.member(*id).is_some_and(|member| member.facts.formats == *formats)
    };
    let common = said.iter().map(|(_, formats)| formats.newest).min().unwrap_or_default();
    said.iter().all(is_noted) && common <= fleet.formats()
}
