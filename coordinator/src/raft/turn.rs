//! Whose turn it is to call an election, and when. Pure: what is heard and what time it is are said from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::Vote;
use openraft::metrics::RaftServerMetrics;
use tokio::time::Instant;

use super::heard::Chance;
use super::timing::Timing;
use super::types::MemberNode;

/// Elections without a result after which the time between two does not grow any more: 3.2 s, and as much by chance, with
/// the usual heartbeat.
const DOUBLINGS_MAX: u32 = 3;

/// So often others are asked again at once whether they miss the leader: over a heartbeat, by which some heard it later.
const SOON_MAX: u32 = 4;

/// What Raft says of who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    own: u64,
    voters: BTreeSet<u64>,
    vote: Vote<u64>,
    leads: bool,
}

impl Standing {
    pub(super) fn of(metrics: &RaftServerMetrics<u64, MemberNode>) -> Self {
        let voters = metrics.membership_config.membership().voter_ids().collect();
        let leads = metrics.current_leader == Some(metrics.id);
        Self { own: metrics.id, voters, vote: metrics.vote, leads }
    }

    /// Whether this member leads.
    pub(super) fn leads(&self) -> bool {
        self.leads
    }

    /// Whether Raft has begun, and this member belongs to a cluster.
    pub(super) fn is_of_a_cluster(&self) -> bool {
        !self.voters.is_empty()
    }

    /// Whether this member called an election that has no result yet.
    fn is_candidate(&self) -> bool {
        !self.vote.is_committed() && self.vote.leader_id().voted_for() == Some(self.own)
    }

    /// How many are before this member: those with lower ids, without the one that is silent.
    fn place(&self) -> u32 {
        let silent = self.vote.leader_id().voted_for();
        let before = self.voters.range(..self.own).filter(|id| Some(**id) != silent);
        u32::try_from(before.count()).unwrap_or(u32::MAX)
    }
}

/// A member's turn to call an election. Pure.
#[derive(Debug)]
pub(super) struct Turn {
    timing: Timing,
    standing: Option<Standing>,
    /// Since when nothing was heard of a leader, or of somebody who wants to be it.
    since: Instant,
    /// Elections since there was a leader; those that nobody answered count as one.
    elections: u32,
    /// When an election was called here last, and the vote before it: openraft says that there is a new one when its disk
    /// has it.
    called: Option<(Instant, Vote<u64>)>,
    chance: Chance,
    /// How often it was put off since somebody was heard, and until when.
    put_off: Option<(u32, Instant)>,
    /// What a die has added.
    added: Duration,
}

impl Turn {
    pub(super) fn begin(timing: Timing, now: Instant) -> Self {
        let (elections, chance, added) = (0, Chance::Alone, Duration::ZERO);
        let (standing, called, put_off) = (None, None, None);
        Self { timing, standing, since: now, elections, called, chance, put_off, added }
    }

    pub(super) fn see(
        &mut self,
        standing: Standing,
        (heard, chance): (Instant, Chance),
        now: Instant,
    ) {
        if !standing.is_of_a_cluster() {
            return;
        }
        let last = self.standing.as_ref().map(|standing| standing.vote);
        let is_new = last.is_some_and(|last| last != standing.vote);
        // The vote for the last leader stays until the disk has another.
        let is_heard = self.called.is_none_or(|(called, _)| heard > called);
        if standing.vote.is_committed() && (is_new || is_heard) {
            self.elections = 0;
            self.added = Duration::ZERO;
        }
        if is_new {
            self.begin_silence(now);
            self.called = self.called.filter(|(_, before)| *before == standing.vote);
            if !standing.vote.is_committed() && !standing.is_candidate() {
                self.elections += 1;
            }
        }
        if heard > self.since {
            self.begin_silence(heard);
        }
        self.chance = chance;
        self.standing = Some(standing);
    }

    fn begin_silence(&mut self, since: Instant) {
        (self.since, self.put_off) = (since, None);
    }

    /// An election would have been called here, and not enough others miss the leader. They may soon: some heard it
    /// later than this member did. Answers whether that is news.
    pub(super) fn put_off(&mut self, now: Instant) -> bool {
        let before = self.put_off.map_or(0, |(times, _)| times);
        let pause = match before < SOON_MAX {
            true => self.timing.heartbeat() / 2,
            false => self.timing.stagger(),
        };
        self.put_off = Some((before + 1, now + pause));
        before == 0
    }

    /// An election was called here. `die` spreads the next one.
    pub(super) fn called(&mut self, now: Instant, die: u16) {
        self.elections = match self.chance {
            Chance::Alone => 1,
            _ => self.elections + 1,
        };
        self.called = self.standing.as_ref().map(|standing| (now, standing.vote));
        self.begin_silence(now);
        self.chance = Chance::Alone;
        self.added = self.round() * u32::from(die) / u32::from(u16::MAX);
    }

