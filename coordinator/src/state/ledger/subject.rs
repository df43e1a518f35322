//! Whom usage is about: machines, also for a while after they are gone.

use novacron_protocol::ids::{Generation, ProjectName, VmId, VmName};
use novacron_protocol::limits::USAGE_AGE_S_MAX;
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::Labels;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use crate::state::fleet::Fleet;
use crate::state::table::ROW_BYTES_MAX;
use crate::state::vm::Vm;

/// Machines that are gone and may still have usage to come. Beyond it, what comes of the oldest is refused as of an
/// unknown machine: 35 days of 2,800 deletions a day, 300 bytes each without labels.
pub const SUBJECTS_MAX: usize = 100_000;

/// What the ledger knows of a machine that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name.
    pub name: VmName,
    /// The project that it belonged to.
    pub project: ProjectName,
    /// Its labels at the end.
    pub labels: Labels,
    /// The highest generation that was promised.
    pub generation_promised: Generation,
    /// When it was deleted.
    pub deleted_at: Timestamp,
}

impl Message for Subject {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "row of a machine that is gone";
}

/// What the ledger needs of a machine, there or gone.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its name.
    pub name: &'a VmName,
    /// The project that it belongs to.
    pub project: &'a ProjectName,
    /// Its labels.
    pub labels: &'a Labels,
    /// The highest generation that was promised.
    pub generation_promised: Generation,
}

impl Fleet {
    /// A machine as the ledger knows it.
    pub fn subject(&self, vm: VmId) -> Option<Known<'_>> {
        if let Some(vm) = self.vms.get(&vm) {
            return Some(Known {
                name: &vm.spec.name,
                project: vm.project(),
                labels: &vm.spec.labels,
                generation_promised: vm.generation_promised,
            });
        }
        self.ledger_subjects.get(&vm).map(|gone| Known {
            name: &gone.name,
            project: &gone.project,
            labels: &gone.labels,
            generation_promised: gone.generation_promised,
        })
    }

    /// Keeps what the ledger needs of a machine whose row is about to be forgotten.
    pub(in crate::state) fn keep_subject(&mut self, vm: &Vm) {
        let subject = Subject {
            name: vm.spec.name.clone(),
            project: vm.project().clone(),
            labels: vm.spec.labels.clone(),
            generation_promised: vm.generation_promised,
            deleted_at: vm.updated_at,
        };
        self.ledger_subjects.insert(vm.id, subject);
        if self.ledger_subjects.len() > SUBJECTS_MAX {
            // Ids ascend with their time.
            self.ledger_subjects.pop_first();
        }
    }

    /// Forgets machines that are gone for longer than any record may be late.
    pub(super) fn forget_subjects(&mut self, now: Timestamp) {
        let is_old = |gone: &Subject| now.since_ms(gone.deleted_at) / 1000 > USAGE_AGE_S_MAX;
        let old: Vec<VmId> = self
            .ledger_subjects
            .iter()
            .filter(|(_, gone)| is_old(gone))
            .map(|(vm, _)| *vm)
            .collect();
        for vm in old {
            self.ledger_subjects.remove(&vm);
        }
    }
}
