//! What a migration is to everyone: its mode, phases, progress and final account.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{FieldCode, Findings};
use crate::vm::InvalidField;

/// How a machine moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MigrationMode {
    /// Memory and disks while the guest runs.
    Live,
    /// The stopped guest's disks; started afterwards if it was asked for.
    Cold,
    /// Disks while the guest runs; then the guest is shut down, the rest follows, and it boots at the target.
    Warm,
}

/// Least and most downtime that can be asked for, in milliseconds.
pub const DOWNTIME_LIMIT_MS_RANGE: RangeInclusive<u64> = 1..=60_000;

/// Least and most bandwidth that can be asked for, in bits per second: 1 Mbit/s to 1 Tbit/s.
pub const BANDWIDTH_BITS_PER_SECOND_RANGE: RangeInclusive<u64> = 1_000_000..=1_000_000_000_000;

/// How one migration shall be done, where that differs from the source agent's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct MigrationOptions {
    /// Milliseconds for which the guest may stand still, in [`DOWNTIME_LIMIT_MS_RANGE`]: what the source aims at when
    /// it decides to stop the guest, not a promise.
    pub downtime_limit_ms: Option<u64>,
    /// Bits per second that memory and disks together may put on the wire, in [`BANDWIDTH_BITS_PER_SECOND_RANGE`].
    pub bandwidth_bits_per_second: Option<u64>,
    /// Slow down a guest that writes faster than the link carries, until it fits.
    #[serde(default)]
    pub auto_converge: bool,
    /// Stop a guest that does not shut down in time in a warm migration, as if its power had failed.
    #[serde(default)]
    pub force_shutdown: bool,
}

impl MigrationOptions {
    /// Finds those that no migration of this mode can have.
    pub fn examine(&self, mode: MigrationMode, findings: &mut Findings) {
        if let Some(limit_ms) = self.downtime_limit_ms
            && !DOWNTIME_LIMIT_MS_RANGE.contains(&limit_ms)
        {
            let reason = format!("a downtime limit of {limit_ms} ms; it is from 1 ms to 60 s");
            findings.add("downtime_limit_ms", FieldCode::Range, reason);
        }
        if let Some(bits) = self.bandwidth_bits_per_second
            && !BANDWIDTH_BITS_PER_SECOND_RANGE.contains(&bits)
        {
            let reason =
                format!("a bandwidth of {bits} bits per second; it is from 1 Mbit/s to 1 Tbit/s");
            findings.add("bandwidth_bits_per_second", FieldCode::Range, reason);
        }
        let is_about_running = [
            ("auto_converge", self.auto_converge),
            ("downtime_limit_ms", self.downtime_limit_ms.is_some()),
        ];
        for (field, _) in is_about_running.into_iter().filter(|(_, is_asked)| *is_asked) {
            if mode != MigrationMode::Live {
                let reason =
                    "it is about a guest that moves while it runs: ask for a live migration";
                findings.add(field, FieldCode::Conflict, reason);
            }
        }
        if mode != MigrationMode::Warm && self.force_shutdown {
            let reason = "only a warm migration shuts the guest down";
            findings.add("force_shutdown", FieldCode::Conflict, reason);
        }
    }

    /// Whether a migration of this mode can have them.
    ///
    /// # Errors
    /// The first that it cannot.
    pub fn check(&self, mode: MigrationMode) -> Result<(), InvalidField> {
        let mut findings = Findings::default();
        self.examine(mode, &mut findings);
        findings.first()
    }
}

impl MigrationOptions {
    /// Those that mean something to a migration of this mode: for many machines at once, of which some are stopped.
    #[must_use]
    pub fn suited_to(self, mode: MigrationMode) -> Self {
        match mode {
            MigrationMode::Cold => {
                let bandwidth_bits_per_second = self.bandwidth_bits_per_second;
                Self { bandwidth_bits_per_second, ..Self::default() }
            }
            MigrationMode::Warm => Self { downtime_limit_ms: None, auto_converge: false, ..self },
            MigrationMode::Live => Self { force_shutdown: false, ..self },
        }
    }
}

/// What a migration is busy with. Phases only ever advance.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MigrationPhase {
    /// Capacity and compatibility are checked.
    Validate,
    /// The target makes room: disks, process, sockets.
    Prepare,
    /// Disks are copied while the guest runs.
    DiskSync,
    /// Memory is copied while the guest runs.
    DataSync,
    /// The guest stands still; the rest is copied and the right to run handed over.
    Switchover,
    /// The target has the machine; both ends compare and confirm.
    Verify,
    /// The source removes its copy.
    Cleanup,
}

/// How a migration stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MigrationStatus {
    /// Accepted, not begun.
    Queued,
    /// Under way.
    InProgress,
    /// The machine is at the target.
    Completed,
    /// The machine is at the source; the reason says why.
    Failed,
    /// The machine is at the source because somebody asked.
    Cancelled,
}

