//! A whole fleet for a while: hosts that beat, operators that change machines and look at them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use novacron_protocol::ids::VmId;
use novacron_protocol::vm::VmState;
use tokio::try_join;

use super::Found;
use super::changes::Changes;
use super::hosts::{Counts, Hosts};
use super::load::{Load, Tally};
use super::machines;
use super::members::{self, Taken, Watched};
use super::reading::{Lists, Machines, Shows};
use super::setting::Setting;
use super::spreads::{self, Kind};
use super::stage::Stage;
use super::verdict::{Judged, Limit};
use super::work::Work;

const HOSTS: usize = 2_000;
const MACHINES: usize = 20_000;
/// Changes a second, and who makes them.
const CHANGES_PER_SECOND: u32 = 100;
const OPERATORS: usize = 32;
/// Pages and single machines that are looked at in a second, and by whom.
const READS_PER_SECOND: u32 = 10;
const READERS: usize = 8;
const WARM_UP: Duration = Duration::from_secs(3);

/// The least share of the changes that has to be acknowledged while the clock runs: those at its end are under way.
const SHARE_MIN: f64 = 0.99;
/// The most memory of a member, in MiB.
const MEMORY_MIB_MAX: f64 = 1_536.0;
/// The most that the leader may take of processors.
const PROCESSORS_MAX: f64 = 1.0;
/// The most that the 99th percentile of all requests may be, in milliseconds.
const P99_MS_MAX: f64 = 100.0;

const TITLE: &str = "Control plane: a fleet";

const METHOD: &str = "\
Three members on this machine, data on one disk. Simulated hosts, all of them on one thread of one program, each with its own
certificate and its own QUIC link to the leader, a heartbeat every 5 s; every 10 s each sends what it measured, as if all of its
machines ran, and the leader passes that on. Half of the machines run. 100 changes a second: 60
annotations, and 40 starts and stops of one machine after the other, which its host carries out and reports; beside them 10 pages of
100 machines and 10 single machines a second. Clients with mutual TLS, spread over the members; what is late is charged from when it
was due. In the end every machine has to stand as was ordered. Memory is the most that was resident since the member began, the
making of the fleet included; processors are averages over the measured time. The leader's are judged.";

/// What came of it.
struct Outcome {
    changes: Tally,
    lists: Tally,
    shows: Tally,
    members: Vec<Taken>,
    left: Left,
}

/// What must not be there in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    /// Starts and stops that no host has carried out.
    effects: u64,
    /// Machines that stand otherwise than was ordered.
    machines: usize,
    /// Sessions that were lost, each time counted.
    sessions: u64,
}

/// Runs it.
pub fn run(setting: &Setting) -> Result<Found> {
    let size = setting.size_or(HOSTS, MACHINES);
    let mut stage = Stage::set(setting, size)?;
    setting.await_idle()?;
    let outcome = measure(setting, &mut stage)?;
    let (table, verdict) = (outcome.table(), outcome.judge());
    let size = Some(size.to_string());
    Ok(Found { title: title(&stage), method: METHOD, size, table, verdict })
}

fn title(stage: &Stage) -> String {
    let (hosts, machines) = (stage.hosts.count(), stage.machines.len());
    format!("{TITLE} of {hosts} hosts and {machines} machines")
}

fn measure(setting: &Setting, stage: &mut Stage) -> Result<Outcome> {
    let (changes, seen) = (Changes::new(&stage.machines), Machines::new(&stage.machines));
    let carried_out = Counts::of(&stage.hosts.counts().carried_out);
    let load = |work: Arc<dyn Work>, clients, per_second| Load {
        work,
        clients,
        per_second: Some(per_second),
        warm_up: WARM_UP,
        measured: setting.measured,
    };
    let changing = load(Arc::new(changes.clone()), OPERATORS, CHANGES_PER_SECOND);
    let listing = load(Arc::new(Lists(seen.clone())), READERS, READS_PER_SECOND);
    let showing = load(Arc::new(Shows(seen)), READERS, READS_PER_SECOND);
    let doors = setting.doors(&stage.cluster)?;
    let watched = Watched::begin(&stage.cluster)?;
    let all = async { try_join!(changing.run(&doors), listing.run(&doors), showing.run(&doors)) };
    let (tally, lists, shows) = stage.cluster.runtime().block_on(all)?;
    let members = watched.end()?;
    stage.check()?;
    machines::await_settled(&stage.cluster, setting.interruption())?;
    let left = Left::of(stage, &changes, carried_out)?;
    Ok(Outcome { changes: tally, lists, shows, members, left })
}

