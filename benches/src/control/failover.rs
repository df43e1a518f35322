//! The leader is killed: for how long nobody's write is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::Found;
use super::cluster::Cluster;
use super::dialect::{Dialect, Key};
use super::latencies::{Latencies, Spread};
use super::link::{Door, Link};
use super::setting::Setting;
use super::sides::Side;
use super::verdict::{Judged, Limit};

/// Between two writes that are tried, at the survivors in turn: by so much the time can be too long.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// No cluster that works takes longer; with two tries in flight for each forty milliseconds 1,500 at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// Leaders that are killed of one cluster, before the other side has its turn.
const KILLS_PER_TURN: u32 = 10;
/// For a killed member to catch up before the next is killed.
const REST: Duration = Duration::from_secs(1);

/// The most that the median may be, as a multiple of etcd's.
const MEDIAN_MAX: f64 = 1.0;
/// The most that any may be, in seconds.
const LONGEST_S_MAX: f64 = 5.0;

const TITLE: &str = "Control plane: without a leader";

const METHOD: &str = "\
Three members of either side on this machine with the same pace (heartbeat 100 ms, elections from 1,000 ms on: the defaults of both), mutual TLS
1.3. The leader is killed (SIGKILL); from then on a write is tried every 20 ms, at the survivors in turn, none waiting for
another. The time is from the kill to the first acknowledgement. Then the killed member starts again and catches up. Sides
took turns.";

/// Kills leaders of both sides in turn.
pub fn run(setting: &Setting) -> Result<Found> {
    let mut outages: Vec<(Side, Latencies)> =
        setting.sides.iter().map(|&side| (side, Latencies::default())).collect();
    let mut left = setting.runs;
    while left > 0 {
        let kills = left.min(KILLS_PER_TURN);
        for (side, outages) in &mut outages {
            setting.await_idle()?;
            let (mut cluster, _directory) = setting.found(*side)?;
            for _ in 0..kills {
                let outage = kill_leader(setting, &mut cluster)?;
                println!("{side}: {:.0} ms", outage.as_secs_f64() * 1000.0);
                outages.add(outage);
            }
        }
        left -= kills;
    }
    let spreads = outages.iter().map(|(side, all)| Some((*side, all.count(), all.spread()?)));
    let spreads: Vec<_> = spreads.collect::<Option<_>>().context("nobody was killed")?;
    let (table, verdict) = (table(&spreads), judge(&spreads));
    Ok(Found { title: TITLE.to_owned(), method: METHOD, size: None, table, verdict })
}

fn kill_leader(setting: &Setting, cluster: &mut Cluster) -> Result<Duration> {
    setting.pause(REST)?;
    let leader = cluster.leader()?;
    let mut survivors = cluster.doors();
    survivors.remove(leader);
    let links = cluster.runtime().block_on(open(&survivors))?;
    let killed = Instant::now();
    cluster.kill(leader);
    let dialect = Arc::clone(cluster.dialect());
    let tried = async { timeout(PATIENCE, try_writes(dialect, &links)).await };
    let acknowledged = cluster.runtime().block_on(tried);
    let acknowledged =
        acknowledged.with_context(|| format!("no write within {} s", PATIENCE.as_secs()))?;
    cluster.start(leader)?;
    cluster.await_ready()?;
    Ok(acknowledged - killed)
}

async fn open(doors: &[Door]) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for door in doors {
        links.push(door.open().await?);
    }
    Ok(links)
}

/// When the first write was acknowledged. What is under way then is given up.
async fn try_writes(dialect: Arc<dyn Dialect>, links: &[Link]) -> Instant {
    let mut tries = JoinSet::new();
    let mut due = interval(TRY_AGAIN);
    for (number, link) in (0..).zip(links.iter().cycle()) {
        loop {
            tokio::select! {
                biased;
                Some(tried) = tries.join_next() => {
                    if let Ok(Ok(at)) = tried {
                        return at;
                    }
                }
                _ = due.tick() => break,
            }
        }
        tries.spawn(write(Arc::clone(&dialect), link.clone(), Key { client: 0, number }));
    }
    std::future::pending().await
}

async fn write(dialect: Arc<dyn Dialect>, link: Link, key: Key) -> Result<Instant> {
    let answer = link.exchange(dialect.write(key)).await?;
    let at = Instant::now();
    dialect.check_write(&answer)?;
    Ok(at)
}

type OfSide = (Side, u64, Spread);

fn table(spreads: &[OfSide]) -> String {
    let mut text =
        String::from("| | kills | median ms | p95 ms | longest ms |\n|---|---|---|---|---|\n");
    for (side, kills, spread) in spreads {
        text.push_str(&format!(
            "| {side} | {kills} | {:.0} | {:.0} | {:.0} |\n",
            spread.p50_ms, spread.p95_ms, spread.max_ms
        ));
    }
    text
}

fn judge(spreads: &[OfSide]) -> Vec<Judged> {
    let of = |wanted| spreads.iter().find(|(side, ..)| *side == wanted).map(|found| found.2);
    let Some(ours) = of(Side::NovaCron) else { return Vec::new() };
    let judged =
        |what: &str, value, max| Judged { what: what.to_owned(), value, limit: Limit::AtMost(max) };
    let mut verdict = vec![judged("longest, s", ours.max_ms / 1000.0, LONGEST_S_MAX)];
    if let Some(etcd) = of(Side::Etcd) {
        verdict.insert(0, judged("median, to etcd's", ours.p50_ms / etcd.p50_ms, MEDIAN_MAX));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_judged_by_etcds_and_the_longest_by_itself() {
        let spread = |p50_ms, max_ms| Spread { p50_ms, max_ms, ..Spread::default() };
        let ours = (Side::NovaCron, 50, spread(1000.0, 5001.0));
        let both = judge(&[(Side::Etcd, 50, spread(1000.0, 9000.0)), ours]);
        let met: Vec<_> = both.iter().map(Judged::is_met).collect();
        assert_eq!(met, [true, false]);
        assert_eq!(judge(&[ours]).len(), 1);
    }
}
