//! Migrations: the record, and how far one is.

use novacron_protocol::api::MigrationView;
use novacron_protocol::migration::{
    Convergence, DowntimeParts, MemoryPath, MigrationMode, MigrationStatus,
};
use novacron_protocol::size::display_size;
use novacron_protocol::time::Timestamp;

use super::text::{or_dash, or_nothing, word};
use super::{Fields, Row, Show};

impl Row for MigrationView {
    const HEADER: &'static [&'static str] = &[
        "MIGRATION",
        "VM",
        "MODE",
        "STATUS",
        "PHASE",
        "PROGRESS",
        "SOURCE",
        "TARGET",
        "TOTAL",
        "DOWNTIME",
    ];

    fn row(&self) -> Vec<String> {
        vec![
            self.migration_id.to_string(),
            self.vm_name.to_string(),
            word(&self.mode),
            word(&self.status),
            or_dash(phase(self)),
            format!("{} %", self.progress_percentage),
            self.source.to_string(),
            self.target.to_string(),
            or_dash(total_ms(self).map(seconds)),
            or_dash(self.downtime_ms.map(milliseconds)),
        ]
    }
}

impl Show for MigrationView {
    fn fields(&self) -> Fields {
        let is_over = self.status.is_terminal();
        let rate = (!is_over).then(|| rate(self.metrics.transfer_rate_mbps));
        vec![
            ("migration", self.migration_id.to_string()),
            ("machine", self.vm_name.to_string()),
            ("mode", word(&self.mode)),
            ("status", word(&self.status)),
            ("reason", self.reason.clone()),
            ("phase", or_nothing(phase(self))),
            ("progress", format!("{} %", self.progress_percentage)),
            ("source", self.source.to_string()),
            ("target", self.target.to_string()),
            ("total time", or_nothing(total_ms(self).map(seconds))),
            ("prepare", or_nothing(self.prepare_ms.map(seconds))),
            ("memory", or_nothing(self.memory_ms.filter(|ms| *ms > 0).map(seconds))),
            ("downtime", or_nothing(self.downtime_ms.map(milliseconds))),
            ("of it", or_nothing(self.downtime_parts.as_ref().map(parts))),
            ("rounds", or_nothing(some(u64::from(self.rounds)))),
            ("guest memory", or_nothing(some(self.bytes_guest).map(display_size))),
            ("disks", disks(self)),
            ("on the wire", display_size(self.bytes_wire)),
            ("compression", or_nothing(compression(self))),
            ("of that", wire_parts(self)),
            ("pages", pages(self)),
            ("rate", or_nothing(rate)),
            ("guest writes", or_nothing(dirty(self).filter(|_| !is_over))),
            ("memory path", or_nothing(memory_path(self))),
            ("verified", verified(self).to_owned()),
            ("accepted", self.created_at.to_string()),
            ("ended", or_nothing(self.ended_at)),
        ]
    }
}

/// What it is busy with, while it is.
fn phase(view: &MigrationView) -> Option<String> {
    (!view.status.is_terminal()).then(|| word(&view.phase))
}

/// As the source measured it; of one that did not come so far, from its acceptance to its end.
fn total_ms(view: &MigrationView) -> Option<u64> {
    let since_accepted = || view.ended_at.map(|end| end.since_ms(view.created_at));
    view.total_ms.or_else(since_accepted)
}

/// A number that says something: a mode without memory, and a migration that has not begun, count none.
fn some(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

fn compression(view: &MigrationView) -> Option<String> {
    let ratio = view.compression_ratio.filter(|ratio| *ratio > 0.0)?;
    Some(format!("{ratio:.1} : 1"))
}

fn memory_path(view: &MigrationView) -> Option<String> {
    view.memory_path.filter(|path| *path != MemoryPath::None).map(|path| word(&path))
}

fn verified(view: &MigrationView) -> &'static str {
    match (view.verified, view.mode) {
        (false, _) => "no",
        (true, MigrationMode::Live) => "memory and disks are equal",
        (true, MigrationMode::Cold | MigrationMode::Warm) => "disks are equal",
    }
}

