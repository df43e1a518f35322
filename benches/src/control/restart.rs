//! A member of a large fleet with a large ledger starts again; and what the ledger takes of its disk.

use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use novacron_protocol::api::{Page, WindowView};

use super::Found;
use super::cluster::{Cluster, MEMBERS};
use super::coordinators::{ask, check};
use super::footprint;
use super::hosts::Counts;
use super::members::memory_mib_max;
use super::past::{Past, now_s};
use super::restarting::{ENDS, End, Restart, restart_all, restart_follower};
use super::setting::Setting;
use super::stage::Stage;
use super::verdict::{Judged, Limit};
use crate::measurement::median;

const HOSTS: usize = 200;
const MACHINES: usize = 20_000;
/// Entries of the ledger.
const ENTRIES: u64 = 10_000_000;
/// For windows whose time is over to be sealed, four of them at a time.
const SEAL_PATIENCE: Duration = Duration::from_secs(120);
/// For hosts to send what they used in the hours that are open.
const USAGE_PATIENCE: Duration = Duration::from_secs(300);
/// The most windows of one page.
const WINDOWS: usize = 1_000;

/// The most seconds until a member serves.
const SERVES_S_MAX: f64 = 10.0;
/// The most bytes of a data directory for a million records, in MB.
const MB_PER_MILLION_MAX: f64 = 200.0;
const MB: f64 = 1e6;
/// Parts of a data directory that are smaller are not named.
const NAMED_BYTES_MIN: u64 = 500_000;
const MILLION: f64 = 1e6;

const TITLE: &str = "Control plane: restart and disk with a large ledger";

const METHOD: &str = "\
Simulated hosts send records of five minutes, two meters for each machine, over their links. The past of the ledger is made in
minutes: its first member runs in this program then, by a clock that is set to the end of one hour after the other, so that windows
are sealed as they would have been; everything else is what the programs do. Then three members of the real program go on from its
files, two of which join. *Disk* is what all files of a data directory take when every window is sealed and the members have ended in
order: log, snapshots, tables and archive, the machines included; the largest member is judged. After that the hosts send what was used
since, into windows that are open, and followers end and start again: *serves* is from the start of the process until `/readyz` says
yes, when the member has caught up with the leader. Medians of the runs, the longest is judged.";

/// What the files of a data directory take.
type Files = Vec<(String, u64)>;

struct Outcome {
    sealed: u64,
    open: u64,
    files: Vec<Files>,
    restarts: Vec<Restart>,
    memory_mib_max: f64,
}

/// Runs it.
pub fn run(setting: &Setting) -> Result<Found> {
    let size = setting.size_or(HOSTS, MACHINES);
    let entries = setting.entries.unwrap_or(ENTRIES);
    let past = Past::before(now_s()?, entries, size.machines)?;
    let mut stage = Stage::with_past(setting, size, &past)?;
    let outcome = measure(setting, &mut stage, &past)?;
    let (table, verdict) = (outcome.table(), outcome.judge());
    let size = Some(format!("{size}, at least {entries} entries of the ledger in sealed windows"));
    Ok(Found { title: TITLE.to_owned(), method: METHOD, size, table, verdict })
}

fn measure(setting: &Setting, stage: &mut Stage, past: &Past) -> Result<Outcome> {
    let interruption = setting.interruption();
    await_sealed(setting, &stage.cluster, past.hours())?;
    let sealed = Counts::of(&stage.hosts.counts().records);
    let files = files(setting, stage)?;
    stage.hosts.await_connected(interruption)?;
    stage.hosts.meter_all(past.since(now_s()?), USAGE_PATIENCE, interruption)?;
    stage.hosts.stop_metering();
    let open = Counts::of(&stage.hosts.counts().records) - sealed;
    println!("{sealed} records are sealed, {open} are in open windows");
    setting.await_idle()?;
    let mut restarts = Vec::new();
    let mut largest_mib: f64 = 0.0;
    for _ in 0..setting.runs {
        for end in ENDS {
            restarts.push(restart_follower(&mut stage.cluster, end, interruption)?);
            for at in stage.cluster.running() {
                largest_mib = largest_mib.max(memory_mib_max(stage.cluster.process(at)?)?);
            }
        }
    }
    stage.check()?;
    Ok(Outcome { sealed, open, files, restarts, memory_mib_max: largest_mib })
}

fn await_sealed(setting: &Setting, cluster: &Cluster, windows: u64) -> Result<()> {
    let every = Duration::from_millis(250);
    setting.interruption().wait("windows of the ledger to be sealed", SEAL_PATIENCE, every, || {
        let order = ask(Method::GET, &format!("/api/v1/ledger/windows?limit={WINDOWS}"), "");
        let answer = cluster.ask(0, &order)?;
        check(&answer)?;
        let page: Page<WindowView> = serde_json::from_slice(&answer.body).context("no windows")?;
        Ok((page.items.len() as u64 >= windows).then_some(()))
    })
}

