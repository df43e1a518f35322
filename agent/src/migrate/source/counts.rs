//! What this migration adds to the numbers of all: looked at twice a second, when the link is lost, and at the end.

use novacron_protocol::migration::MigrationProgress;
use novacron_protocol::session::source::SourceOutcome;

use super::Run;
use crate::metrics::{Ended, Moved, Side, Standing, result_word};

impl Run {
    /// Adds what was handled since the last time.
    pub(super) fn count(&mut self) {
        let disks = self.disk_counters();
        self.tally.moved(Moved {
            memory: self.memory_totals(),
            disk_guest_bytes: disks.bytes_disk,
            disk_held_bytes: disks.bytes_held,
            disk_wire_bytes: disks.bytes_wire,
            file_wire_bytes: self.file_bytes,
        });
        if let Some(connection) = self.dialogue.connection() {
            self.tally.link(&connection.statistics());
        }
    }

    pub(super) fn count_standing(&self, progress: &MigrationProgress) {
        let connection = self.dialogue.connection();
        self.tally.stands(Standing {
            phase: progress.phase,
            remaining_bytes: progress.bytes_remaining,
            dirty_bytes_per_second: progress.dirty_bytes_per_second.unwrap_or(0),
            congestion_window_bytes: connection
                .map_or(0, |connection| connection.statistics().path.cwnd),
        });
    }

    pub(super) fn count_interruption(&mut self) {
        self.tally.unlinked();
        self.context.metrics.link_interrupted(Side::Source);
    }

    /// Counts this migration, once its end is certain and before that is told.
    pub(super) fn count_end(&self, outcome: &SourceOutcome) {
        let elapsed_seconds = self.account.elapsed().as_secs_f64();
        let (duration_seconds, downtime) = match outcome {
            SourceOutcome::Completed => {
                let account = self.closed_account();
                // A stopped machine has no guest that could stand still.
                let downtime =
                    Some(account.downtime_parts).filter(|downtime| downtime.total_us() > 0);
                (account.total_ms as f64 / 1e3, downtime)
            }
            SourceOutcome::Failed { .. } | SourceOutcome::Cancelled => (elapsed_seconds, None),
        };
        self.context.metrics.ended_at_source(&Ended {
            mode: self.mode,
            result: result_word(outcome),
            duration_seconds,
            downtime,
        });
    }
}
