//! Migrations: the record, and how far one is.

use novacron_protocol::api::MigrationView;
use novacron_protocol::migration::{Convergence, DowntimeParts, MigrationStatus};
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
            word(&self.phase),
            format!("{} %", self.progress_percentage),
            self.source.to_string(),
            self.target.to_string(),
            or_dash(self.total_ms.map(seconds)),
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
            ("phase", word(&self.phase)),
            ("progress", format!("{} %", self.progress_percentage)),
            ("source", self.source.to_string()),
            ("target", self.target.to_string()),
            ("total time", or_nothing(self.total_ms.map(seconds))),
            ("prepare", or_nothing(self.prepare_ms.map(seconds))),
            ("memory", or_nothing(self.memory_ms.map(seconds))),
            ("downtime", or_nothing(self.downtime_ms.map(milliseconds))),
            ("of it", or_nothing(self.downtime_parts.as_ref().map(parts))),
            ("rounds", self.rounds.to_string()),
            ("guest memory", display_size(self.bytes_guest)),
            ("disks", disks(self)),
            ("on the wire", display_size(self.bytes_wire)),
            (
                "compression",
                or_nothing(self.compression_ratio.map(|ratio| format!("{ratio:.1} : 1"))),
            ),
            ("of that", wire_parts(self)),
            ("pages", pages(self)),
            ("rate", or_nothing(rate)),
            ("guest writes", or_nothing(dirty(self).filter(|_| !is_over))),
            ("memory path", or_nothing(self.memory_path.map(|path| word(&path)))),
            (
                "verified",
                if self.verified { "memory and disks are equal".into() } else { "no".to_owned() },
            ),
            ("accepted", self.created_at.to_string()),
            ("ended", or_nothing(self.ended_at)),
        ]
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
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn milliseconds(ms: f64) -> String {
    format!("{ms:.1} ms")
}

fn rate(mbps: f64) -> String {
    format!("{mbps:.0} Mbit/s")
}