    /// It is woken later than it wanted: it stood still for so long, and heard nobody for that.
    pub(super) fn woken(&mut self, wanted: Instant, now: Instant) {
        self.since = (self.since + now.saturating_duration_since(wanted)).min(now);
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// For how long nobody was heard.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// When to look again: it is looked often, so that a time of standing still is seen.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        let often = now + self.timing.heartbeat();
        match self.due() {
            Some(due) if due > now => due.min(often),
            _ => often,
        }
    }

    /// `None` for whoever leads, or has no vote.
    fn due(&self) -> Option<Instant> {
        let standing = self.standing.as_ref()?;
        if standing.leads || !standing.voters.contains(&standing.own) {
            return None;
        }
        let lease = self.timing.lease();
        let is_being_written = self.called.is_some_and(|(_, before)| before == standing.vote);
        let wait = match (self.elections, self.chance) {
            (0, _) if standing.voters.len() == 1 => Duration::ZERO,
            (0, _) => lease + self.timing.heartbeat() / 2,
            _ if is_being_written => lease + self.added,
            (_, Chance::Alone | Chance::Open) => self.round() + self.added,
            (_, Chance::Ahead) => self.timing.stagger(),
            (_, Chance::Behind) => lease + self.round() + self.added,
        };
        let due = self.since + wait + self.timing.stagger() * standing.place();
        Some(self.put_off.map_or(due, |(_, until)| due.max(until)))
    }

