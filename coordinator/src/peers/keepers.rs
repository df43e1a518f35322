//! Who keeps the archive when a member leaves.
//!
//! Snapshots name archived files without their contents, which members that got one fetch later. So who leaves may be the
//! last to have some.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use novacron_protocol::api::MemberReport;
use novacron_protocol::ids::MemberId;
use tokio::time::{sleep, timeout};

use super::links::PeerLinks;
use super::message::{Answer, Call};
use crate::history::History;
use crate::raft::words::Membership;
use crate::raft::{MemberNode, Raft};

/// How long one member may take to say what it has: longer than it waits for its disk.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How often they are asked, and the time in between: a member that is only slow to answer is not taken for gone, nor one that
/// is a heartbeat behind for one that lacks something.
const TRIES: u32 = 2;
const PAUSE: Duration = Duration::from_millis(250);

/// What a member has of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holding {
    /// The last entry that it had applied when it counted.
    applied: u64,
    /// Files that it has.
    files: Option<u64>,
    /// Files that it lacks and another may have.
    wanted: Option<u64>,
}

impl Holding {
    fn is_whole(self, applied: u64) -> bool {
        self.wanted == Some(0) && self.applied >= applied
    }
}

/// Asks all members what they have. Cheap to clone.
#[derive(Clone)]
pub struct Keepers {
    history: History,
    raft: Raft,
    links: PeerLinks,
}

impl Keepers {
    /// The members of this one's cluster, and what it has itself.
    pub fn new(history: History, raft: Raft, links: PeerLinks) -> Self {
        Self { history, raft, links }
    }

    /// Checks that a member takes nothing along that nobody else has: one that stays has all that is anywhere. A member that does
    /// not answer gives nothing to the others any more, and may leave; so may one that a change in the middle takes out anyway.
    ///
    /// # Errors
    /// What those who stay have, for a person.
    pub(super) async fn check_leaving(&self, leaving: MemberId) -> Result<(), String> {
        let nodes = self.those_who_stay();
        if !nodes.contains_key(&leaving) {
            return Ok(());
        }
        let own = self.own();
        if self.links.own() != leaving && own.is_whole(own.applied) {
            return Ok(());
        }
        let ask_all = async || {
            let asked = nodes.iter().map(|(id, node)| self.ask(*id, node));
            let said: Vec<_> = nodes.keys().copied().zip(join_all(asked).await).collect();
            judge(&said, (self.links.own(), own.applied), leaving)
        };
        let mut judged = ask_all().await;
        for _ in 1..TRIES {
            if judged == Verdict::Kept {
                break;
            }
            sleep(PAUSE).await;
            judged = ask_all().await.or(judged);
        }
        match judged {
            Verdict::Kept | Verdict::Gone => Ok(()),
            Verdict::Last(problem) => Err(problem),
        }
    }

    /// The members, but for those that a change in the middle takes out.
    fn those_who_stay(&self) -> BTreeMap<MemberId, MemberNode> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let nodes = membership.nodes().filter(|(id, _)| stays(membership, **id));
        nodes.map(|(id, node)| (MemberId(*id), node.clone())).collect()
    }

    async fn ask(&self, member: MemberId, node: &MemberNode) -> Option<Holding> {
        if member == self.links.own() {
            return Some(self.own());
        }
        let asked = self.links.call(member, node, Call::Status);
        let Ok(Ok(Answer::Status(report))) = timeout(ANSWER_TIMEOUT, asked).await else {
            return None;
        };
        let report: MemberReport = serde_json::from_str(&report).ok()?;
        // A release before says only what it lacks.
        let wanted = report.archive_wanted.or((report.archive_missing == 0).then_some(0));
        Some(Holding { applied: report.applied, files: report.archive_files, wanted })
    }

    fn own(&self) -> Holding {
        let applied = self.applied();
        let stock = self.history.stock().ok();
        let (files, wanted) =
            (stock.as_ref().map(|stock| stock.files), stock.map(|stock| stock.wanted));
        Holding { applied, files, wanted }
    }

    fn applied(&self) -> u64 {
        self.raft.metrics().borrow().last_applied.map_or(0, |applied| applied.index)
    }
}

/// Whether a member is there when the change is over that is in the middle, if there is one.
fn stays(membership: &Membership<u64, MemberNode>, member: u64) -> bool {
    let votes = |voters: &BTreeSet<u64>| voters.contains(&member);
    let configurations = membership.get_joint_config();
    match configurations.iter().any(votes) {
        true => configurations.last().is_some_and(votes),
        false => membership.get_node(&member).is_some(),
    }
}

/// Whether a member may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Somebody who stays has everything.
    Kept,
    /// It does not answer.
    Gone,
    /// It may be the last to have something, for a person.
    Last(String),
}

