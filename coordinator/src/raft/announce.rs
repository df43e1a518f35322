//! When a follower is told what is committed.
//!
//! openraft 0.9 tells followers of each commit at once, in a call of its own: as many calls again as carry entries, and the
//! next entry waits for their answers. Mostly nobody is waiting there, and the next entry says it too. So a call that says
//! nothing else is answered here in the follower's place, and made [`PAUSE`] later if nothing else has said it by then.
//!
//! That is only what the follower would answer: it has just acknowledged the very entries that the call is about, to the
//! same leader ([`Acknowledged`]). A follower that has turned to another leader since is found out by the next entry or
//! heartbeat, as ever; a read that a quorum has to confirm is asked over ways of its own and never answered here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use novacron_protocol::ids::MemberId;
use openraft::raft::AppendEntriesRequest;
use openraft::{LogId, Vote};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::network::Way;
use super::types::TypeConfig;
use crate::peers::Call;

type Append = AppendEntriesRequest<TypeConfig>;

/// How long a commit may wait for the next entry: what a follower's tables are behind when no more is written.
const PAUSE: Duration = Duration::from_millis(5);

/// How long ago a follower's last acknowledgement may be.
const RECENT: Duration = Duration::from_millis(50);

/// How long a follower may take for an entry so that somebody who waits there can wait for the next one, too.
const QUICK: Duration = Duration::from_millis(5);

/// How long a late call may take; the next heartbeat says the same.
const CALL_TIMEOUT: Duration = Duration::from_millis(150);

/// Who waits for news of commits: said by those who know it, asked by those who bring the news. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Haste(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    /// Entries that are under way or certain to follow.
    entries: AtomicUsize,
    members: [Waiter; Haste::PLACES],
}

/// A member, in so far as it waits.
#[derive(Debug, Default)]
struct Waiter {
    /// Its commands that are under way.
    commands: AtomicUsize,
    /// The last entry that holds one of them.
    owed: AtomicU64,
}

/// A member's command on its way. It is over when this is dropped.
#[derive(Debug)]
pub struct Hurry(Arc<Said>, MemberId);

impl Hurry {
    /// The command is in this entry, which is committed.
    pub fn owe(&self, index: u64) {
        self.0.waiter(self.1).owed.fetch_max(index, Ordering::Relaxed);
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        // Whoever sees no command any more sees what is owed for it.
        self.0.waiter(self.1).commands.fetch_sub(1, Ordering::Release);
    }
}

impl Said {
    fn waiter(&self, member: MemberId) -> &Waiter {
        &self.members[member.0 as usize % Haste::PLACES]
    }
}

impl Haste {
    /// Members share places if there are more: then one is told at once for the other's sake.
    const PLACES: usize = 8;

    /// A command that came from a member is on its way: that member waits until it knows that it is committed.
    pub fn hurry(&self, member: MemberId) -> Hurry {
        self.0.waiter(member).commands.fetch_add(1, Ordering::Relaxed);
        Hurry(Arc::clone(&self.0), member)
    }

    /// How many entries are under way or certain to follow.
    pub fn note_entries(&self, entries: usize) {
        self.0.entries.store(entries, Ordering::Relaxed);
    }

    /// Whether a member that knows of commits up to `told` waits for more.
    fn is_awaited(&self, member: MemberId, told: Option<u64>) -> bool {
        let waiter = self.0.waiter(member);
        waiter.commands.load(Ordering::Acquire) > 0
            || Some(waiter.owed.load(Ordering::Relaxed)) > told
    }

    /// Whether an entry is about to be told to everybody.
    fn has_more(&self) -> bool {
        self.0.entries.load(Ordering::Relaxed) > 1
    }
}

/// What a follower acknowledged last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Acknowledged {
    vote: Vote<u64>,
    last: Option<LogId<u64>>,
    /// The last commit that it knows of.
    told: Option<LogId<u64>>,
    /// The last commit that it knows of or will be told late: a call with no later one is a heartbeat, and made.
    handed: Option<LogId<u64>>,
    /// When it was asked.
    asked_at: Instant,
    /// How long it took.
    took: Duration,
}

