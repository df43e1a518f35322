//! Several machines that move together, as one batch.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use novacron_protocol::api::{BatchStatus, BatchView};
use novacron_protocol::limits::MIGRATIONS_PER_NODE_DEFAULT;

use super::cli::Cli;
use super::record;
use crate::measurement::Measurement;

/// For how long the coordinator may take to say what became of a migration.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// What the reader of such a comparison must know; `at_once` is the fleet's limit if it was changed.
pub fn remark(count: u32, at_once: Option<u32>) -> String {
    let at_once = at_once.unwrap_or(MIGRATIONS_PER_NODE_DEFAULT);
    format!(
        "NovaCron moved {count} guests of one tenant, booted from the same files, by one `novacron migrate batch`, \
         at most {at_once} at once: its \
         total is from when that was accepted until the last guest had moved, by the coordinator's clock; memory, \
         downtime and rounds are those of the migration that had most of them, and what was seen is the longest pause \
         of any guest. A peer moved one such guest: its times, bytes and CPU are {count} times those of that move, as \
         of {count} moves one after the other; its pauses are those of one."
    )
}

/// Moves the machines with the label; what the coordinator says at the end.
pub fn order(
    cli: &Cli<'_>,
    (from, to): (&str, &str),
    label: &str,
    patience: Duration,
) -> Result<String> {
    let way = ["migrate", "batch", "--from", from, "--to", to, "--label", label];
    let words = way.into_iter().chain(["--live", "--wait", "-o", "json"]);
    cli.run(&words.collect::<Vec<_>>(), "", patience)
}

/// What the batch of `count` machines cost, by its record and those of its migrations.
pub fn measurement(cli: &Cli<'_>, json: &str, count: u32) -> Result<Measurement> {
    let batch: BatchView = serde_json::from_str(json).context("the record of the batch")?;
    let mut migrations = Vec::new();
    for item in &batch.items {
        let id = item.migration_id.context("a machine of the batch has no migration")?.to_string();
        let json = cli.run(&["migrate", "status", &id, "-o", "json"], "", ANSWER_PATIENCE)?;
        migrations.push(record::measurement(&json).with_context(|| item.vm_name.to_string())?);
    }
    sum(&batch, &migrations, count)
}

fn sum(batch: &BatchView, migrations: &[Measurement], count: u32) -> Result<Measurement> {
    let ended = batch.ended_at.filter(|_| batch.status == BatchStatus::Completed);
    let ended = ended.with_context(|| format!("the batch: {:?}", batch.status))?;
    ensure!(batch.counts.completed == count, "{} of {count} have moved", batch.counts.completed);
    let most = |figure: fn(&Measurement) -> f64| migrations.iter().map(figure).fold(0.0, f64::max);
    Ok(Measurement {
        total_ms: ended.since_ms(batch.created_at) as f64,
        memory_ms: most(|one| one.memory_ms),
        downtime_ms: most(|one| one.downtime_ms),
        pause_ms: Some(most(|one| one.downtime_ms)),
        rounds: migrations.iter().map(|one| one.rounds).max().unwrap_or(0),
        own_bytes: migrations.iter().map(|one| one.own_bytes).sum(),
        ..Measurement::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn batch(status: &str) -> BatchView {
        let id = "0198c0de-0000-7000-8000-000000000001";
        serde_json::from_value(json!({
            "batch_id": id, "from": "node-01", "to": "node-02", "labels": {}, "mode": "live",
            "options": {}, "abort_on_failure": false, "status": status,
            "counts": { "items": 2, "refused": 0, "queued": 0, "in_progress": 0, "completed": 2,
                        "failed": 0, "cancelled": 0 },
            "created_at": "2026-01-01T00:00:00.000Z", "ended_at": "2026-01-01T00:00:02.500Z",
            "revision": 7, "_links": {}
        }))
        .unwrap()
    }

    fn migration(memory_ms: f64, own_bytes: u64) -> Measurement {
        Measurement { memory_ms, downtime_ms: memory_ms / 10.0, own_bytes, ..Default::default() }
    }

    #[test]
    fn a_batch_is_as_long_as_all_of_it() {
        let migrations = [migration(900.0, 100), migration(1200.0, 50)];
        let whole = sum(&batch("completed"), &migrations, 2).unwrap();
        assert_eq!((whole.total_ms, whole.memory_ms, whole.downtime_ms), (2500.0, 1200.0, 120.0));
        assert_eq!(whole.own_bytes, 150);
    }

    #[test]
    fn the_reader_learns_how_many_moved_at_once() {
        assert!(remark(4, None).contains("at most 3 at once"));
        assert!(remark(4, Some(4)).contains("at most 4 at once"));
    }

    #[test]
    fn a_batch_that_left_one_behind_is_no_figure() {
        assert!(sum(&batch("failed"), &[], 2).is_err());
        assert!(sum(&batch("completed"), &[], 4).is_err());
    }
}
