//! How far a migration is: phases and bytes only ever grow, whatever order reports arrive in.

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{MigrationId, NodeName};
use novacron_protocol::migration::{MigrationPhase, MigrationProgress, MigrationStatus};

use super::{Migration, Step};
use crate::state::change::Change;
use crate::state::event::About;
use crate::state::fleet::{Applying, Fleet};

impl Fleet {
    pub(in crate::state) fn note_progress(
        &mut self,
        now: &mut Applying,
        node: &NodeName,
        id: MigrationId,
        progress: &MigrationProgress,
    ) {
        let Some(migration) = self.migrations.get(&id) else { return };
        let is_under_way = matches!(migration.step, Step::Sending { .. } | Step::HandedOver);
        if migration.source != *node || !is_under_way {
            return;
        }
        self.change_migration(now, id, |migration| {
            migration.progress = Some(merged(migration.progress.take(), progress));
        });
        self.advance_phase(now, id, progress.phase);
        self.migrations.update(&id, |migration| {
            migration.percentage_reached = migration.percentage_reached.max(estimate(migration));
        });
    }

    pub(super) fn advance_phase(
        &mut self,
        now: &mut Applying,
        id: MigrationId,
        phase: MigrationPhase,
    ) {
        let Some(migration) = self.migrations.get(&id) else { return };
        if phase <= migration.phase {
            return;
        }
        let about = About::migration(migration.vm, id);
        let about = about.with(Change::field("phase", migration.phase, phase));
        let message = format!("machine {}: {}", migration.vm_name, phase_words(phase));
        self.change_migration(now, id, |migration| migration.phase = phase);
        self.emit(now, EventKind::MigrationPhase, about, message);
    }
}

impl Migration {
    /// 0 to 100; never falls.
    pub fn percentage(&self) -> u32 {
        match self.status() {
            MigrationStatus::Completed => 100,
            _ => self.percentage_reached,
        }
    }
}

/// What part of the work is behind it, by the newest estimate: disks end at 40, memory at 90.
fn estimate(migration: &Migration) -> u32 {
    let (least, most) = match migration.phase {
        MigrationPhase::Validate => return 0,
        MigrationPhase::Prepare => return 1,
        MigrationPhase::DiskSync => (2, 40),
        MigrationPhase::DataSync => (40, 90),
        MigrationPhase::Switchover => return 92,
        MigrationPhase::Verify => return 96,
        MigrationPhase::Cleanup => return 98,
    };
    let Some(progress) = &migration.progress else { return least };
    let whole = u128::from(progress.bytes_total).max(1);
    let done = whole.saturating_sub(u128::from(progress.bytes_remaining));
    let share = u128::from(most - least) * done / whole;
    least + u32::try_from(share).unwrap_or(0)
}

fn merged(old: Option<MigrationProgress>, new: &MigrationProgress) -> MigrationProgress {
    let Some(old) = old else { return new.clone() };
    MigrationProgress {
        phase: old.phase.max(new.phase),
        rounds: old.rounds.max(new.rounds),
        bytes_guest: old.bytes_guest.max(new.bytes_guest),
        bytes_wire: old.bytes_wire.max(new.bytes_wire),
        bytes_disk: old.bytes_disk.max(new.bytes_disk),
        bytes_remaining: new.bytes_remaining,
        bytes_total: new.bytes_total,
        wire_bits_per_second: new.wire_bits_per_second,
        content_bytes_per_second: new.content_bytes_per_second,
        dirty_bytes_per_second: new.dirty_bytes_per_second.or(old.dirty_bytes_per_second),
        source_load_permille: new.source_load_permille,
        target_load_permille: new.target_load_permille,
        elapsed_ms: old.elapsed_ms.max(new.elapsed_ms),
    }
}

fn phase_words(phase: MigrationPhase) -> &'static str {
    match phase {
        MigrationPhase::Validate => "checking",
        MigrationPhase::Prepare => "the target makes room",
        MigrationPhase::DiskSync => "copying disks",
        MigrationPhase::DataSync => "copying memory",
        MigrationPhase::Switchover => "switching over",
        MigrationPhase::Verify => "the target has it, both ends confirm",
        MigrationPhase::Cleanup => "the source clears up",
    }
}
