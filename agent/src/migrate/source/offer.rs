//! What a source offers to its target.

use novacron_protocol::migration::MigrationMode;
use novacron_protocol::qemu::QemuVersion;
use novacron_protocol::session::message::{DiskOffer, FileOffer, FileRole, MemoryOffer, Offer};
use novacron_protocol::version::MINOR_RANGE;

use crate::migrate::context::Context;
use crate::migrate::memory::OutgoingForm;
use crate::vm::{BootFiles, SourceGuest};

pub(super) fn make_offer(
    context: &Context,
    guest: &SourceGuest,
    form: &OutgoingForm,
    version: Option<QemuVersion>,
    hash_seed: u64,
) -> Offer {
    let (facts, role) = (guest.facts(), guest.role());
    let memory = match (role.mode, form) {
        (MigrationMode::Cold | MigrationMode::Warm, _) => MemoryOffer::None,
        (MigrationMode::Live, OutgoingForm::Tunnel) => MemoryOffer::Tunnel,
        (MigrationMode::Live, OutgoingForm::Pages(plan)) => {
            MemoryOffer::Pages { lanes: plan.channels + 1 }
        }
    };
    let disk =
        |disk: &crate::vm::Disk| DiskOffer { size_bytes: disk.size_bytes, format: disk.format };
    Offer {
        versions: MINOR_RANGE,
        migration: role.migration,
        vm: facts.vm,
        generation: role.target_generation,
        mode: role.mode,
        machine_type: facts.hardware.machine_type.clone(),
        qemu_version: version.map(|version| version.to_string()).unwrap_or_default(),
        cpu_model: facts.processor.cpu_model.clone(),
        memory,
        hash_seed,
        base: None,
        source_run: context.catalogues.run(),
        disks: facts.hardware.disks.iter().map(disk).collect(),
        files: file_offers(context, &facts.hardware.boot),
        start: role.mode == MigrationMode::Warm,
    }
}

fn file_offers(context: &Context, boot: &BootFiles) -> Vec<FileOffer> {
    let BootFiles::Kernel { kernel, initrd, .. } = boot else { return Vec::new() };
    let store = context.machines.files();
    let offer = |role, hash: crate::vm::FileHash| {
        let bytes = store.length_bytes(hash).unwrap_or_default();
        FileOffer { role, hash: hash.0, bytes }
    };
    let initrd = initrd.map(|hash| offer(FileRole::Initrd, hash));
    [offer(FileRole::Kernel, *kernel)].into_iter().chain(initrd).collect()
}