impl Acknowledged {
    /// What a request that is made now stands for once it has succeeded.
    fn by(request: &Append) -> Self {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let (vote, told) = (request.vote, request.leader_commit);
        let (asked_at, took) = (Instant::now(), Duration::ZERO);
        Self { vote, last, told, handed: told, asked_at, took }
    }

    /// Whether a request says nothing but what is committed, to a follower that certainly has it.
    fn covers(&self, request: &Append) -> bool {
        request.entries.is_empty()
            && request.vote == self.vote
            && request.prev_log_id == self.last
            && request.leader_commit > self.handed
            && request.leader_commit <= self.last
            && self.asked_at.elapsed() < RECENT
    }
}

/// The request that is being made; [`Announcements::succeeded`] takes it back.
#[derive(Debug)]
pub(super) struct Asked(Acknowledged);

/// What one follower has been told, and what waits to be said.
#[derive(Debug)]
pub(super) struct Announcements {
    way: Way,
    haste: Haste,
    acknowledged: Option<Acknowledged>,
    /// Dropped with this value, which ends the task at the other end.
    waiting: Option<watch::Sender<Option<Append>>>,
}

impl Announcements {
    /// To a follower.
    pub(super) fn new(way: Way, haste: Haste) -> Self {
        Self { way, haste, acknowledged: None, waiting: None }
    }

    /// Whether a request need not be made now. It will be, if nothing that comes until then says the same.
    pub(super) fn may_wait(&mut self, request: &Append) -> bool {
        let Some(known) = self.acknowledged.filter(|known| known.covers(request)) else {
            return false;
        };
        let is_awaited =
            self.haste.is_awaited(self.way.target(), known.told.map(|told| told.index));
        // A follower takes one call after the other: whoever waits there would wait for the next entry's disk, too.
        if is_awaited && !(self.haste.has_more() && known.took <= QUICK) {
            return false;
        }
        self.acknowledged = Some(Acknowledged { handed: request.leader_commit, ..known });
        let waiting = self.waiting.get_or_insert_with(|| {
            let (sender, waiting) = watch::channel(None);
            drop(tokio::spawn(announce(self.way.clone(), waiting)));
            sender
        });
        waiting.send_replace(Some(request.clone()));
        true
    }

    /// A request is made: until it has succeeded, nothing is known of the follower.
    pub(super) fn asking(&mut self, request: &Append) -> Asked {
        self.acknowledged = None;
        if let Some(waiting) = &self.waiting {
            waiting.send_if_modified(|waiting| waiting.take().is_some());
        }
        Asked(Acknowledged::by(request))
    }

    /// The request succeeded, all of it.
    pub(super) fn succeeded(&mut self, Asked(acknowledged): Asked) {
        let took = acknowledged.asked_at.elapsed();
        self.acknowledged = Some(Acknowledged { took, ..acknowledged });
    }
}