/// What each member's files take once it has ended; then all start again.
fn files(setting: &Setting, stage: &mut Stage) -> Result<Vec<Files>> {
    let Stage { cluster, layout, .. } = stage;
    restart_all(cluster, setting.interruption(), || {
        (0..MEMBERS).map(|at| footprint::parts(&layout.data(at))).collect()
    })
}

impl Outcome {
    fn table(&self) -> String {
        self.disk_table() + &self.restart_table()
    }

    fn disk_table(&self) -> String {
        let mut text = String::from(
            "| coordinator | MB | MB per million records | of it |\n|---|---|---|---|\n",
        );
        for (number, files) in (1..).zip(&self.files) {
            let large = files.iter().filter(|(_, bytes)| *bytes >= NAMED_BYTES_MIN);
            let of_it = large.map(|(name, bytes)| format!("{name} {:.0}", *bytes as f64 / MB));
            let (all, per_million) = (sum_mb(files), self.per_million_mb(files));
            let of_it = of_it.collect::<Vec<_>>().join(", ");
            text.push_str(&format!("| {number} | {all:.0} | {per_million:.1} | {of_it} |\n"));
        }
        text
    }

    fn restart_table(&self) -> String {
        let Self { sealed, open, memory_mib_max, .. } = self;
        let mut text = format!(
            "\n{sealed} records in sealed windows, {open} in open ones; at most {memory_mib_max:.0} MiB of memory.\n\n\
             | ended by | ended after s | serves after s | longest s |\n|---|---|---|---|\n"
        );
        for end in ENDS {
            let of = |figure: fn(&Restart) -> f64| {
                median(self.of(end).map(figure).collect()).unwrap_or(f64::NAN)
            };
            let (ended_s, serves_s) =
                (of(|restart| restart.ended_s), of(|restart| restart.serves_s));
            let (words, longest_s) = (end.words(), self.longest_s(end));
            text.push_str(&format!(
                "| {words} | {ended_s:.1} | {serves_s:.1} | {longest_s:.1} |\n"
            ));
        }
        text
    }

    fn of(&self, end: End) -> impl Iterator<Item = &Restart> {
        self.restarts.iter().filter(move |restart| restart.end == end)
    }

    fn longest_s(&self, end: End) -> f64 {
        self.of(end).map(|restart| restart.serves_s).fold(f64::NAN, f64::max)
    }

    fn per_million_mb(&self, files: &Files) -> f64 {
        sum_mb(files) / (self.sealed as f64 / MILLION)
    }

    fn judge(&self) -> Vec<Judged> {
        let serves = |end: End| Judged {
            what: format!("seconds until a member serves after {}", end.words()),
            value: self.longest_s(end),
            limit: Limit::AtMost(SERVES_S_MAX),
        };
        let disk = self.files.iter().map(|files| self.per_million_mb(files));
        let disk = Judged {
            what: "MB of a data directory for a million records".to_owned(),
            value: disk.fold(f64::NAN, f64::max),
            limit: Limit::AtMost(MB_PER_MILLION_MAX),
        };
        ENDS.into_iter().map(serves).chain([disk]).collect()
    }
}

fn sum_mb(files: &Files) -> f64 {
    files.iter().map(|(_, bytes)| *bytes).sum::<u64>() as f64 / MB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_restart_and_the_largest_member_are_judged() {
        let restart = |end, serves_s| Restart { end, ended_s: 1.0, serves_s };
        let files = |bytes| vec![("log".to_owned(), bytes), ("archive".to_owned(), 100_000_000)];
        let outcome = Outcome {
            sealed: 2_000_000,
            open: 7,
            files: vec![files(1), files(300_000_001)],
            restarts: vec![
                restart(End::Asked, 9.0),
                restart(End::Killed, 9.0),
                restart(End::Killed, 11.0),
            ],
            memory_mib_max: 100.0,
        };
        let met: Vec<_> = outcome.judge().iter().map(Judged::is_met).collect();
        assert_eq!(met, [true, false, false]);
        assert!(outcome.table().contains("| 2 | 400 | 200.0 | log 300, archive 100 |"));
        assert!(outcome.table().contains("| SIGKILL | 1.0 | 10.0 | 11.0 |"));
        assert!(!judge_nothing().iter().any(Judged::is_met));
    }

    fn judge_nothing() -> Vec<Judged> {
        let (files, restarts) = (Vec::new(), Vec::new());
        Outcome { sealed: 0, open: 0, files, restarts, memory_mib_max: 0.0 }.judge()
    }
}