impl MigrationStatus {
    /// Whether nothing more will happen.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// How far a migration is, as its source sees it. Bytes only ever grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationProgress {
    /// Phase.
    pub phase: MigrationPhase,
    /// Rounds over the memory begun so far.
    pub rounds: u32,
    /// Bytes of guest memory that QEMU handed over so far, zero pages included.
    pub bytes_guest: u64,
    /// Bytes that were put on the wire so far, memory and disks, as QUIC stream payload.
    pub bytes_wire: u64,
    /// Bytes of disk content handed over so far.
    pub bytes_disk: u64,
    /// Bytes of memory and disks still to be sent, by the newest estimate.
    pub bytes_remaining: u64,
    /// Bytes that the migration will handle in all, by the newest estimate: for the percentage.
    pub bytes_total: u64,
    /// Rate on the wire over the last second, in bits per second.
    pub wire_bits_per_second: u64,
    /// Bytes of guest memory and disk content handed over per second, over the last seconds: `bytes_remaining` shrinks
    /// by this and grows by what the guest writes.
    pub content_bytes_per_second: u64,
    /// Bytes of memory that the guest writes per second, page by page, as QEMU measured last; none before it has.
    pub dirty_bytes_per_second: Option<u64>,
    /// Thousandths of the source host's processors that are in use, since the report before; none if it cannot tell.
    pub source_load_permille: Option<u16>,
    /// The same of the target's host, since it said so before; none before it has said it and while the link is away.
    pub target_load_permille: Option<u16>,
    /// Milliseconds since the source began.
    pub elapsed_ms: u64,
}

/// Milliseconds that a guest may stand still where nobody said another limit.
pub const DOWNTIME_LIMIT_MS_DEFAULT: u64 = 300;

/// Whether copying memory comes to an end while the guest writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Convergence {
    /// Memory is sent faster than the guest writes it, or what is left fits the downtime limit.
    Converging,
    /// The guest writes at least as fast as memory is sent: at these rates there is no end.
    NotConverging,
}

impl MigrationProgress {
    /// Whether it comes to an end; `None` while memory is not being copied or nothing was measured.
    pub fn convergence(&self, downtime_limit_ms: u64) -> Option<Convergence> {
        let dirty = self.dirty_bytes_per_second?;
        if self.phase != MigrationPhase::DataSync || self.content_bytes_per_second == 0 {
            return None;
        }
        let is_nearly_done = self.sent_in_ms(self.content_bytes_per_second)? <= downtime_limit_ms;
        if is_nearly_done || dirty < self.content_bytes_per_second {
            Some(Convergence::Converging)
        } else {
            Some(Convergence::NotConverging)
        }
    }

    /// Milliseconds until nothing is left, by the rates of the last seconds; `None` where nobody can tell, above all
    /// where the guest writes as fast as memory is sent.
    pub fn left_ms(&self, downtime_limit_ms: u64) -> Option<u64> {
        let dirty = match self.phase {
            MigrationPhase::DataSync => self.dirty_bytes_per_second.unwrap_or(0),
            _ => 0,
        };
        match self.convergence(downtime_limit_ms) {
            Some(Convergence::NotConverging) => None,
            // Less is left than a stop may take, whatever the guest writes.
            Some(Convergence::Converging) if dirty >= self.content_bytes_per_second => {
                self.sent_in_ms(self.content_bytes_per_second)
            }
            _ => self.sent_in_ms(self.content_bytes_per_second.saturating_sub(dirty)),
        }
    }

    fn sent_in_ms(&self, bytes_per_second: u64) -> Option<u64> {
        if self.bytes_remaining == 0 {
            return Some(0);
        }
        let milliseconds = u128::from(self.bytes_remaining) * 1000;
        let milliseconds = milliseconds.checked_div(u128::from(bytes_per_second))?;
        Some(u64::try_from(milliseconds).unwrap_or(u64::MAX))
    }
}

/// Where the downtime went, in microseconds, each as measured on the host that did it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DowntimeParts {
    /// The source stopped the guest until its last disk blocks were sent.
    pub disk_drain_us: u64,
    /// Until the last memory pages and the device state had left the source.
    pub memory_drain_us: u64,
    /// Until the target had applied them and loaded the device state.
    pub target_load_us: u64,
    /// Until both ends' digests were compared.
    pub verify_us: u64,
    /// Until the hand-over was durable at the source.
    pub release_us: u64,
    /// Until the target had made it durable, started the guest and said so (one round trip included).
    pub resume_us: u64,
}

