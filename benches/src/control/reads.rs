//! Linearizable reads while others write: how long they take.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::try_join;

use super::Found;
use super::cluster::Cluster;
use super::dialect::Key;
use super::load::{Load, Tally};
use super::setting::Setting;
use super::sides::Side;
use super::verdict::{Judged, Limit};
use super::work::{Reads, Writes};
use crate::measurement::median;

/// Writes a second, and who makes them.
const WRITES_PER_SECOND: u32 = 1000;
const WRITERS: usize = 64;
/// Reads a second, and who makes them.
const READS_PER_SECOND: u32 = 500;
const READERS: usize = 32;
/// A side that has done less than this share of the writes was not under the load that its reads are judged under.
const WRITES_SHARE_MIN: f64 = 0.95;
const WARM_UP: Duration = Duration::from_secs(3);

/// The most that the 95th percentile may be, as a multiple of etcd's.
const P95_MAX: f64 = 1.0;

const TITLE: &str = "Control plane: linearizable reads under 1,000 writes a second";

const METHOD: &str = "\
Three members of either side on this machine, data on one disk, mutual TLS 1.3 for clients and members. 64 clients write 1,000 values
of 256 bytes a second while 32 others read 500 a second, linearizably; all are spread over the members. What is late is charged from
when it was due. Sides took turns; medians of the runs.";

struct Run {
    side: Side,
    reads: Tally,
    writes: Tally,
}

/// Runs both sides in turn.
pub fn run(setting: &Setting) -> Result<Found> {
    let mut runs = Vec::new();
    for _ in 0..setting.runs {
        for &side in setting.sides {
            setting.await_idle()?;
            let (mut cluster, _directory) = setting.found(side)?;
            runs.push(measure(setting, &mut cluster, side)?);
        }
    }
    let (table, verdict) = (table(setting.sides, &runs)?, judge(&runs));
    Ok(Found { title: TITLE.to_owned(), method: METHOD, size: None, table, verdict })
}

fn measure(setting: &Setting, cluster: &mut Cluster, side: Side) -> Result<Run> {
    let dialect = Arc::clone(cluster.dialect());
    for client in 0..READERS {
        let answer = cluster.ask(0, &dialect.write(Key { client, number: 0 }))?;
        dialect.check_write(&answer)?;
    }
    let load = |work, clients, per_second| Load {
        work,
        clients,
        per_second: Some(per_second),
        warm_up: WARM_UP,
        measured: setting.measured,
    };
    let writes = load(Arc::new(Writes(Arc::clone(&dialect))), WRITERS, WRITES_PER_SECOND);
    let reads = load(Arc::new(Reads(dialect)), READERS, READS_PER_SECOND);
    let doors = setting.doors(cluster)?;
    let both = async { try_join!(reads.run(&doors), writes.run(&doors)) };
    let (reads, writes) = cluster.runtime().block_on(both)?;
    cluster.check()?;
    let spread = reads.latencies.spread().context("not one read")?;
    println!(
        "{side}: {:.0} writes/s, {:.0} reads/s, reads p50 {:.1} ms, p95 {:.1} ms",
        writes.per_second(),
        reads.per_second(),
        spread.p50_ms,
        spread.p95_ms
    );
    let least = f64::from(WRITES_PER_SECOND) * WRITES_SHARE_MIN;
    ensure!(writes.per_second() >= least, "{side} takes fewer than {least:.0} writes a second");
    Ok(Run { side, reads, writes })
}

fn table(sides: &[Side], runs: &[Run]) -> Result<String> {
    let mut text = String::from(
        "| | writes/s | reads/s | reads p50 ms | p95 ms | p99 ms | writes p95 ms |\n|---|---|---|---|---|---|---|\n",
    );
    for side in sides {
        let of = |figure: fn(&Run) -> Option<f64>| median_of(runs, *side, figure);
        let row = || {
            Some(format!(
                "| {side} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} |\n",
                of(|run| Some(run.writes.per_second()))?,
                of(|run| Some(run.reads.per_second()))?,
                of(|run| Some(run.reads.latencies.spread()?.p50_ms))?,
                of(read_p95)?,
                of(|run| Some(run.reads.latencies.spread()?.p99_ms))?,
                of(|run| Some(run.writes.latencies.spread()?.p95_ms))?,
            ))
        };
        text.push_str(&row().with_context(|| format!("{side} did nothing"))?);
    }
    Ok(text)
}

fn judge(runs: &[Run]) -> Vec<Judged> {
    let ratio = || {
        let ours = median_of(runs, Side::NovaCron, read_p95)?;
        Some(ours / median_of(runs, Side::Etcd, read_p95)?)
    };
    let judged = |value| Judged {
        what: "p95 of reads, to etcd's".to_owned(),
        value,
        limit: Limit::AtMost(P95_MAX),
    };
    ratio().map(judged).into_iter().collect()
}

fn read_p95(run: &Run) -> Option<f64> {
    Some(run.reads.latencies.spread()?.p95_ms)
}

fn median_of(runs: &[Run], side: Side, figure: fn(&Run) -> Option<f64>) -> Option<f64> {
    median(runs.iter().filter(|run| run.side == side).filter_map(figure).collect())
}
