//! Usage of machines, from hosts that have much of it: what the ledger takes in a second, durable at a quorum.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use novacron_protocol::usage::HOUR_S;

use super::Found;
use super::hosts::{Counts, Span};
use super::members::{self, Taken, Watched};
use super::setting::Setting;
use super::stage::Stage;
use super::verdict::{Judged, Limit};
use crate::measurement::median;

/// Hosts that send at once, each one batch at a time.
const HOSTS: usize = 64;
const MACHINES: usize = 2_000;
/// Records that hosts have to send at most: nine tenths of what the ledger takes before it seals.
const RECORDS_MAX: u64 = 9_000_000;
/// The hours before the present one whose windows are certainly open.
const OPEN_S: u64 = 2 * HOUR_S;
const WARM_UP: Duration = Duration::from_secs(2);

/// The least that has to be acknowledged.
const PER_SECOND_MIN: f64 = 50_000.0;

const TITLE: &str = "Control plane: usage records";

const METHOD: &str = "\
Three members on this machine, data on one disk. Simulated hosts, each with its own certificate and QUIC link to the leader, all on
one thread, send what their machines used: batches of 1,000 records, each of one meter of one machine and a few seconds, over the last
two hours; the next batch follows the acknowledgement of the one before, which a quorum has on disk and applied: deduplicated, posted
as double entries, and answered record by record. *CPU* is that of all three members for a million records. Medians of the runs.";

#[derive(Debug)]
struct Run {
    per_second: f64,
    processor_s_per_million: f64,
    members: Vec<Taken>,
}

/// Runs it.
pub fn run(setting: &Setting) -> Result<Found> {
    let mut runs = Vec::new();
    let size = setting.size_or(HOSTS, MACHINES);
    for turn in 1..=setting.runs {
        let mut stage = Stage::set(setting, size)?;
        setting.await_idle()?;
        let run = measure(setting, &mut stage)?;
        println!(
            "run {turn}: {:.0} records/s, {:.1} s of processors for a million",
            run.per_second, run.processor_s_per_million
        );
        runs.push(run);
    }
    let (table, verdict) = (table(&runs), judge(&runs));
    let size = Some(size.to_string());
    Ok(Found { title: TITLE.to_owned(), method: METHOD, size, table, verdict })
}

fn measure(setting: &Setting, stage: &mut Stage) -> Result<Run> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let span = span(now_s, stage.machines.len());
    stage.hosts.meter(span);
    setting.pause(WARM_UP)?;
    let (began, before) = (Instant::now(), Counts::of(&stage.hosts.counts().records));
    let watched = Watched::begin(&stage.cluster)?;
    setting.pause(setting.measured)?;
    let records = Counts::of(&stage.hosts.counts().records) - before;
    let (seconds, members) = (began.elapsed().as_secs_f64(), watched.end()?);
    stage.check()?;
    let spans = Counts::of(&stage.hosts.counts().spans);
    stage.hosts.stop_metering();
    ensure!(spans == 0, "the hosts have sent all that they had: give them more machines");
    ensure!(records > 0, "not one record was acknowledged");
    let processor_s = members::processors(&members) * seconds;
    let processor_s_per_million = processor_s / (records as f64 / 1e6);
    Ok(Run { per_second: records as f64 / seconds, processor_s_per_million, members })
}

/// The last hours in records as short as possible, so that hosts have much to send.
fn span(now_s: u64, machines: usize) -> Span {
    let parts = (1..HOUR_S).filter(|step_s| HOUR_S.is_multiple_of(*step_s));
    let mut spans = parts.map(|step_s| Span::new(now_s - OPEN_S, now_s, step_s));
    let fits = |span: &Span| span.records(machines) <= RECORDS_MAX;
    spans.find(fits).unwrap_or(Span::new(now_s - OPEN_S, now_s, HOUR_S))
}

fn table(runs: &[Run]) -> String {
    let of =
        |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect()).unwrap_or(f64::NAN);
    format!(
        "| records/s | CPU s per million | memory MiB of a member |\n|---|---|---|\n| {:.0} | {:.1} | {:.0} |\n",
        of(|run| run.per_second),
        of(|run| run.processor_s_per_million),
        of(|run| members::largest_mib(&run.members)),
    )
}

fn judge(runs: &[Run]) -> Vec<Judged> {
    let per_second = median(runs.iter().map(|run| run.per_second).collect());
    let judged = |value| Judged {
        what: "usage records a second, acknowledged durably".to_owned(),
        value,
        limit: Limit::AtLeast(PER_SECOND_MIN),
    };
    per_second.map(judged).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_run_is_judged() {
        let run =
            |per_second| Run { per_second, processor_s_per_million: 1.0, members: Vec::new() };
        let verdict = judge(&[run(10.0), run(60_000.0), run(70_000.0)]);
        assert_eq!(verdict.iter().map(Judged::is_met).collect::<Vec<_>>(), [true]);
        assert!(judge(&[]).is_empty());
    }

    #[test]
    fn hosts_have_as_much_as_the_ledger_takes() {
        for machines in [1, 200, MACHINES, 20_000, 100_000] {
            let records = span(1_000_000_000, machines).records(machines);
            assert!(records <= RECORDS_MAX, "{machines} machines: {records}");
        }
        let records = span(1_000_000_000, MACHINES).records(MACHINES);
        assert!(
            records as f64 > 60.0 * 2.0 * PER_SECOND_MIN,
            "a minute at twice the bar: {records}"
        );
    }
}
