//! The faults, each with the proof that it really happened.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use novacron_protocol::node::NodeState;

use super::load::Load;
use super::running::Running;
use super::site::{HostNumber, MEMBERS, NODES, Site, name};
use crate::wait::until;

/// Within which a fault must show its effect.
const EFFECT: Duration = Duration::from_secs(30);
/// For how long a fault lasts once it has shown its effect, unless the clients got so many answers before.
const LASTING: Duration = Duration::from_secs(3);
const LASTING_ANSWERS: u64 = 200;
/// What a slow disk adds to each sync.
const SLOW_SYNC: Duration = Duration::from_millis(400);

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The leader's process is killed, and what it had not synced is lost.
    KilledLeader,
    /// The same of another member.
    KilledFollower,
    /// The leader's process stands still, and goes on later as if nothing had been.
    PausedLeader,
    /// The leader loses every packet from and to the others.
    IsolatedLeader,
    /// Another member does.
    IsolatedFollower,
    /// What the leader sends is lost; it goes on hearing the others.
    MuteLeader,
    /// What another member sends is lost.
    MuteFollower,
    /// Each sync of the leader's disk takes long.
    SlowDisk,
    /// The leader's disk is full.
    FullDisk,
    /// All members lose power at once.
    PowerCut,
    /// A bit of a member's log is flipped while it is down; the member is replaced.
    DamagedLog,
    /// A member loses all of its data; it is replaced.
    WipedMember,
    /// The leader's process is killed, and what it had written stays, synced or not.
    CrashedLeader,
    /// An agent's process is killed; its guest is not.
    KilledAgent,
    /// An agent's process stands still, and goes on later.
    PausedAgent,
    /// An agent loses every packet from and to all coordinators.
    IsolatedAgent,
    /// What an agent sends to the coordinators is lost; it goes on hearing them.
    MuteAgent,
    /// What the coordinators send to an agent is lost; they go on hearing it.
    DeafAgent,
}

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Leader,
    Follower,
    Agent,
}

impl Fault {
    /// All of them, in the order in which a campaign begins.
    pub const ALL: [Self; 18] = [
        Self::KilledLeader,
        Self::KilledAgent,
        Self::IsolatedLeader,
        Self::IsolatedAgent,
        Self::PausedLeader,
        Self::MuteFollower,
        Self::PowerCut,
        Self::MuteAgent,
        Self::CrashedLeader,
        Self::SlowDisk,
        Self::DamagedLog,
        Self::PausedAgent,
        Self::KilledFollower,
        Self::MuteLeader,
        Self::FullDisk,
        Self::DeafAgent,
        Self::IsolatedFollower,
        Self::WipedMember,
    ];

