//! What a fleet costs as it grows: memory, restarts, and a page of its machines.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::Found;
use super::load::{Load, Tally};
use super::members::{self, Taken, Watched};
use super::reading::{Lists, Machines};
use super::restarting::{End, Restart, restart_follower};
use super::setting::Setting;
use super::spreads;
use super::stage::{Size, Stage};
use super::verdict::{Judged, Limit};

/// Machines of the largest fleet, and by how much smaller the others are.
const MACHINES: usize = 20_000;
const SMALLER: [usize; 3] = [20, 4, 1];
/// Machines of a host.
const PER_HOST: usize = 10;
/// Pages a second, and who asks for them.
const LISTS_PER_SECOND: u32 = 20;
const CLIENTS: usize = 8;
const WARM_UP: Duration = Duration::from_secs(2);

/// The most that a page of the largest fleet may take, as a multiple of one of the smallest.
const GROWTH_MAX: f64 = 1.25;

const TITLE: &str = "Control plane: growth";

const METHOD: &str = "\
Three members on this machine; a cluster of its own for each size, ten machines on each simulated host, half of them running. *Page*
is a page of 100 machines from anywhere in the list, 20 of them a second, linearizable, spread over the members. *Memory* is the most
that a member has had resident since it began. Followers end and start again while the hosts stay connected; *serves* is from the start
of the process until `/readyz` says yes.";

struct Step {
    size: Size,
    pages: Tally,
    members: Vec<Taken>,
    asked: Restart,
    killed: Restart,
}

/// Runs it.
pub fn run(setting: &Setting) -> Result<Found> {
    let steps = sizes(setting).map(|size| measure(setting, size));
    let steps = steps.collect::<Result<Vec<_>>>()?;
    let (table, verdict) = (table(&steps), judge(&steps));
    Ok(Found { title: TITLE.to_owned(), method: METHOD, size: None, table, verdict })
}

fn sizes(setting: &Setting) -> impl Iterator<Item = Size> {
    let largest = setting.size_or(MACHINES / PER_HOST, MACHINES).machines;
    SMALLER.into_iter().map(move |smaller| {
        let machines = (largest / smaller).max(1);
        Size { hosts: machines.div_ceil(PER_HOST), machines }
    })
}

fn measure(setting: &Setting, size: Size) -> Result<Step> {
    let mut stage = Stage::set(setting, size)?;
    setting.await_idle()?;
    let load = Load {
        work: Arc::new(Lists(Machines::new(&stage.machines))),
        clients: CLIENTS,
        per_second: Some(LISTS_PER_SECOND),
        warm_up: WARM_UP,
        measured: setting.measured,
    };
    let doors = setting.doors(&stage.cluster)?;
    let watched = Watched::begin(&stage.cluster)?;
    let pages = stage.cluster.runtime().block_on(load.run(&doors))?;
    let members = watched.end()?;
    let asked = restart_follower(&mut stage.cluster, End::Asked, setting.interruption())?;
    let killed = restart_follower(&mut stage.cluster, End::Killed, setting.interruption())?;
    stage.check()?;
    Ok(Step { size, pages, members, asked, killed })
}

fn table(steps: &[Step]) -> String {
    let mut text = String::from(
        "| machines | hosts | memory MiB | page p50 ms | page p95 ms | serves after SIGTERM s | after SIGKILL s |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for Step { size, pages, members, asked, killed } in steps {
        let spread = spreads::spread(pages);
        text.push_str(&format!(
            "| {} | {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} |\n",
            size.machines,
            size.hosts,
            members::largest_mib(members),
            spread.p50_ms,
            spread.p95_ms,
            asked.serves_s,
            killed.serves_s,
        ));
    }
    text
}

fn judge(steps: &[Step]) -> Vec<Judged> {
    let p95_ms = |step: &Step| spreads::spread(&step.pages).p95_ms;
    let ends = steps.first().zip(steps.last());
    let judged = |(smallest, largest)| Judged {
        what: "p95 of a page of the largest fleet, to the smallest's".to_owned(),
        value: p95_ms(largest) / p95_ms(smallest),
        limit: Limit::AtMost(GROWTH_MAX),
    };
    ends.map(judged).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::latencies::Latencies;

    fn step(machines: usize, page_ms: u64) -> Step {
        let mut latencies = Latencies::default();
        latencies.add(Duration::from_millis(page_ms));
        let restart = |end| Restart { end, ended_s: 0.1, serves_s: 0.5 };
        Step {
            size: Size { hosts: 1, machines },
            pages: Tally { latencies, seconds: 1.0 },
            members: Vec::new(),
            asked: restart(End::Asked),
            killed: restart(End::Killed),
        }
    }

    #[test]
    fn the_largest_is_judged_by_the_smallest() {
        let met = |steps: &[Step]| judge(steps).iter().map(Judged::is_met).collect::<Vec<_>>();
        assert_eq!(met(&[step(1, 4), step(4, 40), step(20, 5)]), [true]);
        assert_eq!(met(&[step(1, 4), step(20, 6)]), [false]);
        assert!(met(&[]).is_empty());
    }
}
