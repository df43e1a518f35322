//! The leader's part in an upgrade: it asks what all members understand, and has the state note it. When all understand
//! more than the cluster works with, it goes up.
//!
//! | who | is asked | has to answer |
//! |---|---|---|
//! | votes, or has entered and does not vote yet | yes | before the cluster goes up |
//! | was admitted and has not entered | yes | no: whether it may enter is judged when it does, by what is noted of it |
//! | has left | no | no |
//!
//! So a member may be admitted, given another release, entered and made a voter in any order with the upgrade of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use novacron_protocol::ids::MemberId;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, new_request};
use crate::peers::LeaderLink;
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
                let own = self.leader.links().formats();
                if self.view.local(|fleet| is_due(fleet, own)) {
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

    async fn note(&self) {
        let voters = self.leader.voters();
        let nodes = self.view.local(|fleet| to_ask(fleet, &voters));
        let asked = nodes.into_iter().map(|(id, node)| self.ask(id, node));
        let answers: BTreeMap<_, _> = join_all(asked).await.into_iter().flatten().collect();
        let voters: Vec<_> = voters.into_iter().map(|(id, _)| id).collect();
        let Some(said) = self.view.local(|fleet| to_note(fleet, &voters, &answers)) else { return };
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
        let report = timeout(ANSWER_TIMEOUT, links.report(member, &node)).await.ok()?.ok()?;
        let (oldest, newest) = (report.formats_oldest, report.formats_newest);
        let formats = Formats { oldest: FormatVersion(oldest), newest: FormatVersion(newest) };
        Some((member, formats))
    }
}

/// A cluster whose members are all like this one has nothing to note.
fn is_due(fleet: &Fleet, own: Formats) -> bool {
    let mut members = fleet.members().filter(|member| !member.has_left());
    fleet.formats() < own.newest || members.any(|member| member.facts.formats != own)
}

/// Whom to ask, and where it is.
fn to_ask(fleet: &Fleet, voters: &[(MemberId, MemberNode)]) -> BTreeMap<MemberId, MemberNode> {
    let known = fleet.members().filter(|member| !member.has_left());
    let known = known.map(|member| (member.id, MemberNode::from(member.facts.clone())));
    // Where Raft and the state differ, Raft calls it there.
    known.chain(voters.iter().cloned()).collect()
}

