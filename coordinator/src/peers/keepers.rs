//! Whether those who stay keep what there is when a member leaves: a majority that answers, and the archive.
//!
//! Without the majority nothing would answer any more, and the change could not be taken back. And snapshots name archived
//! files without their contents, which members that got one fetch later: who leaves may be the last to have some.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{join, join_all};
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
    /// Whether it can store entries.
    has_room: bool,
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

    /// Checks that those who stay go on without a member: most of those that vote answer, and one has all of the archive that is
    /// anywhere. A member that does not answer gives nothing to the others any more, and may take what only it has along; one that
    /// a change in the middle takes out leaves anyway.
    ///
    /// # Errors
    /// What is in the way, for a person.
    pub(super) async fn check_leaving(&self, leaving: MemberId) -> Result<(), String> {
        let (nodes, question) = self.question(leaving);
        if !nodes.contains_key(&leaving) {
            return Ok(());
        }
        let ask_all = async || {
            let asked = nodes.iter().map(|(id, node)| self.ask(*id, node));
            let said: Vec<_> = nodes.keys().copied().zip(join_all(asked).await).collect();
            question.judge(&said)
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
            Verdict::Silent(problem) | Verdict::Last(problem) => Err(problem),
        }
    }

    /// The members, but for those that a change in the middle takes out, and what has to be known of them.
    fn question(&self, leaving: MemberId) -> (BTreeMap<MemberId, MemberNode>, Question) {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let nodes = membership.nodes().filter(|(id, _)| stays(membership, **id));
        let nodes = nodes.map(|(id, node)| (MemberId(*id), node.clone())).collect();
        let voters = membership.get_joint_config().last().into_iter().flatten();
        let voters = voters.copied().map(MemberId).collect();
        let (own, applied) = (self.links.own(), self.applied());
        (nodes, Question { own, applied, voters, leaving })
    }

    async fn ask(&self, member: MemberId, node: &MemberNode) -> Option<Holding> {
        if member == self.links.own() {
            return Some(self.own());
        }
        let report = self.links.report(member, node);
        let condition = self.links.call(member, node, Call::Condition);
        let (report, condition) = timeout(ANSWER_TIMEOUT, join(report, condition)).await.ok()?;
        let (Ok(report), Ok(Answer::Condition { has_room, .. })) = (report, condition) else {
            return None;
        };
        // A release before says only what it lacks.
        let wanted = report.archive_wanted.or((report.archive_missing == 0).then_some(0));
        let (applied, files) = (report.applied, report.archive_files);
        Some(Holding { applied, files, wanted, has_room })
    }

    fn own(&self) -> Holding {
        let applied = self.applied();
        let stock = self.history.stock().ok();
        let (files, wanted) =
            (stock.as_ref().map(|stock| stock.files), stock.map(|stock| stock.wanted));
        // A leader without room does not come here.
        Holding { applied, files, wanted, has_room: true }
    }

    fn applied(&self) -> u64 {
        self.raft.metrics().borrow().last_applied.map_or(0, |applied| applied.index)
    }
}

