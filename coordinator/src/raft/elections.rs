//! When a member calls an election.
//!
//! openraft 0.9 would wait for its lease and, after that, for a timeout that it draws once per process: twice the silence
//! that an election needs, and two members with draws too close can split every vote for ever. So its own elections are
//! off, and members call them here:
//!
//! - when the leader has been silent for the lease, which is the same on all members, the first of those that are left
//!   calls, by the order of their ids; the next one some heartbeats later, if that has not led to anything, and so on.
//!   In one term a vote for a higher id counts more, so whoever calls later is not refused for the earlier call;
//! - after an election without a result the next one waits for its end, by chance longer, and twice as long every time that
//!   somebody answers: who is alone meets nobody, and shall be there when others come;
//! - whoever has learnt that another has entries that it lacks waits a lease more, and whoever was refused only for the
//!   term, by a member that lacks entries, calls again in a later one ([`Chance`]): openraft does not let a request for a
//!   vote that it refuses for the log raise its term, so the two would go on missing each other.
//!
//! Before an election a majority has to miss the leader ([`prevote`](super::prevote)): whoever is alone with it raises no
//! term.
//!
//! A member that is at its vote for another calls none until it has answered: on a slow disk its own would end one that is
//! about to be won.
//!
//! What this member is at for the leader is no silence ([`Heard`]), nor is a time in which this process stood still: what
//! the leader said meanwhile waits to be read.

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

#[cfg(doc)]
use super::heard::Chance;
use super::heard::Heard;
use super::leaderless::Leaderless;
use super::prevote::{is_leader_missed, patience};
use super::timing::Timing;
use super::turn::{Standing, Turn};
use super::types::Raft;
use crate::metrics::LeaderlessMetrics;
use crate::peers::LeaderLink;

/// Calls elections until `stop`, or until Raft ends. Whoever is aside calls none. `leaderless` is told for how long there was no
/// leader.
pub async fn call(
    raft: Raft,
    timing: Timing,
    heard: Heard,
    leader: LeaderLink,
    leaderless: LeaderlessMetrics,
    stop: CancellationToken,
) {
    let mut metrics = raft.server_metrics();
    let mut turn = Turn::begin(timing, Instant::now());
    let mut watched = Leaderless::begin(timing.lease(), Instant::now());
    let is_due = |turn: &mut Turn, standing| {
        let now = Instant::now();
        turn.see(standing, (heard.last(), heard.chance()), now);
        turn.is_due(now) && !heard.is_voting() && !leader.desk().is_aside()
    };
    loop {
        let standing = Standing::of(&metrics.borrow_and_update());
        see(&mut watched, &standing, &heard, &leaderless);
        if is_due(&mut turn, standing) {
            let asked_until = Instant::now() + patience(timing);
            let is_missed = is_leader_missed(&leader, timing).await;
            let now = Instant::now();
            turn.woken(asked_until, now);
            watched.woken(asked_until, now);
            // Somebody may have been heard while others were asked.
            let standing = Standing::of(&metrics.borrow());
            match is_due(&mut turn, standing) {
                false => {}
                true if is_missed => elect(&raft, &heard, &mut turn).await,
                true => put_off(&mut turn),
            }
        }
        let until = turn.next_look(Instant::now());
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
            () = sleep_until(until) => {
                let now = Instant::now();
                turn.woken(until, now);
                watched.woken(until, now);
            }
        }
    }
}

/// Notes for how long there was no leader, once there is one again.
fn see(
    watched: &mut Leaderless,
    standing: &Standing,
    heard: &Heard,
    leaderless: &LeaderlessMetrics,
) {
    let now = Instant::now();
    if !standing.is_of_a_cluster() {
        return watched.forget(now);
    }
    if let Some(silence) = watched.see(standing.leads(), heard.last(), now) {
        tracing::info!(?silence, "there is a leader again");
        leaderless.ended(silence);
    }
}

async fn elect(raft: &Raft, heard: &Heard, turn: &mut Turn) {
    let silence = turn.silence(Instant::now());
    tracing::info!(?silence, "no leader is heard: calling an election");
    heard.forget_chance();
    // Fails only if Raft has stopped, which the caller notices.
    let _ = raft.trigger().elect().await;
    turn.called(Instant::now(), rand::random());
}

fn put_off(turn: &mut Turn) {
    let now = Instant::now();
    if turn.put_off(now) {
        let silence = turn.silence(now);
        tracing::info!(?silence, "no leader is heard, and not enough other members miss it");
    }
}
