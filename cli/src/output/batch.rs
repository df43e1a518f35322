//! Batches of migrations.

use novacron_protocol::api::{BatchCounts, BatchItemView, BatchView};

use super::text::{labels, or_dash, or_nothing, table, word};
use super::{Fields, Row, Show};

impl Row for BatchView {
    const HEADER: &'static [&'static str] =
        &["BATCH", "FROM", "TO", "STATUS", "VMS", "MOVED", "MOVING", "QUEUED", "NOT MOVED"];

    fn row(&self) -> Vec<String> {
        let counts = &self.counts;
        vec![
            self.batch_id.to_string(),
            self.from.to_string(),
            self.to.to_string(),
            word(&self.status),
            counts.items.to_string(),
            counts.completed.to_string(),
            counts.in_progress.to_string(),
            counts.queued.to_string(),
            not_moved(counts).to_string(),
        ]
    }
}

impl Show for BatchView {
    fn fields(&self) -> Fields {
        let header = ["VM", "STATUS", "MIGRATION", "REASON"];
        let items = self.items.iter().map(item);
        vec![
            ("batch", self.batch_id.to_string()),
            ("status", word(&self.status)),
            ("from", self.from.to_string()),
            ("to", self.to.to_string()),
            ("labels", labels(&self.labels)),
            ("mode", self.mode.map_or_else(|| "as each is".to_owned(), |mode| word(&mode))),
            ("progress", progress(&self.counts)),
            ("accepted", self.created_at.to_string()),
            ("ended", or_nothing(self.ended_at)),
            ("machines", table(&header, items).trim_end().to_owned()),
        ]
    }
}

fn item(item: &BatchItemView) -> Vec<String> {
    vec![
        item.vm_name.to_string(),
        word(&item.status),
        or_dash(item.migration_id),
        item.reason.clone(),
    ]
}

/// How far a batch is, in one line.
pub fn batch_line(view: &BatchView) -> String {
    format!("{} to {}: {}", view.from, view.to, progress(&view.counts))
}

fn progress(counts: &BatchCounts) -> String {
    let mut parts = vec![format!("{} of {} moved", counts.completed, counts.items)];
    let others = [
        (counts.in_progress, "moving"),
        (counts.queued, "queued"),
        (counts.refused, "refused"),
        (counts.failed, "failed"),
        (counts.cancelled, "given up"),
    ];
    let others = others.iter().filter(|(count, _)| *count > 0);
    parts.extend(others.map(|(count, word)| format!("{count} {word}")));
    parts.join(", ")
}

fn not_moved(counts: &BatchCounts) -> u32 {
    counts.refused + counts.failed + counts.cancelled
}