/// What was on the wire; nothing before the account is there.
fn wire_parts(view: &MigrationView) -> String {
    if view.bytes_link == 0 {
        return String::new();
    }
    format!(
        "memory {}, disks {}, files {}; {} with what the protocols add",
        display_size(view.bytes_wire_memory),
        display_size(view.bytes_wire_disks),
        display_size(view.bytes_wire_files),
        display_size(view.bytes_link),
    )
}

fn pages(view: &MigrationView) -> String {
    if view.pages_sent + view.pages_known + view.pages_same + view.pages_zero == 0 {
        return String::new();
    }
    format!(
        "{} sent ({} as differences, {} compressed, {} as they are), {} known, {} the same, {} zero",
        view.pages_sent,
        view.pages_differing,
        view.pages_packed,
        view.pages_raw,
        view.pages_known,
        view.pages_same,
        view.pages_zero
    )
}

/// How far a migration is, for a progress bar that shows the percentage itself.
pub fn progress_message(view: &MigrationView, now: Timestamp) -> String {
    if view.status.is_terminal() {
        return outcome(view);
    }
    let mut parts = vec![word(&view.phase)];
    if view.rounds > 0 {
        parts.push(format!("round {}", view.rounds));
    }
    parts.push(display_size(view.bytes_wire));
    parts.push(rate(view.metrics.transfer_rate_mbps));
    if view.convergence == Some(Convergence::NotConverging) {
        parts.extend(dirty(view).map(|dirty| format!("the guest writes {dirty}")));
    }
    if let Some(end) = view.estimated_completion {
        parts.push(format!("ETA {}", seconds(end.since_ms(now))));
    }
    parts.join(", ")
}

/// How far a migration is, as a line of its own.
pub fn progress_line(view: &MigrationView, now: Timestamp) -> String {
    format!("{}: {} %, {}", view.vm_name, view.progress_percentage, progress_message(view, now))
}

fn outcome(view: &MigrationView) -> String {
    match view.status {
        MigrationStatus::Completed => {
            let downtime = view.downtime_ms.map(|ms| format!(", downtime {}", milliseconds(ms)));
            let total = view.total_ms.map(|ms| format!(" in {}", seconds(ms)));
            format!("completed{}{}", total.unwrap_or_default(), downtime.unwrap_or_default())
        }
        status if view.reason.is_empty() => word(&status),
        status => format!("{}: {}", word(&status), view.reason),
    }
}

/// How fast the guest writes memory, and whether that is too fast.
fn dirty(view: &MigrationView) -> Option<String> {
    let rate = view.dirty_bytes_per_second? as f64 / 1e6;
    let verdict = match view.convergence {
        Some(Convergence::NotConverging) => ", faster than can be sent: no end in sight",
        _ => "",
    };
    Some(format!("{rate:.1} MB/s{verdict}"))
}

fn disks(view: &MigrationView) -> String {
    let bytes = display_size(view.bytes_disk);
    match (view.bytes_disk_held, view.bytes_disk_final) {
        (0, 0) => bytes,
        (held, last) => format!(
            "{bytes}, {} of it after the guest had stopped; {} were at the target before",
            display_size(last),
            display_size(held)
        ),
    }
}

fn parts(parts: &DowntimeParts) -> String {
    [
        ("last disk blocks", parts.disk_drain_us),
        ("last memory and devices", parts.memory_drain_us),
        ("loading at the target", parts.target_load_us),
        ("comparing digests", parts.verify_us),
        ("hand-over made durable", parts.release_us),
        ("start at the target", parts.resume_us),
    ]
    .iter()
    .map(|(name, us)| format!("{:>9} {name}", milliseconds(*us as f64 / 1000.0)))
    .collect::<Vec<_>>()
    .join("\n")
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

fn milliseconds(ms: f64) -> String {
    format!("{ms:.1} ms")
}

fn rate(mbps: f64) -> String {
    format!("{mbps:.0} Mbit/s")
}
