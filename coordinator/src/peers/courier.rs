//! Commands on their way to a leader elsewhere, many in one call.
//!
//! A call is a stream, two packets and a task at either end: more than the command itself costs. So commands that come while
//! calls are under way wait and share the next, as they share entries at the leader: whoever is alone waits for nobody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use novacron_protocol::ids::MemberId;
use novacron_protocol::wire::codec;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::attempt::Attempt;
use super::links::{PeerError, PeerLinks};
use super::message::{Answer, Call, Committed, PEER_MESSAGE_BYTES_MAX};
use crate::raft::words::RaftServerMetrics;
use crate::raft::{MemberNode, Raft};
use crate::state::Command;

/// How long one call may take.
pub(super) const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls with commands under way at once, to one leader: while it commits those of one, the next ones come.
const UNDER_WAY_MAX: usize = 2;

/// Commands of one call: as many as one entry has.
const TOGETHER_MAX: usize = 1024;

/// Bytes of the commands of one call; a single one may have more. The answer has to fit into a message, too: that to a
/// record of usage, of 60 bytes, can be eighteen times as long.
const TOGETHER_BYTES_MAX: usize = PEER_MESSAGE_BYTES_MAX / 32;

type Brought = Result<Committed, Attempt>;

/// Brings calls to another member that leads. Cheap to clone.
#[derive(Clone)]
pub(super) struct Courier {
    raft: Raft,
    links: PeerLinks,
    queues: Arc<Mutex<BTreeMap<MemberId, Queue>>>,
}

/// Commands for one leader.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    under_way: usize,
}

struct Waiting {
    command: Command,
    bytes: usize,
    answer: oneshot::Sender<Brought>,
}

impl Courier {
    pub(super) fn new(raft: Raft, links: PeerLinks) -> Self {
        Self { raft, links, queues: Arc::default() }
    }

    /// Asks a member as long as no other one is known to lead.
    pub(super) async fn ask(&self, leader: MemberId, call: Call) -> Result<Answer, Attempt> {
        if self.is_replaced(leader) {
            return Err(Attempt::NotDone);
        }
        let node = self.node(leader).ok_or(Attempt::NotDone)?;
        tokio::select! {
            biased;
            answer = self.links.call(leader, &node, call) => answer.map_err(Attempt::from),
            () = self.replaced(leader) => Err(Attempt::Unknown),
        }
    }

    /// Has a member propose a command, in a call that others may share. A command that nobody waits for any more, and that
    /// is not under way yet, is left.
    pub(super) async fn bring(&self, leader: MemberId, command: Command) -> Brought {
        let Some(bytes) = codec::encoded_bytes(&command) else {
            return Err(Attempt::NotPossible("the command is too large".to_owned()));
        };
        let (answer, brought) = oneshot::channel();
        let must_go = self.with(leader, |queue| {
            queue.waiting.push_back(Waiting { command, bytes, answer });
            queue.takes_off()
        });
        if must_go {
            // A task of its own: who comes first may go away before the others are answered.
            drop(tokio::spawn(self.clone().go(leader)));
        }
        brought.await.unwrap_or(Err(Attempt::Unknown))
    }

    /// Call after call, until nobody waits.
    async fn go(self, leader: MemberId) {
        while let Some(together) = self.with(leader, Queue::take) {
            let (commands, answers): (Vec<_>, Vec<_>) = together.into_iter().unzip();
            let count = commands.len();
            let brought = self.bring_together(leader, commands).await;
            for (answer, brought) in answers.into_iter().zip(each(brought, count)) {
                // Who has gone away needs no answer.
                let _ = answer.send(brought);
            }
        }
    }

    async fn bring_together(
        &self,
        leader: MemberId,
        mut commands: Vec<Command>,
    ) -> Result<Answer, Attempt> {
        let call = match (commands.len(), commands.pop()) {
            (1, Some(only)) => Call::Propose(Box::new(only)),
            (_, last) => {
                commands.extend(last);
                Call::ProposeTogether(commands)
            }
        };
        timeout(TRY_TIMEOUT, self.ask(leader, call)).await.unwrap_or(Err(Attempt::Unknown))
    }

    /// Waits until this member knows of another leader: one that died does not say so itself.
    async fn replaced(&self, leader: MemberId) {
        let mut metrics = self.raft.server_metrics();
        // An error says that consensus has ended here, and with it what this member knew of the leader.
        drop(metrics.wait_for(|metrics| is_another(metrics, leader)).await);
    }

    fn is_replaced(&self, leader: MemberId) -> bool {
        is_another(&self.raft.server_metrics().borrow(), leader)
    }

    /// Where a member is, as Raft's membership says.
    pub(super) fn node(&self, member: MemberId) -> Option<MemberNode> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().get_node(&member.0).cloned()
    }

    fn with<T>(&self, leader: MemberId, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(leader).or_default();
        let changed = change(queue);
        if queue.under_way == 0 {
            // Of those that lead no more nothing stays.
            queues.remove(&leader);
        }
        changed
    }
}

impl Queue {
    /// Whether somebody has to begin a further call.
    fn takes_off(&mut self) -> bool {
        let has_room = self.under_way < UNDER_WAY_MAX;
        self.under_way += usize::from(has_room);
        has_room
    }