impl Left {
    fn of(stage: &Stage, changes: &Changes, carried_out_before: u64) -> Result<Self> {
        let carried_out = Counts::of(&stage.hosts.counts().carried_out) - carried_out_before;
        Ok(Self {
            effects: (changes.turned() as u64).abs_diff(carried_out),
            machines: otherwise(stage, &changes.running().collect())?,
            sessions: lost(&stage.hosts),
        })
    }
}

/// Machines that do not stand as was ordered.
fn otherwise(stage: &Stage, running: &BTreeSet<VmId>) -> Result<usize> {
    let states = machines::states(&stage.cluster)?;
    let is_as_ordered = |vm: &&VmId| {
        let wanted = if running.contains(vm) { VmState::Running } else { VmState::Stopped };
        states.get(vm) == Some(&wanted)
    };
    Ok(stage.machines.iter().filter(|vm| !is_as_ordered(vm)).count())
}

fn lost(hosts: &Hosts) -> u64 {
    Counts::of(&hosts.counts().sessions) - Counts::of(&hosts.counts().connected)
}

impl Outcome {
    fn kinds(&self) -> [Kind<'_>; 3] {
        let Self { changes, lists, shows, .. } = self;
        [("changes", changes), ("vm list of 100", lists), ("vm show", shows)]
    }

    fn table(&self) -> String {
        let kinds = self.kinds();
        let all = spreads::together(&kinds);
        let rows: Vec<_> = kinds.into_iter().chain([("all", &all)]).collect();
        spreads::table(&rows) + &members::table(&self.members)
    }

    fn judge(&self) -> Vec<Judged> {
        let judged = |what: &str, value, limit| Judged { what: what.to_owned(), value, limit };
        let least = f64::from(CHANGES_PER_SECOND) * SHARE_MIN;
        let p99_ms = spreads::spread(&spreads::together(&self.kinds())).p99_ms;
        let Left { effects, machines, sessions } = self.left;
        let none = |what, count| judged(what, count, Limit::AtMost(0.0));
        vec![
            judged(
                "changes a second, all acknowledged",
                self.changes.per_second(),
                Limit::AtLeast(least),
            ),
            none("starts and stops that were not carried out once", effects as f64),
            none("machines that do not stand as was ordered", machines as f64),
            none("sessions of hosts that were lost", sessions as f64),
            judged("p99 of all requests, ms", p99_ms, Limit::AtMost(P99_MS_MAX)),
            judged(
                "memory of the largest member, MiB",
                members::largest_mib(&self.members),
                Limit::AtMost(MEMORY_MIB_MAX),
            ),
            judged(
                "processors of the leader",
                members::leaders_processors(&self.members),
                Limit::AtMost(PROCESSORS_MAX),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::latencies::Latencies;

    fn outcome(left: Left, processors: f64) -> Outcome {
        let mut latencies = Latencies::default();
        (0..100).for_each(|_| latencies.add(Duration::from_millis(5)));
        let tally = Tally { latencies, seconds: 1.0 };
        let member = Taken { leads: true, processors, memory_mib_max: 100.0 };
        let (changes, lists, shows) = (tally.clone(), tally.clone(), tally);
        Outcome { changes, lists, shows, members: vec![member], left }
    }

    fn missed(outcome: &Outcome) -> usize {
        outcome.judge().iter().filter(|judged| !judged.is_met()).count()
    }

    #[test]
    fn a_fleet_that_holds_misses_nothing() {
        let nothing = Left { effects: 0, machines: 0, sessions: 0 };
        assert_eq!(missed(&outcome(nothing, 0.9)), 0);
        assert_eq!(missed(&outcome(nothing, 1.1)), 1);
        assert_eq!(missed(&outcome(Left { effects: 1, ..nothing }, 0.9)), 1);
        assert_eq!(missed(&outcome(Left { machines: 1, sessions: 2, ..nothing }, 0.9)), 2);
    }
}
