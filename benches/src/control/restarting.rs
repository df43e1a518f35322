//! Members that end and start again: how long until they serve.

use std::time::Instant;

use anyhow::{Context, Result};

use super::cluster::Cluster;
use super::coordinators::await_serving;
use crate::interruption::Interruption;

/// How a member ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is asked to: SIGTERM.
    Asked,
    /// It is killed: SIGKILL.
    Killed,
}

/// In the order in which they are measured.
pub const ENDS: [End; 2] = [End::Asked, End::Killed];

impl End {
    /// As tables say it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Asked => "SIGTERM",
            Self::Killed => "SIGKILL",
        }
    }
}

/// One restart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restart {
    /// How it ended.
    pub end: End,
    /// Seconds until it had ended.
    pub ended_s: f64,
    /// Seconds from its start until it said that it serves: it has caught up with the leader then.
    pub serves_s: f64,
}

/// Restarts a follower, while the others go on.
pub fn restart_follower(
    cluster: &mut Cluster,
    end: End,
    interruption: &Interruption,
) -> Result<Restart> {
    let leader = cluster.leader()?;
    let follower = cluster.running().find(|at| *at != leader).context("nobody follows")?;
    let began = Instant::now();
    match end {
        End::Asked => cluster.end(follower, interruption)?,
        End::Killed => cluster.kill(follower),
    }
    let ended_s = began.elapsed().as_secs_f64();
    let began = Instant::now();
    cluster.start(follower)?;
    await_serving(cluster, follower)?;
    let restart = Restart { end, ended_s, serves_s: began.elapsed().as_secs_f64() };
    let Restart { ended_s, serves_s, .. } = restart;
    println!("{}: ended in {ended_s:.1} s, serves after {serves_s:.1} s", end.words());
    Ok(restart)
}

/// Ends all members, lets somebody look at what they left, and starts them again.
pub fn restart_all<T>(
    cluster: &mut Cluster,
    interruption: &Interruption,
    look: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let members: Vec<_> = cluster.running().collect();
    members.iter().try_for_each(|&at| cluster.end(at, interruption))?;
    let seen = look()?;
    members.iter().try_for_each(|&at| cluster.start(at))?;
    members.iter().try_for_each(|&at| await_serving(cluster, at))?;
    Ok(seen)
}