impl Verdict {
    /// What is true of two questions, this one being the later: who answered once is there.
    fn or(self, before: Self) -> Self {
        match (self, before) {
            (Self::Gone, Self::Last(problem)) => Self::Last(problem),
            (later, _) => later,
        }
    }
}

/// By what members said, and by the last entry that this one had applied before it asked.
fn judge(
    members: &[(MemberId, Option<Holding>)],
    (own, applied): (MemberId, u64),
    leaving: MemberId,
) -> Verdict {
    let (leaves, stay): (Vec<_>, Vec<_>) =
        members.iter().partition(|(member, _)| *member == leaving);
    if stay.iter().any(|(_, holding)| holding.is_some_and(|holding| holding.is_whole(applied))) {
        return Verdict::Kept;
    }
    // Where nobody answers, it may be this member that is cut off.
    let mut others = stay.iter().filter(|(member, _)| *member != own).peekable();
    let is_heard = others.peek().is_none() || others.any(|(_, holding)| holding.is_some());
    match leaves.iter().find_map(|(_, holding)| *holding) {
        None if is_heard => Verdict::Gone,
        // A newcomer that has fetched nothing yet.
        Some(Holding { files: Some(0), .. }) => Verdict::Kept,
        _ => Verdict::Last(problem(&stay, leaving)),
    }
}

fn problem(stay: &[(MemberId, Option<Holding>)], leaving: MemberId) -> String {
    let others = stay.iter().map(|(member, holding)| match holding.map(|holding| holding.wanted) {
        None => format!("member {member} does not answer (if it never will, remove it first)"),
        Some(Some(0)) => format!("member {member} is behind"),
        Some(Some(wanted)) => format!("member {member} still looks for {wanted}"),
        Some(None) => format!("member {member} does not say"),
    });
    let others: Vec<_> = others.collect();
    format!(
        "member {leaving} may be the only one that has some files of the archive: {}. Ask again when another has them",
        others.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 10;

    fn holding(wanted: u64) -> Option<Holding> {
        Some(Holding { applied: AT, files: Some(7), wanted: Some(wanted) })
    }

    /// Members 1, 2 and 3, of which the last leaves.
    fn judged(members: [Option<Holding>; 3]) -> Verdict {
        let members: Vec<_> = (1..).map(MemberId).zip(members).collect();
        judge(&members, (MemberId(1), AT), MemberId(3))
    }

    #[test]
    fn one_that_stays_and_has_everything_is_enough() {
        assert_eq!(judged([None, holding(0), holding(0)]), Verdict::Kept);
        assert_eq!(judged([holding(2), holding(0), None]), Verdict::Kept);
    }

    #[test]
    fn the_last_that_may_have_something_does_not_leave() {
        let behind = Some(Holding { applied: AT - 1, files: Some(3), wanted: Some(0) });
        let silent_of_it = Some(Holding { applied: AT, files: None, wanted: None });
        for (first, says) in [
            (holding(2), "member 1 still looks for 2"),
            (None, "member 1 does not answer"),
            (behind, "member 1 is behind"),
            (silent_of_it, "member 1 does not say"),
        ] {
            let Verdict::Last(problem) = judged([first, holding(1), holding(0)]) else {
                panic!("it leaves beside {first:?}");
            };
            assert!(problem.contains(says), "{problem}");
        }
        // Who lacks something itself may have what the others lack.
        assert!(matches!(judged([holding(1), holding(1), holding(1)]), Verdict::Last(_)));
    }

    #[test]
    fn who_has_nothing_to_give_leaves() {
        assert_eq!(judged([holding(1), holding(1), None]), Verdict::Gone);
        let two = [(MemberId(1), holding(1)), (MemberId(3), None)];
        assert_eq!(judge(&two, (MemberId(1), AT), MemberId(3)), Verdict::Gone);
        let new = Some(Holding { applied: 2, files: Some(0), wanted: Some(7) });
        assert_eq!(judged([holding(1), None, new]), Verdict::Kept);
    }

    /// It is this one that is cut off.
    #[test]
    fn where_nobody_answers_nobody_is_gone() {
        assert!(matches!(judged([holding(1), None, None]), Verdict::Last(_)));
    }

    #[test]
    fn who_is_on_the_way_out_does_not_stay() {
        let nodes = BTreeMap::from([1, 2, 3].map(|id| (id, MemberNode::default())));
        let voters = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let membership = Membership::new(vec![voters(&[1, 2]), voters(&[2])], nodes);
        assert_eq!([1, 2, 3, 4].map(|id| stays(&membership, id)), [false, true, true, false]);
    }

    #[test]
    fn who_answered_once_is_there() {
        let last = || Verdict::Last(String::new());
        assert_eq!(Verdict::Gone.or(last()), last());
        assert_eq!(last().or(Verdict::Gone), last());
        assert_eq!(Verdict::Kept.or(last()), Verdict::Kept);
        assert_eq!(Verdict::Gone.or(Verdict::Gone), Verdict::Gone);
    }
}