/// What is to be noted, if it is not noted already. Unless all have answered that have to, the cluster does not go up: one
/// that is away may have gone back to an earlier release. What the others say can be noted all the same.
fn to_note(
    fleet: &Fleet,
    voters: &[MemberId],
    answers: &BTreeMap<MemberId, Formats>,
) -> Option<Vec<(MemberId, Formats)>> {
    let noted = |id: &MemberId| fleet.member(*id).map(|member| member.facts.formats);
    let present: Vec<_> = fleet.present_members().map(|member| member.id).collect();
    let mut said = answers.clone();
    let mut is_whole = true;
    for member in present.iter().chain(voters) {
        if !answers.contains_key(member) {
            is_whole = false;
            said.insert(*member, noted(member)?);
        }
    }
    let common = said.iter().filter(|(id, _)| present.contains(id));
    let common = common.map(|(_, formats)| formats.newest).min().unwrap_or_default();
    let is_news = said.iter().any(|(id, formats)| noted(id) != Some(*formats));
    let goes_up = common > fleet.formats();
    let is_due = if is_whole { is_news || goes_up } else { is_news && !goes_up };
    is_due.then(|| said.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::formats::{FIRST, NEWEST, OLDEST};
    use crate::state::member::MemberFacts;
    use crate::state::testing::{Scene, member_facts};
    use crate::state::{Accepted, Refusal};

    const OLD: Formats = Formats { oldest: FIRST, newest: FormatVersion(NEWEST.0 - 1) };
    const NEW: Formats = Formats { oldest: OLDEST, newest: NEWEST };

    /// What an operator does with a member.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Step {
        /// It gets an id.
        Admit,
        /// It is started: from now on it answers, and asks to enter.
        Start,
        /// It has caught up and votes.
        Promote,
        /// It gets the program of this release.
        Upgrade,
    }
    use Step::{Admit, Promote, Start, Upgrade};

    /// A member as it really is, whatever the state says of it.
    #[derive(Debug, Clone, Copy)]
    struct Program {
        id: Option<MemberId>,
        formats: Formats,
        runs: bool,
        votes: bool,
    }

    struct World {
        scene: Scene,
        programs: [Program; 3],
    }

    impl World {
        /// One member of the release before.
        fn new() -> Self {
            let mut scene = Scene::new();
            let (cluster, operator) =
                (novacron_protocol::ids::ClusterId(scene.id()), "admin".parse().unwrap());
            let member = MemberFacts { formats: OLD, ..member_facts("c1") };
            scene.apply(Body::FoundCluster { cluster, member, operator }).unwrap();
            let absent = Program { id: None, formats: OLD, runs: false, votes: false };
            let first = Program { id: Some(MemberId(1)), runs: true, votes: true, ..absent };
            Self { scene, programs: [first, absent, absent] }
        }

        fn take(&mut self, at: usize, step: Step) {
            match step {
                Admit => self.admit(at),
                Start => self.programs[at].runs = true,
                // Who has not come to enter does not vote.
                Promote => self.programs[at].votes = true,
                Upgrade => self.programs[at].formats = NEW,
            }
        }

        /// Who is refused joins again later.
        fn admit(&mut self, at: usize) {
            let formats = self.programs[at].formats;
            let facts = MemberFacts { formats, ..member_facts(&format!("c{}", at + 1)) };
            match self.scene.apply(Body::AdmitMember(facts)) {
                Ok(Accepted::Member(id)) => self.programs[at].id = Some(id),
                Err(Refusal::OtherFormats(_)) => {}
                other => panic!("{other:?}"),
            }
        }

        fn enter(&mut self, at: usize) {
            let Program { id: Some(member), formats, runs: true, .. } = self.programs[at] else {
                return;
            };
            // As other members answer the call of one that is too old.
            if formats.check(self.scene.fleet.formats()).is_ok() {
                let entered = self.scene.apply(Body::EnterMember { member });
                assert!(matches!(entered, Ok(_) | Err(Refusal::OtherFormats(_))), "{entered:?}");
            }
        }

        /// What the leader does every two seconds.
        fn do_duty(&mut self) {
            let voters = self.programs.iter().filter(|one| one.votes);
            let voters: Vec<_> = voters.filter_map(|one| one.id).collect();
            let nodes: Vec<_> =
                voters.iter().map(|id| (*id, MemberNode::at(String::new()))).collect();
            if !is_due(&self.scene.fleet, NEW) {
                return;
            }
            let asked = to_ask(&self.scene.fleet, &nodes);
            let answer = |id| {
                let program = self.programs.iter().find(|one| one.id == Some(id) && one.runs)?;
                Some((id, program.formats))
            };
            let answers = asked.into_keys().filter_map(answer).collect();
            if let Some(said) = to_note(&self.scene.fleet, &voters, &answers) {
                self.scene.apply(Body::NoteFormats(said)).unwrap();
            }
        }

        /// Nobody takes part who cannot read what is written.
        fn check(&self) {
            let active = self.scene.fleet.formats();
            for member in self.scene.fleet.present_members() {
                let program = self.programs.iter().find(|one| one.id == Some(member.id));
                let formats = program.map(|program| program.formats).unwrap();
                assert!(formats.check(active).is_ok(), "{member:?} is {formats:?} at {active}");
            }
        }

        fn has_entered(&self, at: usize) -> bool {
            let mut present = self.scene.fleet.present_members();
            present.any(|member| Some(member.id) == self.programs[at].id)
        }
    }

    /// All orders of the steps of several members, each member's own in its order.
    fn orders(steps: &[Vec<Step>]) -> Vec<Vec<(usize, Step)>> {
        let mut orders = Vec::new();
        for at in 0..steps.len() {
            let Some((first, rest)) = steps[at].split_first() else { continue };
            let mut left = steps.to_vec();
            left[at] = rest.to_vec();
            let rests = orders_or_end(&left);
            orders.extend(rests.into_iter().map(|rest| [vec![(at, *first)], rest].concat()));
        }
        orders
    }

    fn orders_or_end(steps: &[Vec<Step>]) -> Vec<Vec<(usize, Step)>> {
        if steps.iter().all(Vec::is_empty) { vec![Vec::new()] } else { orders(steps) }
    }

    /// Where in the life of a new member its upgrade can be.
    fn lives() -> [Vec<Step>; 4] {
        [
            vec![Upgrade, Admit, Start, Promote],
            vec![Admit, Upgrade, Start, Promote],
            vec![Admit, Start, Upgrade, Promote],
            vec![Admit, Start, Promote, Upgrade],
        ]
    }

    /// `duties` says after which steps the leader's turn comes.
    fn run(order: &[(usize, Step)], duties: impl Fn(usize) -> bool) {
        let mut world = World::new();
        for (turn, (at, step)) in order.iter().enumerate() {
            // Only what has entered is made a voter; the rest is brought up below.
            if *step != Promote || world.has_entered(*at) {
                world.take(*at, *step);
            }
            if *step == Start {
                world.enter(*at);
            }
            if duties(turn) {
                world.do_duty();
            }
            world.check();
        }
        // Whoever was refused tries again.
        for _ in 0..2 {
            for at in 0..world.programs.len() {
                if world.programs[at].id.is_none() {
                    world.admit(at);
                }
                world.enter(at);
                world.programs[at].votes = world.has_entered(at);
            }
            world.do_duty();
            world.check();
        }
        assert!((0..3).all(|at| world.programs[at].votes), "{:?}", world.programs);
        assert_eq!(world.scene.fleet.formats(), NEWEST);
        assert!(!is_due(&world.scene.fleet, NEW), "there is nothing left to do");
    }

    #[test]
    fn members_come_and_are_upgraded_in_every_order() {
        let mut count = 0;
        for second in lives() {
            // The third votes at the end: it is there that one which has entered and does not vote is in the way.
            for order in orders(&[vec![Upgrade], second, vec![Admit, Start, Upgrade]]) {
                run(&order, |_| true);
                run(&order, |turn| turn.is_multiple_of(3));
                run(&order, |_| false);
                count += 1;
            }
        }
        assert_eq!(count, 4 * 280);
    }

    /// What is noted of a cluster of two, and of one that was admitted, if these answer.
    fn noted(answers: &[(u64, Formats)]) -> Option<Vec<(u64, Formats)>> {
        let mut world = World::new();
        world.programs[1].runs = true;
        world.admit(1);
        world.enter(1);
        world.admit(2);
        let answers = answers.iter().map(|(id, formats)| (MemberId(*id), *formats)).collect();
        let said = to_note(&world.scene.fleet, &[MemberId(1)], &answers)?;
        Some(said.into_iter().map(|(id, formats)| (id.0, formats)).collect())
    }

    #[test]
    fn one_that_has_entered_is_waited_for_although_it_does_not_vote() {
        assert_eq!(noted(&[(1, OLD), (2, OLD)]), None, "nothing new");
        assert_eq!(noted(&[(1, NEW), (2, NEW)]), Some(vec![(1, NEW), (2, NEW)]));
        // It may have gone back: what the first says is noted, and the cluster stays where it is.
        assert_eq!(noted(&[(1, NEW)]), Some(vec![(1, NEW), (2, OLD)]));
    }

    #[test]
    fn what_was_admitted_is_noted_and_not_waited_for() {
        let three = [(1, OLD), (2, OLD), (3, NEW)];
        assert_eq!(noted(&three), Some(three.to_vec()));
        assert_eq!(noted(&[(1, NEW), (2, NEW), (3, OLD)]).map(|said| said.len()), Some(3));
        assert_eq!(noted(&[(3, NEW)]), Some(three.to_vec()), "whoever else is away");
    }
}