/// Makes the calls that nothing else has made superfluous. Ends with the leader's way to the follower: what waits then is
/// still said, since nothing will follow it. A follower that has gone on to another leader refuses it.
async fn announce(way: Way, mut waiting: watch::Receiver<Option<Append>>) {
    while waiting.changed().await.is_ok() {
        if waiting.borrow().is_none() {
            continue;
        }
        sleep(PAUSE).await;
        let request = waiting.borrow_and_update().clone();
        if let Some(request) = request {
            // What comes of it, the next entry or heartbeat finds out as well.
            drop(timeout(CALL_TIMEOUT, way.call(Call::Append(request))).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::Vote;
    use tokio::time::advance;

    use super::*;
    use crate::raft::testing::{FOLLOWER, Leader, commit, pass};

    #[tokio::test(start_paused = true)]
    async fn a_commit_goes_with_the_next_entry() {
        let mut leader = Leader::new().await;
        for index in 5..9 {
            assert!(leader.write(index, index - 1).await);
            assert!(leader.say(commit(index, index)).await);
        }
        let entries = (5..9).map(|index| (1, Some(index - 1))).collect::<Vec<_>>();
        assert_eq!(leader.follower.asked(), entries);
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_that_no_entry_follows_is_told_after_a_pause() {
        let mut leader = Leader::new().await;
        leader.write(5, 4).await;
        leader.say(commit(5, 5)).await;
        assert_eq!(leader.follower.asked(), [(1, Some(4))]);
        pass(PAUSE * 2).await;
        assert_eq!(leader.follower.asked(), [(0, Some(5))]);
        // Once.
        pass(PAUSE * 3).await;
        assert_eq!(leader.follower.asked(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_commit_is_told_at_once_unless_an_entry_will() {
        let mut leader = Leader::new().await;
        let haste = leader.haste.clone();
        leader.write(5, 4).await;
        let hurry = haste.hurry(FOLLOWER);
        leader.say(commit(5, 5)).await;
        assert_eq!(leader.follower.asked(), [(1, Some(4)), (0, Some(5))]);
        haste.note_entries(2);
        leader.write(6, 5).await;
        leader.say(commit(6, 6)).await;
        assert_eq!(leader.follower.asked(), [(1, Some(5))]);
        // Not for an entry that takes long.
        leader.follower.takes(QUICK * 2);
        leader.write(7, 6).await;
        leader.say(commit(7, 7)).await;
        assert_eq!(leader.follower.asked(), [(1, Some(6)), (0, Some(7))]);
        leader.follower.takes(Duration::ZERO);
        haste.note_entries(1);
        leader.write(8, 7).await;
        hurry.owe(8);
        drop(hurry);
        leader.say(commit(8, 8)).await;
        assert_eq!(leader.follower.asked(), [(1, Some(7)), (0, Some(8))]);
        // Who knows all that it waited for waits no more, whoever else does.
        let _of_another = haste.hurry(MemberId(3));
        leader.write(9, 8).await;
        leader.say(commit(9, 9)).await;
        assert_eq!(leader.follower.asked(), [(1, Some(8))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_is_never_answered_in_the_follower_s_place() {
        let mut leader = Leader::new().await;
        leader.write(5, 5).await;
        leader.say(commit(5, 5)).await;
        assert_eq!(leader.follower.asked(), [(1, Some(5)), (0, Some(5))]);
        // Nor if it comes while a commit waits to be told, or when that has been told.
        leader.write(6, 5).await;
        leader.say(commit(6, 6)).await;
        leader.say(commit(6, 6)).await;
        assert_eq!(leader.follower.asked(), [(1, Some(5)), (0, Some(6))]);
        // Nor what is new after a while in which nothing was heard.
        advance(RECENT).await;
        leader.write(7, 6).await;
        advance(RECENT).await;
        leader.say(commit(7, 7)).await;
        assert_eq!(leader.follower.asked(), [(1, Some(6)), (0, Some(7))]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_follower_has_acknowledged_is_answered_in_its_place() {
        let mut leader = Leader::new().await;
        leader.write(5, 4).await;
        leader.follower.asked();
        // Another term, another place in the log, a commit beyond it.
        let another = Append { vote: Vote::new_committed(4, 1), ..commit(5, 5) };
        for request in [another, commit(4, 5), commit(5, 6)] {
            leader.write(5, 4).await;
            leader.say(request).await;
            assert_eq!(leader.follower.asked().len(), 2);
        }
        // After a call that failed nothing is known.
        leader.follower.goes_away();
        assert!(!leader.write(6, 5).await);
        assert!(!leader.say(commit(6, 6)).await);
        assert_eq!(leader.follower.asked().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_told_also_if_nothing_can_follow_it() {
        let mut leader = Leader::new().await;
        leader.write(5, 4).await;
        leader.say(commit(5, 5)).await;
        let follower = Arc::clone(&leader.follower);
        follower.asked();
        drop(leader);
        pass(PAUSE * 3).await;
        assert_eq!(follower.asked(), [(0, Some(5))]);
    }
}