/// Whether a member is there when the change is over that is in the middle, if there is one.
pub(super) fn stays(membership: &Membership<u64, MemberNode>, member: u64) -> bool {
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
    /// Most of those who would vote do not answer, for a person.
    Silent(String),
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

/// May one leave?
struct Question {
    /// This member.
    own: MemberId,
    /// The last entry that it had applied before it asked.
    applied: u64,
    /// Those that vote.
    voters: BTreeSet<MemberId>,
    /// Who leaves.
    leaving: MemberId,
}

/// Members, and what they said.
type Said = [(MemberId, Option<Holding>)];

impl Question {
    fn judge(&self, said: &Said) -> Verdict {
        let (leaves, stay): (Vec<_>, Vec<_>) =
            said.iter().partition(|(member, _)| *member == self.leaving);
        if let Some(problem) = self.without_majority(&stay) {
            return Verdict::Silent(problem);
        }
        let is_whole = |holding: Holding| holding.is_whole(self.applied);
        if stay.iter().any(|(_, holding)| holding.is_some_and(is_whole)) {
            return Verdict::Kept;
        }
        // Where nobody answers, it may be this member that is cut off.
        let mut others = stay.iter().filter(|(member, _)| *member != self.own).peekable();
        let is_heard = others.peek().is_none() || others.any(|(_, holding)| holding.is_some());
        match leaves.iter().find_map(|(_, holding)| *holding) {
            None if is_heard => Verdict::Gone,
            // A newcomer that has fetched nothing yet.
            Some(Holding { files: Some(0), .. }) => Verdict::Kept,
            _ => Verdict::Last(self.lacks(&stay)),
        }
    }

    fn without_majority(&self, stay: &Said) -> Option<String> {
        // Who has no vote changes no majority.
        if !self.voters.contains(&self.leaving) {
            return None;
        }
        let would_vote = stay.iter().filter(|(member, _)| self.voters.contains(member));
        let (answer, silent): (Vec<_>, Vec<_>) =
            would_vote.partition(|(_, holding)| holding.is_some_and(|holding| holding.has_room));
        if answer.len() >= silent.len() + usize::from(!silent.is_empty()) {
            return None;
        }
        let all = answer.len() + silent.len();
        let silent: Vec<_> = silent.iter().map(|(member, _)| member.to_string()).collect();
        Some(format!(
            "without member {} the cluster would have no majority: of the {all} others, {} does not answer or has no room. \
             Remove what will not come back first",
            self.leaving,
            silent.join(" and ")
        ))
    }

    fn lacks(&self, stay: &Said) -> String {
        let others =
            stay.iter().map(|(member, holding)| match holding.map(|holding| holding.wanted) {
                None => {
                    format!("member {member} does not answer (if it never will, remove it first)")
                }
                Some(Some(0)) => format!("member {member} is behind"),
                Some(Some(wanted)) => format!("member {member} still looks for {wanted}"),
                Some(None) => format!("member {member} does not say"),
            });
        let others: Vec<_> = others.collect();
        format!(
            "member {} may be the only one that has some files of the archive: {}. Ask again when another has them",
            self.leaving,
            others.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 10;

    fn holding(wanted: u64) -> Option<Holding> {
        Some(Holding { applied: AT, files: Some(7), wanted: Some(wanted), has_room: true })
    }

    /// Member 1 asks whether the last one may leave; so many vote.
    fn asked(members: &[Option<Holding>], voters: u64) -> Verdict {
        let said: Vec<_> = (1..).map(MemberId).zip(members.iter().copied()).collect();
        let (own, applied) = (MemberId(1), AT);
        let voters = (1..=voters).map(MemberId).collect();
        Question { own, applied, voters, leaving: MemberId(members.len() as u64) }.judge(&said)
    }

    /// The same, where this is not about the majority.
    fn judged(members: [Option<Holding>; 3]) -> Verdict {
        asked(&members, 0)
    }

    #[test]
    fn those_who_stay_have_a_majority() {
        let up = || holding(0);
        assert_eq!(asked(&[up(), up(), None], 3), Verdict::Kept);
        assert_eq!(asked(&[up(), up(), None, None], 4), Verdict::Kept);
        assert_eq!(asked(&[up(), None, up()], 2), Verdict::Kept, "it has no vote");
        let Verdict::Silent(problem) = asked(&[up(), None, up()], 3) else { panic!("it leaves") };
        assert!(problem.contains("of the 2 others, 2 does not answer"), "{problem}");
        assert!(matches!(asked(&[up(), None, None, up(), up()], 5), Verdict::Silent(_)));
        let full = holding(0).map(|holding| Holding { has_room: false, ..holding });
        assert!(matches!(asked(&[up(), full, up()], 3), Verdict::Silent(_)));
    }

    #[test]
    fn one_that_stays_and_has_everything_is_enough() {
        assert_eq!(judged([None, holding(0), holding(0)]), Verdict::Kept);
        assert_eq!(judged([holding(2), holding(0), None]), Verdict::Kept);
    }

    #[test]
    fn the_last_that_may_have_something_does_not_leave() {
        let behind =
            Some(Holding { applied: AT - 1, files: Some(3), wanted: Some(0), has_room: true });
        let silent_of_it = Some(Holding { applied: AT, files: None, wanted: None, has_room: true });
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
        assert_eq!(asked(&[holding(1), None], 0), Verdict::Gone);
        let new = Some(Holding { applied: 2, files: Some(0), wanted: Some(7), has_room: true });
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
