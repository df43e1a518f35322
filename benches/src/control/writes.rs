//! Durable, linearizable writes of small values, with more and more clients: throughput, latencies and processors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Found;
use super::cluster::Cluster;
use super::latencies::Spread;
use super::load::Load;
use super::setting::Setting;
use super::sides::{SIDES, Side};
use super::verdict::{Judged, Limit};
use super::work::Writes;
use crate::measurement::median;
use crate::watch::Processors;
use anyhow::{Context, Result};

/// Clients, and the throughput that ours must have as a multiple of etcd's.
const BARS: [(usize, f64); 3] = [(1, 1.0), (64, 1.5), (256, 2.0)];
/// The most that the 99th percentile may be, as a multiple of etcd's.
const P99_MAX: f64 = 1.0;
/// Caches fill, connections are made.
const WARM_UP: Duration = Duration::from_secs(2);

const TITLE: &str = "Control plane: durable writes of 256 bytes";

const METHOD: &str = "\
Three members of either side on this machine, data on one disk, mutual TLS 1.3 for clients and members. Clients write
one value of 256 bytes after the other, each waiting for its acknowledgement, eight clients to a connection of HTTP/2; one
program of one thread plays them all, for both sides. *CPU* is that of all three members for one write. Sides took turns; medians, the
range of the runs in brackets.";

/// One side at one number of clients.
#[derive(Debug, Clone, Copy)]
struct Run {
    side: Side,
    clients: usize,
    per_second: f64,
    spread: Spread,
    processor_ms: f64,
}

/// The figures of all runs.
#[derive(Debug)]
struct Figures<'a> {
    clients: &'a [usize],
    sides: &'a [Side],
    runs: Vec<Run>,
}

/// Runs both sides in turn.
pub fn run(setting: &Setting) -> Result<Found> {
    let mut runs = Vec::new();
    for turn in 1..=setting.runs {
        for &side in setting.sides {
            setting.await_idle()?;
            let (mut cluster, _directory) = setting.found(side)?;
            for &clients in &setting.clients {
                let run = measure(setting, &mut cluster, side, clients)?;
                println!(
                    "run {turn}, {side}, {clients} clients: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, {:.2} ms of processors each",
                    run.per_second, run.spread.p50_ms, run.spread.p99_ms, run.processor_ms
                );
                runs.push(run);
            }
        }
    }
    let figures = Figures { clients: &setting.clients, sides: setting.sides, runs };
    let (table, verdict) = (figures.table(), figures.judge());
    Ok(Found { title: TITLE.to_owned(), method: METHOD, size: None, table, verdict })
}

fn measure(setting: &Setting, cluster: &mut Cluster, side: Side, clients: usize) -> Result<Run> {
    let load = Load {
        work: Arc::new(Writes(Arc::clone(cluster.dialect()))),
        clients,
        per_second: None,
        warm_up: WARM_UP,
        measured: setting.measured,
    };
    let doors = setting.doors(cluster)?;
    let processors = Processors { processes: cluster.processes(), except: Vec::new() };
    let before = processors.spent()?;
    let began = Instant::now();
    let tally = cluster.runtime().block_on(load.run(&doors))?;
    // Warm-up is work like any other: its share of processors is as large as its share of the time.
    let spent = (processors.spent()? - before).0 * setting.measured.as_secs_f64()
        / began.elapsed().as_secs_f64();
    cluster.check()?;
    let spread = tally.latencies.spread().context("not one write was acknowledged")?;
    let processor_ms = spent * 1000.0 / tally.latencies.count() as f64;
    Ok(Run { side, clients, per_second: tally.per_second(), spread, processor_ms })
}

impl Figures<'_> {
    /// The figures, as Markdown.
    fn table(&self) -> String {
        let mut text = String::from(
            "| clients | | writes/s | p50 ms | p99 ms | max ms | CPU ms |\n|---|---|---|---|---|---|---|\n",
        );
        for &clients in self.clients {
            for &side in self.sides {
                text.push_str(&self.row(side, clients));
            }
        }
        text
    }

    fn row(&self, side: Side, clients: usize) -> String {
        let of = |figure: fn(&Run) -> f64| self.median(side, clients, figure).unwrap_or(f64::NAN);
        let rates = self.figures(side, clients, |run| run.per_second);
        let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let high = rates.iter().copied().fold(0.0, f64::max);
        format!(
            "| {clients} | {side} | {:.0} ({low:.0}–{high:.0}) | {:.1} | {:.1} | {:.0} | {:.2} |\n",
            of(|run| run.per_second),
            of(|run| run.spread.p50_ms),
            of(|run| run.spread.p99_ms),
            of(|run| run.spread.max_ms),
            of(|run| run.processor_ms),
        )
    }

    /// Ours beside etcd's.
    fn judge(&self) -> Vec<Judged> {
        let is_measured = |clients| self.sides == SIDES && self.clients.contains(clients);
        let bars = BARS.iter().filter(|(clients, _)| is_measured(clients));
        bars.flat_map(|(clients, min)| self.judge_clients(*clients, *min)).collect()
    }

    fn judge_clients(&self, clients: usize, min: f64) -> [Judged; 2] {
        let ratio = |figure| self.ratio(clients, figure).unwrap_or(f64::NAN);
        let judged = |what, value, limit| Judged {
            what: format!("{what} of {clients} clients, to etcd's"),
            value,
            limit,
        };
        [
            judged("throughput", ratio(|run| run.per_second), Limit::AtLeast(min)),
            judged("p99", ratio(|run| run.spread.p99_ms), Limit::AtMost(P99_MAX)),
        ]
    }

    fn ratio(&self, clients: usize, figure: fn(&Run) -> f64) -> Option<f64> {
        let ours = self.median(Side::NovaCron, clients, figure)?;
        Some(ours / self.median(Side::Etcd, clients, figure)?)
    }

    fn median(&self, side: Side, clients: usize, figure: fn(&Run) -> f64) -> Option<f64> {
        median(self.figures(side, clients, figure))
    }

    fn figures(&self, side: Side, clients: usize, figure: fn(&Run) -> f64) -> Vec<f64> {
        let runs = self.runs.iter().filter(|run| run.side == side && run.clients == clients);
        runs.map(figure).collect()
    }
}