    /// What goes into the next call; `None` if there is nothing more.
    fn take(&mut self) -> Option<Vec<(Command, oneshot::Sender<Brought>)>> {
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        let mut bytes = 0;
        let mut together = Vec::new();
        while let Some(next) = self.waiting.front() {
            bytes += next.bytes;
            let is_full = bytes > TOGETHER_BYTES_MAX || together.len() == TOGETHER_MAX;
            if is_full && !together.is_empty() {
                break;
            }
            let next = self.waiting.pop_front();
            together.extend(next.map(|Waiting { command, answer, .. }| (command, answer)));
        }
        if together.is_empty() {
            self.under_way -= 1;
            return None;
        }
        Some(together)
    }
}

fn is_another(metrics: &RaftServerMetrics<u64, MemberNode>, leader: MemberId) -> bool {
    metrics.current_leader.is_some_and(|current| current != leader.0)
}

/// What came of each of so many commands. An answer to other ones says nothing of these.
fn each(brought: Result<Answer, Attempt>, count: usize) -> Vec<Brought> {
    match brought {
        Ok(Answer::Reply(committed)) if count == 1 => vec![Ok(committed)],
        Ok(Answer::Replies(replies)) if replies.len() == count => {
            // As if each had been declined in a call of its own: a leader that has stopped is not this member.
            let outcome = |reply: Result<_, _>| {
                reply.map_err(|declined| Attempt::from(PeerError::Declined(declined)))
            };
            replies.into_iter().map(outcome).collect()
        }
        Ok(_) => vec![Err(Attempt::Unknown); count],
        Err(attempt) => vec![Err(attempt); count],
    }
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::RequestId;
    use novacron_protocol::time::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::peers::Declined;
    use crate::state::{Accepted, Body};

    fn waiting(number: u128, bytes: usize) -> (Waiting, oneshot::Receiver<Brought>) {
        let (request, at) = (RequestId(Uuid::from_u128(number)), Timestamp::from_unix_ms(0));
        let command = Command::of_cluster(request, at, Body::SetNodeStates(Vec::new()));
        let (answer, brought) = oneshot::channel();
        (Waiting { command, bytes, answer }, brought)
    }

    fn numbers(taken: Option<Vec<(Command, oneshot::Sender<Brought>)>>) -> Vec<u128> {
        let requests = taken.into_iter().flatten().map(|(command, _)| command.request);
        requests.map(|request| request.0.as_u128()).collect()
    }

    #[test]
    fn who_comes_while_calls_are_under_way_shares_the_next() {
        let mut queue = Queue::default();
        let brought: Vec<_> = (0..5)
            .map(|number| {
                let (next, brought) = waiting(number, 100);
                queue.waiting.push_back(next);
                let goes = queue.takes_off();
                assert_eq!(goes, number < UNDER_WAY_MAX as u128);
                if goes {
                    assert_eq!(
                        numbers(queue.take()),
                        [number],
                        "whoever is alone waits for nobody"
                    );
                }
                brought
            })
            .collect();
        assert_eq!(numbers(queue.take()), [2, 3, 4], "in the order in which they came");
        drop(brought);
        assert!(queue.take().is_none() && queue.take().is_none());
        assert_eq!(queue.under_way, 0);
    }

    #[test]
    fn a_call_has_a_bounded_number_of_commands_and_of_bytes_and_at_least_one() {
        let mut queue = Queue::default();
        let sizes = [TOGETHER_BYTES_MAX + 1, TOGETHER_BYTES_MAX / 2, TOGETHER_BYTES_MAX / 2, 1];
        let small = std::iter::repeat_n(1, TOGETHER_MAX);
        let (all, _brought): (Vec<_>, Vec<_>) = (0..)
            .zip(sizes.into_iter().chain(small))
            .map(|(number, bytes)| waiting(number, bytes))
            .unzip();
        queue.waiting.extend(all);
        assert!(queue.takes_off());
        let taken: Vec<_> = std::iter::from_fn(|| queue.take()).map(|taken| taken.len()).collect();
        assert_eq!(taken, [1, 2, TOGETHER_MAX, 1]);
    }

    #[test]
    fn what_nobody_waits_for_is_left() {
        let mut queue = Queue::default();
        let (all, mut brought): (Vec<_>, Vec<_>) = (0..3).map(|number| waiting(number, 1)).unzip();
        queue.waiting.extend(all);
        drop(brought.remove(1));
        assert!(queue.takes_off());
        assert_eq!(numbers(queue.take()), [0, 2]);
    }

    #[test]
    fn each_command_has_the_outcome_that_is_its_own() {
        let committed = |index| Committed { reply: Ok(Accepted::Nothing), index };
        let three = vec![Ok(committed(7)), Err(Declined::NoQuorum), Err(Declined::Stopped)];
        let outcomes = each(Ok(Answer::Replies(three)), 3);
        assert!(matches!(&outcomes[0], Ok(found) if *found == committed(7)));
        assert!(matches!(outcomes[1], Err(Attempt::NotDone)));
        assert!(
            matches!(outcomes[2], Err(Attempt::Unknown)),
            "the leader has stopped, not this one"
        );
        let one = each(Ok(Answer::Reply(committed(8))), 1);
        assert!(matches!(&one[..], [Ok(found)] if *found == committed(8)));
        // An answer that is not to these says nothing of them.
        for odd in [Answer::Done, Answer::Replies(Vec::new()), Answer::Reply(committed(9))] {
            let outcomes = each(Ok(odd), 3);
            assert!(
                outcomes.len() == 3
                    && outcomes.iter().all(|one| matches!(one, Err(Attempt::Unknown)))
            );
        }
        let outcomes = each(Err(Attempt::NotDone), 2);
        assert!(
            outcomes.len() == 2 && outcomes.iter().all(|one| matches!(one, Err(Attempt::NotDone)))
        );
    }
}
