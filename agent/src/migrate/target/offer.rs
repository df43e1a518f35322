//! Whether an offer is what the coordinator announced: pure.

use novacron_protocol::ids::{Generation, MigrationId, NodeName, VmId};
use novacron_protocol::limits::DISK_BYTES_MAX;
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::message::{
    FILE_BYTES_MAX, FILES_MAX, FileOffer, FileRole, LANES_MAX, MemoryOffer, Offer,
};
use novacron_protocol::version::{MINOR_RANGE, VersionMismatch, agree};
use novacron_protocol::vm::{Boot, VmSpec};

use crate::vm::{BootFiles, Disk, FileHash, Hardware};

/// What the coordinator announced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announced<'a> {
    pub vm: VmId,
    pub migration: MigrationId,
    pub generation: Generation,
    pub source: &'a NodeName,
    pub mode: MigrationMode,
    pub spec: &'a VmSpec,
}

/// Why an offer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OfferRefusal {
    #[error(transparent)]
    Version(#[from] VersionMismatch),
    #[error("the machine was announced from {announced}, not from {found}")]
    Sender { announced: NodeName, found: String },
    #[error("the offer is not the announced migration: {0} differs")]
    Differs(&'static str),
    #[error("the offer is out of its limits: {0}")]
    Limits(&'static str),
}

/// Checks an offer that came from the agent of `sender`; returns the minor version to speak.
pub(super) fn check(
    offer: &Offer,
    announced: Announced<'_>,
    sender: &str,
) -> Result<u16, OfferRefusal> {
    let minor = agree(MINOR_RANGE, offer.versions)?;
    if sender != announced.source.as_str() {
        let (announced, found) = (announced.source.clone(), sender.to_owned());
        return Err(OfferRefusal::Sender { announced, found });
    }
    check_identity(offer, announced)?;
    check_limits(offer)?;
    Ok(minor)
}

fn check_identity(offer: &Offer, announced: Announced<'_>) -> Result<(), OfferRefusal> {
    let disks_agree = offer.disks.len() == announced.spec.disks.len()
        && offer.disks.iter().zip(&announced.spec.disks).all(|(a, b)| a.format == b.format);
    let has_kernel = offer.files.iter().any(|file| file.role == FileRole::Kernel);
    let boots_kernel = matches!(announced.spec.boot, Boot::Kernel { .. });
    let memory_agrees =
        (offer.memory == MemoryOffer::None) == (announced.mode != MigrationMode::Live);
    let start_agrees = offer.start == (announced.mode == MigrationMode::Warm);
    for (what, agrees) in [
        ("the machine", offer.vm == announced.vm),
        ("the migration", offer.migration == announced.migration),
        ("the generation", offer.generation == announced.generation),
        ("the mode", offer.mode == announced.mode && memory_agrees && start_agrees),
        ("the number or format of disks", disks_agree),
        ("the kernel", has_kernel == boots_kernel),
    ] {
        if !agrees {
            return Err(OfferRefusal::Differs(what));
        }
    }
    Ok(())
}

fn check_limits(offer: &Offer) -> Result<(), OfferRefusal> {
    let lanes_fit = match offer.memory {
        MemoryOffer::Pages { lanes } => (2..=LANES_MAX).contains(&lanes),
        MemoryOffer::Tunnel | MemoryOffer::None => true,
    };
    let file_fits = |file: &FileOffer| (1..=FILE_BYTES_MAX).contains(&file.bytes);
    let plain = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    for (what, fits) in [
        ("2 to 16 lanes", lanes_fit),
        (
            "a few files of at most 1 GiB",
            offer.files.len() <= FILES_MAX && offer.files.iter().all(file_fits),
        ),
        (
            "disks of at most 64 TiB",
            offer.disks.iter().all(|disk| disk.size_bytes <= DISK_BYTES_MAX),
        ),
        // Both become words of QEMU's command line.
        ("a plain machine type", plain(&offer.machine_type)),
        ("a plain processor model", plain(&offer.cpu_model)),
    ] {
        if !fits {
            return Err(OfferRefusal::Limits(what));
        }
    }
    Ok(())
}

/// What the machine is made of, as the source says.
pub(super) fn hardware(offer: &Offer, spec: &VmSpec) -> Hardware {
    let hash_of = |role| {
        let file = offer.files.iter().find(|file| file.role == role);
        file.map(|file| FileHash(file.hash))
    };
    let boot = match (&spec.boot, hash_of(FileRole::Kernel)) {
        (Boot::Kernel { append, .. }, Some(kernel)) => {
            BootFiles::Kernel { kernel, initrd: hash_of(FileRole::Initrd), append: append.clone() }
        }
        _ => BootFiles::Disk,
    };
    let disk = |disk: &novacron_protocol::session::message::DiskOffer| Disk {
        size_bytes: disk.size_bytes,
        format: disk.format,
    };
    Hardware {
        machine_type: offer.machine_type.clone(),
        boot,
        disks: offer.disks.iter().map(disk).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_protocol::session::message::DiskOffer;
    use novacron_protocol::version::MinorRange;
    use novacron_protocol::vm::{DiskFormat, DiskSpec, Labels, Network};
    use uuid::Uuid;

    fn spec() -> VmSpec {
        let disk = DiskSpec { size_bytes: 1 << 20, image: String::new(), format: DiskFormat::Raw };
        VmSpec {
            name: "web-01".parse().unwrap(),
            project: novacron_protocol::ids::ProjectName::default(),
            memory_bytes: 64 << 20,
            cpus: 1,
            disks: vec![disk],
            boot: Boot::Disk,
            network: Network::None,
            labels: Labels::new(),
            node_selector: Labels::new(),
            enable_tpm: false,
        }
    }

    fn offer() -> Offer {
        Offer {
            versions: MINOR_RANGE,
            migration: MigrationId(Uuid::from_u128(1)),
            vm: VmId(Uuid::from_u128(2)),
            generation: Generation(2),
            mode: MigrationMode::Live,
            machine_type: "pc-q35-10.0".into(),
            qemu_version: "10.0.2".into(),
            cpu_model: "Nehalem-v1".into(),
            memory: MemoryOffer::Pages { lanes: 3 },
            base: None,
            hash_seed: 1,
            source_run: 1,
            disks: vec![DiskOffer { size_bytes: 1 << 20, format: DiskFormat::Raw }],
            files: Vec::new(),
            start: false,
        }
    }

    fn refusal(change: impl FnOnce(&mut Offer)) -> Option<String> {
        let (mut offer, spec, source) = (offer(), spec(), "node-01".parse().unwrap());
        change(&mut offer);
        let announced = Announced {
            vm: VmId(Uuid::from_u128(2)),
            migration: MigrationId(Uuid::from_u128(1)),
            generation: Generation(2),
            source: &source,
            mode: MigrationMode::Live,
            spec: &spec,
        };
        check(&offer, announced, "node-01").err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn an_offer_that_is_not_the_announced_one_is_refused_by_name() {
        assert_eq!(refusal(|_| ()), None);
        let contains = |refusal: Option<String>, text: &str| {
            let refusal = refusal.unwrap();
            assert!(refusal.contains(text), "{refusal} does not say {text}");
        };
        contains(refusal(|offer| offer.generation = Generation(3)), "generation");
        contains(refusal(|offer| offer.disks.clear()), "disks");
        contains(refusal(|offer| offer.memory = MemoryOffer::None), "mode");
        contains(refusal(|offer| offer.start = true), "mode");
        contains(refusal(|offer| offer.memory = MemoryOffer::Pages { lanes: 200 }), "lanes");
        contains(refusal(|offer| offer.machine_type = "q35,foo=bar".into()), "machine type");
        contains(
            refusal(|offer| offer.versions = MinorRange { oldest: 900, newest: 901 }),
            "no common version",
        );
    }
}