    /// For how long an election is left alone.
    fn round(&self) -> Duration {
        let doublings = self.elections.saturating_sub(1).min(DOUBLINGS_MAX);
        self.timing.stagger() * 2 * (1 << doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing() -> Timing {
        Timing { heartbeat_ms: 100, election_ms_min: 1_000, ..Timing::default() }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Member `own` of `voters`, whose vote is for this member in this term.
    fn standing(own: u64, voters: u64, (term, member): (u64, u64), is_committed: bool) -> Standing {
        let vote =
            if is_committed { Vote::new_committed(term, member) } else { Vote::new(term, member) };
        let leads = is_committed && member == own;
        Standing { own, voters: (1..=voters).collect(), vote, leads }
    }

    /// How long after its beginning a turn is due that has seen this.
    fn wait(standing: Standing) -> Option<Duration> {
        let now = Instant::now();
        let mut turn = Turn::begin(timing(), now);
        turn.see(standing, (now, Chance::Alone), now);
        turn.due().map(|due| due - now)
    }

    #[test]
    fn whoever_is_left_calls_one_after_the_other() {
        let follower = |own, leader| wait(standing(own, 5, (7, leader), true)).unwrap();
        assert_eq!([2, 3, 4, 5].map(|own| follower(own, 1)), [1_050, 1_250, 1_450, 1_650].map(ms));
        assert_eq!([1, 2, 4, 5].map(|own| follower(own, 3)), [1_050, 1_250, 1_450, 1_650].map(ms));
        assert_eq!(wait(standing(3, 5, (7, 3), true)), None, "the leader");
        assert_eq!(wait(standing(9, 5, (7, 3), true)), None, "no voter");
        assert_eq!(wait(standing(1, 1, (7, 0), false)), Some(ms(0)), "nobody else");
        assert_eq!(wait(standing(2, 3, (7, 1), false)), Some(ms(1_050)), "just started");
    }

    #[test]
    fn a_leader_that_is_heard_is_waited_for_again() {
        let begin = Instant::now();
        let mut turn = Turn::begin(timing(), begin);
        let follower = || standing(2, 3, (7, 1), true);
        turn.see(follower(), (begin + ms(900), Chance::Open), begin + ms(1_049));
        assert!(!turn.is_due(begin + ms(1_949)));
        assert!(turn.is_due(begin + ms(1_950)));
        assert_eq!(turn.next_look(begin + ms(1_900)), begin + ms(1_950));
        assert_eq!(turn.next_look(begin + ms(1_000)), begin + ms(1_100), "looks every heartbeat");
        turn.see(standing(2, 3, (8, 3), true), (begin, Chance::Open), begin + ms(1_940));
        assert!(!turn.is_due(begin + ms(2_939)), "another leads");
    }

    #[test]
    fn a_time_of_standing_still_is_no_silence() {
        let begin = Instant::now();
        let mut turn = Turn::begin(timing(), begin);
        turn.see(standing(2, 3, (7, 1), true), (begin, Chance::Open), begin);
        turn.woken(begin + ms(100), begin + ms(5_100));
        assert!(!turn.is_due(begin + ms(6_049)));
        assert!(turn.is_due(begin + ms(6_050)));
    }

    /// A turn of member 2 of three whose leader, 1, was heard when it began, and who called an election then.
    fn candidate(begin: Instant, die: u16) -> Turn {
        let mut turn = Turn::begin(timing(), begin);
        turn.see(standing(2, 3, (7, 1), true), (begin, Chance::Alone), begin);
        turn.called(begin + ms(1_050), die);
        turn
    }

    #[test]
    fn each_election_without_a_result_is_left_alone_for_longer_if_somebody_answers() {
        for (chance, rounds) in
            [(Chance::Alone, [400; 5]), (Chance::Open, [400, 800, 1_600, 3_200, 3_200])]
        {
            let begin = Instant::now();
            let (mut now, mut turn) = (begin + ms(1_050), candidate(begin, 0));
            for (term, round) in (8..).zip(rounds.map(ms)) {
                turn.see(standing(2, 3, (term, 2), false), (begin, chance), now);
                // One has a lower id.
                let due = turn.due().unwrap();
                assert_eq!(due - now, round + ms(200), "{chance:?}");
                now = due;
                turn.called(now, 0);
            }
            turn.see(standing(2, 3, (20, 3), true), (now, chance), now);
            assert_eq!(turn.due(), Some(now + ms(1_250)), "there is a leader again");
        }
    }

    #[test]
    fn a_die_adds_as_much_as_a_round_at_most() {
        let begin = Instant::now();
        let (called, mut turn) = (begin + ms(1_050), candidate(begin, u16::MAX));
        turn.see(standing(2, 3, (8, 2), false), (begin, Chance::Open), called);
        assert_eq!(turn.due(), Some(called + ms(800 + 200)));
    }

    #[test]
    fn an_election_that_the_disk_does_not_have_yet_is_not_called_again() {
        let begin = Instant::now();
        let (called, mut turn) = (begin + ms(1_050), candidate(begin, 0));
        // The leader that is silent, again and again.
        turn.see(standing(2, 3, (7, 1), true), (begin, Chance::Alone), called + ms(100));
        assert_eq!(turn.due(), Some(called + ms(1_000)), "no other is left");
        turn.see(standing(2, 3, (8, 2), false), (begin, Chance::Alone), called + ms(300));
        assert_eq!(turn.due(), Some(called + ms(300 + 400 + 200)));
        let mut turn = candidate(begin, 0);
        let heard = called + ms(50);
        turn.see(standing(2, 3, (7, 1), true), (heard, Chance::Alone), called + ms(100));
        assert_eq!(turn.due(), Some(heard + ms(1_050)), "it was not silent");
    }

    #[test]
    fn whoever_alone_misses_the_leader_asks_again_soon() {
        let begin = Instant::now();
        let mut turn = Turn::begin(timing(), begin);
        turn.see(standing(2, 3, (7, 1), true), (begin, Chance::Alone), begin);
        let asked = begin + ms(1_060);
        assert!(turn.put_off(asked), "once");
        assert!(!turn.is_due(asked + ms(49)));
        assert_eq!(turn.next_look(asked), asked + ms(50));
        assert!(turn.is_due(asked + ms(50)));
        for pause in [50, 50, 50, 200, 200] {
            assert!(!turn.put_off(asked));
            assert_eq!(turn.due(), Some(asked + ms(pause)));
        }
        let heard = asked + ms(20);
        turn.see(standing(2, 3, (7, 1), true), (heard, Chance::Alone), heard);
        assert_eq!(turn.due(), Some(heard + ms(1_050)), "it was not silent");
        assert!(turn.put_off(heard), "of this silence");
    }

    #[test]
    fn what_raft_says_before_it_has_begun_is_nothing() {
        let begin = Instant::now();
        let mut turn = Turn::begin(timing(), begin);
        turn.see(standing(0, 0, (0, 0), false), (begin, Chance::Alone), begin);
        assert_eq!(turn.due(), None);
        turn.see(standing(2, 3, (7, 3), false), (begin, Chance::Alone), begin + ms(1));
        assert_eq!(turn.due(), Some(begin + ms(1_250)), "nobody has called an election since");
    }

    #[test]
    fn the_election_of_another_is_left_alone() {
        let begin = Instant::now();
        let mut turn = Turn::begin(timing(), begin);
        turn.see(standing(3, 3, (7, 1), true), (begin, Chance::Open), begin);
        let called = begin + ms(1_060);
        turn.see(standing(3, 3, (8, 2), false), (begin, Chance::Open), called);
        assert_eq!(turn.due(), Some(called + ms(400 + 200)), "one has a lower id, and calls first");
        turn.see(standing(3, 3, (8, 2), true), (called + ms(30), Chance::Open), called + ms(30));
        assert_eq!(turn.due(), Some(called + ms(30 + 1_050 + 200)));
    }

    #[test]
    fn whoever_lacks_entries_lets_others_call_first() {
        let begin = Instant::now();
        let wait = |chance| {
            let (called, mut turn) = (begin + ms(1_050), candidate(begin, u16::MAX));
            turn.see(standing(2, 3, (8, 2), false), (begin, chance), called);
            turn.due().unwrap() - called
        };
        let waits = [Chance::Ahead, Chance::Open, Chance::Behind].map(wait);
        assert_eq!(waits, [400, 1_000, 2_000].map(ms));
    }
}
