//! Every limit that two machines must agree on, with the arithmetic behind it.

use std::ops::RangeInclusive;

/// Bytes of a name of a node or machine: it becomes part of socket paths, which Linux bounds at 108 bytes.
pub const NAME_BYTES_MAX: usize = 40;

/// Bytes of one control message (agent to coordinator, agent to agent). The largest is a welcome with
/// `EFFECTS_PER_MESSAGE_MAX` effects of at most 64 KiB each.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Effects in one message: with `SPEC_BYTES_MAX` each they fill at most half of a message.
pub const EFFECTS_PER_MESSAGE_MAX: usize = 128;

/// Reports in one message; a report is at most 4 KiB apart from the inventory in the hello.
pub const REPORTS_PER_MESSAGE_MAX: usize = 512;

/// Machines that one agent may run: bounds its hello.
pub const MACHINES_PER_NODE_MAX: usize = 4096;

/// Machines of which one message tells what was measured: with `SAMPLE_VALUES_MAX` values each they are 340 KiB.
pub const SAMPLED_MACHINES_PER_PART_MAX: usize = 256;

/// Values of one machine or host at one moment: four for each of `DISKS_MAX` disks, and some.
pub const SAMPLE_VALUES_MAX: usize = 128;

/// Bytes of one specification, encoded: labels, selectors and the kernel command line are bounded below.
pub const SPEC_BYTES_MAX: usize = 64 * 1024;

/// Labels of a machine or node, and entries of a node selector.
pub const LABELS_MAX: usize = 64;

/// Bytes of a label's key or value.
pub const LABEL_BYTES_MAX: usize = 128;

/// Annotations of a machine: what tools keep beside it.
pub const ANNOTATIONS_MAX: usize = 64;

/// Bytes of an annotation's key.
pub const ANNOTATION_KEY_BYTES_MAX: usize = 128;

/// Bytes of an annotation's value: all of a machine's are at most 256 KiB.
pub const ANNOTATION_VALUE_BYTES_MAX: usize = 4096;

/// Bytes of a secret's value: a private key with its chain, or the credentials of a provider.
pub const SECRET_VALUE_BYTES_MAX: usize = 64 * 1024;

/// Secrets of one project, and of no project.
pub const SECRETS_PER_PROJECT_MAX: usize = 1_000;

/// Bytes of a kernel command line (x86 itself takes 2,048).
pub const KERNEL_APPEND_BYTES_MAX: usize = 2048;

/// Bytes of a path or image name in a specification.
pub const PATH_BYTES_MAX: usize = 1024;

/// Disks of one machine.
pub const DISKS_MAX: usize = 16;

/// Least memory of a machine: below it no firmware starts.
pub const VM_MEMORY_BYTES_MIN: u64 = 16 << 20;

/// Most memory of a machine: 16 TiB.
pub const VM_MEMORY_BYTES_MAX: u64 = 16 << 40;

/// Most virtual CPUs of a machine.
pub const VM_CPUS_MAX: u32 = 512;

/// Least size of a disk: 1 MiB, and all sizes are whole multiples of 64 KiB, the unit of disk migration.
pub const DISK_BYTES_MIN: u64 = 1 << 20;

/// Most size of a disk: 64 TiB.
pub const DISK_BYTES_MAX: u64 = 64 << 40;

/// The unit in which disks are moved and verified.
pub const DISK_BLOCK_BYTES: u64 = 64 * 1024;

/// Bytes of the reason in a failure: what a person reads, not a dump.
pub const REASON_BYTES_MAX: usize = 2048;

/// As much of the beginning of a text as fits so many bytes.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A reason, cut to [`REASON_BYTES_MAX`].
#[must_use]
pub fn cut_reason(mut reason: String) -> String {
    reason.truncate(cut(&reason, REASON_BYTES_MAX).len());
    reason
}

/// Migrations that run at once on one node unless the fleet's operators set another number.
pub const MIGRATIONS_PER_NODE_DEFAULT: u32 = 3;

/// What operators may set instead. Each takes a few threads and up to 16 MiB for each of its streams at both ends: 64
/// of them, with four streams each, are 4 GiB. A target keeps beside that, to the end of each, what it said of what it
/// had: up to 64 MiB for disks, and as much for memory if the migration started over.
pub const MIGRATIONS_PER_NODE_RANGE: RangeInclusive<u32> = 1..=64;

/// Machines of one batch.
pub const BATCH_ITEMS_MAX: usize = 1_000;

/// Bytes of what a project, principal, key or region is called for people.
pub const DISPLAY_NAME_BYTES_MAX: usize = 128;

/// Snapshots of one machine: each may grow to the size of the machine's disks.
pub const SNAPSHOTS_PER_VM_MAX: usize = 32;

/// Regions of one fleet. A rule names at most all of them, 12 KiB; all rules of all regions are 3 MiB.
pub const REGIONS_MAX: usize = 256;

/// Milliseconds from one region to another and back: a minute is farther than anything on Earth.
pub const LATENCY_MS_MAX: u32 = 60_000;

/// Networks of one fleet. With as many projects and regions as it may name, one is 32 KiB: all of them are at most 32 MiB,
/// and some 200 KiB where they name few.
pub const NETWORKS_MAX: usize = 1_000;

/// Projects that a network names; one for more is for all.
pub const NETWORK_PROJECTS_MAX: usize = 256;

/// Bytes of the name of a network interface of Linux.
pub const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// Certifications of a region, and those that a project asks for.
pub const CERTIFICATIONS_MAX: usize = 32;

/// Bytes of a certification's name.
pub const CERTIFICATION_BYTES_MAX: usize = 64;
/// Seconds that an API key may live: a minute to a year with its leap day.
pub const API_KEY_TTL_S_RANGE: RangeInclusive<u64> = 60..=366 * 86_400;

/// Seconds that a join token may live: a minute to a day.
pub const TOKEN_TTL_S_RANGE: RangeInclusive<u64> = 60..=86_400;

/// Bytes of what an alert says is wrong.
pub const ALERT_SUMMARY_BYTES_MAX: usize = 512;

/// Bytes of what somebody writes beside an alert.
pub const ALERT_NOTE_BYTES_MAX: usize = 512;

/// Micro-dollars of a month's budget: up to a billion dollars, far below what an invoice can say.
pub const BUDGET_MICRO_DOLLARS_RANGE: RangeInclusive<u64> = 1..=1_000_000_000_000_000;

/// Bytes of the reason of a correction of the ledger.
pub const CORRECTION_REASON_BYTES_MAX: usize = 512;

/// Micro-dollars of a price: a thousand dollars.
pub const PRICE_MICRO_DOLLARS_MAX: u64 = 1_000_000_000;

/// Usage records of one message or request; a record is 60 bytes, its outcome at most [`COVERED_MAX`] pairs: 1 MiB.
pub const USAGE_RECORDS_PER_BATCH_MAX: usize = 1_000;

/// Most seconds of one usage record: an hour, and it ends with the hour in which it began.
pub const USAGE_RECORD_S_MAX: u64 = 3_600;

/// How far a usage record may end after the fleet's clock: hosts whose clocks are further ahead are told.
pub const USAGE_AHEAD_S_MAX: u64 = 5 * 60;

/// How old a usage record may be: 35 days, for an agent that no coordinator could reach for so long.
pub const USAGE_AGE_S_MAX: u64 = 35 * 24 * 3_600;

/// Covered intervals that the answer to a usage record names; whoever sends the rest is told of the next ones then.
pub const COVERED_MAX: usize = 64;