impl DowntimeParts {
    /// The whole downtime in microseconds.
    pub fn total_us(&self) -> u64 {
        let parts = [
            self.disk_drain_us,
            self.memory_drain_us,
            self.target_load_us,
            self.verify_us,
            self.release_us,
            self.resume_us,
        ];
        // They come from two hosts: nonsense from one must not bring down who adds them up.
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// The account of a migration that completed, as the source measured it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationAccount {
    /// Milliseconds from the source's first step to the first moment the target ran the guest.
    pub total_ms: u64,
    /// Milliseconds of `total_ms` before the first byte of memory was asked of QEMU: connect, prepare, disks. Without
    /// memory, until all disks were copied once.
    pub prepare_ms: u64,
    /// Milliseconds of `total_ms` from the first byte of memory to the first moment the target ran the guest.
    pub memory_ms: u64,
    /// Where the downtime went; of a warm migration, from the guest's shutdown to its start. All zero for a cold one.
    pub downtime_parts: DowntimeParts,
    /// Rounds over the memory, or of a warm migration over what the guest wrote to its disks.
    pub rounds: u32,
    /// Bytes of guest memory that QEMU handed over, zero pages included.
    pub bytes_guest: u64,
    /// Bytes put on the wire, memory, disks and files, as QUIC stream payload.
    pub bytes_wire: u64,
    /// Bytes of `bytes_wire` that were memory and device state.
    pub bytes_wire_memory: u64,
    /// Bytes of `bytes_wire` that were disks.
    pub bytes_wire_disks: u64,
    /// Bytes of `bytes_wire` that were files to boot from.
    pub bytes_wire_files: u64,
    /// Bytes in UDP packets that the source sent: QUIC's own, what was said beside the streams, and what was sent again
    /// included.
    pub bytes_link: u64,
    /// Bytes of disk content handed over.
    pub bytes_disk: u64,
    /// Bytes of disk content that the target had before anything was sent.
    pub bytes_disk_held: u64,
    /// Bytes of `bytes_disk` that were handed over after the guest had stopped.
    pub bytes_disk_final: u64,
    /// Pages that were zero.
    pub pages_zero: u64,
    /// Pages not sent because the target had the same content.
    pub pages_same: u64,
    /// Pages not sent because the target has them in a file or from another machine.
    pub pages_known: u64,
    /// Pages of which what changed was sent.
    pub pages_differing: u64,
    /// Pages sent compressed.
    pub pages_packed: u64,
    /// Pages sent as they are.
    pub pages_raw: u64,
    /// Whether digests of memory and disks were compared at both ends and were equal.
    pub verified: bool,
    /// Whether pages were understood, or the stream was tunnelled as bytes.
    pub path: MemoryPath,
}

impl MigrationAccount {
    /// Pages whose content was sent, or what changed of it.
    pub fn pages_sent(&self) -> u64 {
        // It comes from another host: nonsense from there must not bring down who adds it up.
        [self.pages_differing, self.pages_packed, self.pages_raw]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// How memory travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryPath {
    /// Page by page.
    Pages,
    /// As a byte-exact compressed tunnel.
    Tunnel,
    /// Not at all: the guest was stopped.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copying(remaining: u64, content: u64, dirty: Option<u64>) -> MigrationProgress {
        MigrationProgress {
            phase: MigrationPhase::DataSync,
            rounds: 2,
            bytes_guest: 0,
            bytes_wire: 0,
            bytes_disk: 0,
            bytes_remaining: remaining,
            bytes_total: remaining,
            wire_bits_per_second: 1,
            content_bytes_per_second: content,
            dirty_bytes_per_second: dirty,
            source_load_permille: None,
            target_load_permille: None,
            elapsed_ms: 1,
        }
    }

    #[test]
    fn what_the_guest_writes_meanwhile_is_part_of_the_estimate() {
        let of = |progress: MigrationProgress| (progress.convergence(300), progress.left_ms(300));
        let converging = Some(Convergence::Converging);
        assert_eq!(of(copying(1000, 100, None)), (None, Some(10_000)));
        assert_eq!(of(copying(1000, 100, Some(0))), (converging, Some(10_000)));
        assert_eq!(of(copying(1000, 100, Some(50))), (converging, Some(20_000)));
        assert_eq!(of(copying(1000, 100, Some(100))), (Some(Convergence::NotConverging), None));
        assert_eq!(of(copying(30, 100, Some(200))), (converging, Some(300)), "it fits a stop");
        assert_eq!(of(copying(1000, 0, Some(50))), (None, None), "nothing moves");
        assert_eq!(of(copying(0, 0, None)), (None, Some(0)));
        let disks =
            MigrationProgress { phase: MigrationPhase::DiskSync, ..copying(1000, 100, Some(200)) };
        assert_eq!(of(disks), (None, Some(10_000)), "memory is not being copied");
        assert_eq!(of(copying(u64::MAX, 1, Some(u64::MAX))).1, None);
    }
}
