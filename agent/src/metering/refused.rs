//! What the ledger will never take: kept in a file for a person, who can post it by hand.
//!
//! `usage/refused` holds a line of JSON for each record. When it is full it becomes `usage/refused.old`, in place of the one
//! before.

use std::path::Path;
use std::sync::Arc;

use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::{RecordOutcome, UsageRecord};
use novacron_storage::disk::{Disk, DiskError, DiskFile};
use serde::Serialize;

/// Bytes of the file: some 30,000 records.
pub const REFUSED_BYTES_MAX: u64 = 8 << 20;

const DIRECTORY: &str = "usage";
const FILE: &str = "usage/refused";
const OLD_FILE: &str = "usage/refused.old";

#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    id: String,
    record: &'a UsageRecord,
    outcome: &'a RecordOutcome,
}

/// Appends records that were refused at `at`; durable on return. The same records may be there twice after a failure.
///
/// # Errors
/// [`DiskError`].
pub fn keep(
    disk: &Arc<dyn Disk>,
    at: Timestamp,
    refused: &[(UsageRecord, RecordOutcome)],
) -> Result<(), DiskError> {
    let lines: String = refused.iter().map(|(record, outcome)| line(at, record, outcome)).collect();
    let mut file = open(&**disk)?;
    file.append(lines.as_bytes())?;
    file.sync_data()?;
    disk.sync_directory(Path::new(DIRECTORY))
}

fn line(at: Timestamp, record: &UsageRecord, outcome: &RecordOutcome) -> String {
    let line = Line { at, id: format!("{:032x}", record.id()), record, outcome };
    // Numbers, texts and names only: JSON can say them all.
    let mut line = serde_json::to_string(&line).unwrap_or_default();
    line.push('\n');
    line
}

fn open(disk: &dyn Disk) -> Result<Box<dyn DiskFile>, DiskError> {
    let path = Path::new(FILE);
    match disk.open(path) {
        Ok(file) if file.len()? < REFUSED_BYTES_MAX => Ok(file),
        Ok(_) => {
            disk.rename(path, Path::new(OLD_FILE))?;
            disk.create(path)
        }
        Err(error) if error.is_not_found() => disk.create(path),
        Err(error) => Err(error),
    }
}
