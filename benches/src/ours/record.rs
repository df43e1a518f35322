//! What `novacron vm migrate … -o json` prints, as a measurement.

use anyhow::{Context, Result, ensure};
use novacron_protocol::api::MigrationView;
use novacron_protocol::migration::{MemoryPath, MigrationStatus};

use crate::measurement::Measurement;

/// The figures of a migration that completed, page by page and verified; anything else would compare something else.
pub fn measurement(json: &str) -> Result<Measurement> {
    let view: MigrationView = serde_json::from_str(json).context("the record of the migration")?;
    ensure!(
        view.status == MigrationStatus::Completed,
        "the migration: {:?} {}",
        view.status,
        view.reason
    );
    ensure!(view.verified, "the record does not say that both ends compared equal");
    ensure!(
        view.memory_path == Some(MemoryPath::Pages),
        "memory travelled as {:?}, not page by page",
        view.memory_path
    );
    Ok(Measurement {
        total_ms: view.total_ms.context("the record has no total_ms")? as f64,
        memory_ms: view.memory_ms.context("the record has no memory_ms")? as f64,
        downtime_ms: view.downtime_ms.context("the record has no downtime_ms")?,
        pause_ms: view.downtime_ms,
        downtime_parts: view.downtime_parts,
        rounds: u64::from(view.rounds),
        own_bytes: view.bytes_wire,
        ..Measurement::default()
    })
}
