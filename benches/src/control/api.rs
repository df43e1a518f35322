//! The API of a fleet under requests of every kind: how long each takes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::try_join;

use super::Found;
use super::load::{Load, Tally};
use super::members::{self, Watched};
use super::reading::{Annotations, Lists, Machines, Shows};
use super::setting::Setting;
use super::spreads::{self, Kind};
use super::stage::Stage;
use super::verdict::{Judged, Limit};
use super::work::Work;

const HOSTS: usize = 1_000;
const MACHINES: usize = 10_000;
/// Requests a second of each kind: 200 together.
const LISTS_PER_SECOND: u32 = 67;
const SHOWS_PER_SECOND: u32 = 67;
const WRITES_PER_SECOND: u32 = 66;
/// Clients of each kind: more than requests are under way at once.
const CLIENTS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(3);

/// The most that the 95th percentile of each kind may be, in milliseconds.
const P95_MS_MAX: f64 = 20.0;
/// A fleet that took less than this share of the requests was not under the load that is judged.
const SHARE_MIN: f64 = 0.98;

const TITLE: &str = "Control plane: API under 200 requests a second";

const METHOD: &str = "\
Three members on this machine, simulated hosts with their machines connected by QUIC, heartbeats every 5 s. Clients with mutual TLS,
spread over the members, ask 200 times a second: a third pages of 100 machines from anywhere in the list, a third single machines, a
third write an annotation; reads are linearizable, writes durable at a quorum. What is late is charged from when it was due.";

/// Runs it.
pub fn run(setting: &Setting) -> Result<Found> {
    let size = setting.size_or(HOSTS, MACHINES);
    let mut stage = Stage::set(setting, size)?;
    setting.await_idle()?;
    let machines = Machines::new(&stage.machines);
    let load = |work: Arc<dyn Work>, per_second| Load {
        work,
        clients: CLIENTS,
        per_second: Some(per_second),
        warm_up: WARM_UP,
        measured: setting.measured,
    };
    let lists = load(Arc::new(Lists(machines.clone())), LISTS_PER_SECOND);
    let shows = load(Arc::new(Shows(machines.clone())), SHOWS_PER_SECOND);
    let writes = load(Arc::new(Annotations(machines)), WRITES_PER_SECOND);
    let doors = setting.doors(&stage.cluster)?;
    let watched = Watched::begin(&stage.cluster)?;
    let all = async { try_join!(lists.run(&doors), shows.run(&doors), writes.run(&doors)) };
    let (lists, shows, writes) = stage.cluster.runtime().block_on(all)?;
    let members = watched.end()?;
    stage.check()?;
    let kinds = [("vm list of 100", &lists), ("vm show", &shows), ("write", &writes)];
    let mixed = spreads::together(&kinds);
    let rows: Vec<_> = kinds.into_iter().chain([("all", &mixed)]).collect();
    let table = spreads::table(&rows) + &members::table(&members);
    let (size, verdict) = (Some(size.to_string()), judge(&rows, &mixed));
    Ok(Found { title: TITLE.to_owned(), method: METHOD, size, table, verdict })
}

fn judge(rows: &[Kind<'_>], mixed: &Tally) -> Vec<Judged> {
    let wanted = f64::from(LISTS_PER_SECOND + SHOWS_PER_SECOND + WRITES_PER_SECOND);
    let asked = Judged {
        what: "requests a second".to_owned(),
        value: mixed.per_second(),
        limit: Limit::AtLeast(wanted * SHARE_MIN),
    };
    let p95 = |&(what, tally): &Kind<'_>| Judged {
        what: format!("p95 of {what}, ms"),
        value: spreads::spread(tally).p95_ms,
        limit: Limit::AtMost(P95_MS_MAX),
    };
    rows.iter().map(p95).chain([asked]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::latencies::Latencies;

    #[test]
    fn every_kind_is_judged_and_that_all_was_asked() {
        let mut latencies = Latencies::default();
        (0..200).for_each(|_| latencies.add(Duration::from_millis(20)));
        let tally = Tally { latencies, seconds: 1.0 };
        let met = |tally: &Tally| {
            let verdict = judge(&[("write", tally)], tally);
            verdict.iter().map(Judged::is_met).collect::<Vec<_>>()
        };
        assert_eq!(met(&tally), [true, true]);
        let mut slow = Tally { seconds: 2.0, ..tally };
        (0..100).for_each(|_| slow.latencies.add(Duration::from_millis(21)));
        assert_eq!(met(&slow), [false, false]);
        assert_eq!(met(&Tally::default()), [false, false]);
    }
}