    fn target(self) -> Target {
        match self {
            Self::KilledLeader
            | Self::CrashedLeader
            | Self::PausedLeader
            | Self::IsolatedLeader
            | Self::MuteLeader
            | Self::SlowDisk
            | Self::FullDisk => Target::Leader,
            Self::KilledFollower
            | Self::IsolatedFollower
            | Self::MuteFollower
            | Self::PowerCut
            | Self::DamagedLog
            | Self::WipedMember => Target::Follower,
            Self::KilledAgent
            | Self::PausedAgent
            | Self::IsolatedAgent
            | Self::MuteAgent
            | Self::DeafAgent => Target::Agent,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Does a fault to the cluster, proves that it had its effect, lets it last, heals it, and waits until the cluster is
/// whole. `other` chooses which of the others where it is not the leader, or which agent.
///
/// # Errors
/// The fault had no effect, or the cluster did not become whole.
pub fn inflict(
    site: &Site,
    (load, running): (&Load, &Running),
    fault: Fault,
    other: usize,
) -> Result<()> {
    let leader = site.leader()?;
    let followers: Vec<usize> = (0..MEMBERS.len()).filter(|member| *member != leader).collect();
    let host = match fault.target() {
        Target::Leader => leader,
        Target::Follower => followers[other % followers.len()],
        Target::Agent => MEMBERS.len() + other % NODES.len(),
    };
    site.note(&format!("{fault}: {}", name(host)));
    let performed = match fault.target() {
        Target::Agent => perform_on_agent(site, (load, running), fault, host - MEMBERS.len()),
        Target::Leader | Target::Follower => perform(site, load, fault, host),
    };
    performed.with_context(|| format!("{fault} of {}", name(host)))?;
    let whole = site.until_whole().and_then(|()| site.until_nodes_are_ready());
    whole.with_context(|| format!("after {fault} of {}", name(host)))
}

/// An agent that is silent is missed, whatever its guest does: it runs on.
fn perform_on_agent(
    site: &Site,
    (load, running): (&Load, &Running),
    fault: Fault,
    node: usize,
) -> Result<()> {
    let host = MEMBERS.len() + node;
    let silence: &dyn Fn(HostNumber) -> Result<()> = match fault {
        Fault::MuteAgent => &|member| site.cut_one_way(host, member),
        Fault::DeafAgent => &|member| site.cut_one_way(member, host),
        _ => &|member| site.cut(host, member),
    };
    match fault {
        Fault::KilledAgent => {
            site.kill(host)?;
            ensure!(!site.runs(host), "it goes on running");
        }
        Fault::PausedAgent => {
            site.signal(host, "STOP")?;
            site.until_it_stands(host)?;
        }
        _ => (0..MEMBERS.len()).try_for_each(silence)?,
    }
    let missed = until("an agent that says nothing is missed", EFFECT, || {
        Ok((site.node_state(node)? != NodeState::Ready).then_some(()))
    });
    last(load);
    ensure!(running.runs_at(site, node), "the guest ended with its agent's silence");
    match fault {
        Fault::KilledAgent => site.start(host)?,
        Fault::PausedAgent => site.signal(host, "CONT")?,
        _ => site.join_all()?,
    }
    missed
}

fn perform(site: &Site, load: &Load, fault: Fault, member: usize) -> Result<()> {
    match fault {
        Fault::KilledLeader | Fault::KilledFollower => {
            site.cut_power(&[member])?;
            ensure!(!site.runs(member), "it goes on running");
            last(load);
            site.start(member)
        }
        Fault::CrashedLeader => {
            site.kill_keeping(member)?;
            ensure!(!site.runs(member), "it goes on running");
            last(load);
            site.start(member)
        }
        Fault::PausedLeader => pause(site, load, member),
        Fault::IsolatedLeader | Fault::IsolatedFollower => {
            for other in others(member) {
                site.cut(member, other)?;
            }
            disconnected(site, load, member)
        }
        Fault::MuteLeader | Fault::MuteFollower => {
            for other in others(member) {
                site.cut_one_way(member, other)?;
            }
            disconnected(site, load, member)
        }
        Fault::SlowDisk => slow_disk(site, load, member),
        Fault::FullDisk => {
            site.set_disk_fault(member, "full", "")?;
            until("a member whose disk is full ends", EFFECT, || {
                Ok((!site.runs(member)).then_some(()))
            })?;
            last(load);
            site.heal_disk(member)?;
            site.start(member)
        }
        Fault::PowerCut => {
            site.cut_power(&[0, 1, 2])?;
            ensure!((0..MEMBERS.len()).all(|member| !site.runs(member)), "one goes on running");
            (0..MEMBERS.len()).try_for_each(|member| site.start(member))
        }
        Fault::DamagedLog => damaged_log(site, load, member),
        Fault::WipedMember => {
            site.kill(member)?;
            last(load);
            replace(site, member)
        }
        Fault::KilledAgent
        | Fault::PausedAgent
        | Fault::IsolatedAgent
        | Fault::MuteAgent
        | Fault::DeafAgent => anyhow::bail!("this is no fault of a coordinator"),
    }
}

fn others(member: usize) -> impl Iterator<Item = usize> {
    (0..MEMBERS.len()).filter(move |other| *other != member)
}

/// Lets a fault last while the clients go on, or cannot.
fn last(load: &Load) {
    let enough = load.answers() + LASTING_ANSWERS;
    // Where no quorum is left, there are no answers: then it lasts its time.
    let _ = until("the clients go on", LASTING, || Ok((load.answers() >= enough).then_some(())));
}

fn pause(site: &Site, load: &Load, member: usize) -> Result<()> {
    site.signal(member, "STOP")?;
    let stands = site.until_it_stands(member);
    last(load);
    site.signal(member, "CONT")?;
    stands
}

/// A member that cannot reach a quorum, or is not heard by one, answers nobody.
fn disconnected(site: &Site, load: &Load, member: usize) -> Result<()> {
    let silent = until("a member without a quorum answers nobody", EFFECT, || {
        Ok(site.view_of(member).is_none().then_some(()))
    });
    last(load);
    site.join_all()?;
    silent
}

fn slow_disk(site: &Site, load: &Load, member: usize) -> Result<()> {
    site.set_disk_fault(member, "sync_delay_ms", &SLOW_SYNC.as_millis().to_string())?;
    let client = site.client()?;
    let is_slow = until("a write waits for the slow disk, or somebody else leads", EFFECT, || {
        let began = Instant::now();
        client.token_create(&probe())?;
        Ok((began.elapsed() >= SLOW_SYNC || site.leader()? != member).then_some(()))
    });
    last(load);
    site.heal_disk(member)?;
    is_slow
}

/// Something that has to be written.
fn probe() -> novacron_sdk::api::TokenCreate {
    novacron_sdk::api::TokenCreate {
        role: "agent".to_owned(),
        name: None,
        ttl_seconds: Some(60),
        access: None,
    }
}

fn damaged_log(site: &Site, load: &Load, member: usize) -> Result<()> {
    site.stop(member)?;
    site.damage_log(member)?;
    last(load);
    // It may be refused before `dev` has seen it run.
    let _ = site.start(member);
    until("a member with a damaged log ends", EFFECT, || Ok((!site.runs(member)).then_some(())))?;
    let said = site.log_tail(member);
    ensure!(said.contains("offset"), "it does not say where the damage is:\n{said}");
    replace(site, member)
}

/// What was lost comes back under a new id.
fn replace(site: &Site, member: usize) -> Result<()> {
    site.remove_from_cluster(member)?;
    site.rejoin(member)
}
