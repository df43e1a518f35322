//! The messages of two agents about one migration, and what goes ahead of each data stream.
//!
//! The source opens the connection and one bidirectional control stream, on which it speaks first. Every further stream
//! is unidirectional from the source and begins with a [`StreamHeader`].

use serde::{Deserialize, Serialize};

use super::handover::Verdict;
use crate::ids::{Generation, MigrationId, VmId};
use crate::migration::MigrationMode;
use crate::version::MinorRange;
use crate::vm::DiskFormat;
use crate::wire::codec::Message;

/// Data streams of memory pages at most; QEMU itself allows 255 channels.
pub const LANES_MAX: u8 = 16;

/// Regions of a memory block whose digests are compared one by one: enough to say where a difference is, and
/// 64 KiB of message at 16 bytes each however large the block is.
pub const DIGEST_REGIONS_MAX: usize = 4096;

/// Files that travel beside the disks: kernel and initial RAM disk.
pub const FILES_MAX: usize = 8;

/// Bytes of one such file.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// From the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceMessage {
    /// First message: what is to come. The coordinator has told the target to expect it.
    Offer(Offer),
    /// All files and disks are copied once; memory follows. Sent for a cold migration too, where nothing follows.
    DisksSynchronised,
    /// Everything has been sent. The target loads it, verifies it and answers `Ready`.
    Sent(Sent),
    /// The right to run the machine is the target's. May be said again.
    Go,
    /// The link is back: what the source has heard, after which the target says what it has. Said first on a new
    /// connection about a migration that was not released. Neither this nor its answer counts as heard.
    Resume {
        /// The machine.
        vm: VmId,
        /// The migration.
        migration: MigrationId,
        /// Messages of the target that the source has heard.
        heard: u64,
    },
    /// What became of this migration? Said first on a new connection about a migration that was released.
    Ask {
        /// The machine.
        vm: VmId,
        /// The migration.
        migration: MigrationId,
    },
    /// The source gives the migration up and keeps the machine. The target removes what it has.
    Abort {
        /// For a person.
        reason: String,
    },
}

/// What the source is about to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Versions that the source speaks.
    pub versions: MinorRange,
    /// The migration.
    pub migration: MigrationId,
    /// The machine.
    pub vm: VmId,
    /// The generation that the target will hold.
    pub generation: Generation,
    /// How it moves.
    pub mode: MigrationMode,
    /// QEMU's machine type at the source, such as `pc-q35-10.0`; both ends must use the same.
    pub machine_type: String,
    /// Version of the source's QEMU.
    pub qemu_version: String,
    /// Processor model at the source, as given to QEMU.
    pub cpu_model: String,
    /// How memory travels.
    pub memory: MemoryOffer,
    /// Seed of the content hashes of this migration's pages and disk blocks. With a base it is the base's.
    pub hash_seed: u64,
    /// The migration at whose end the source knows what the target had of the machine's memory, if it knows of one.
    pub base: Option<MigrationId>,
    /// A random number that the source draws anew whenever it has forgotten what its targets keep for other machines, as
    /// when its agent was restarted: what they kept for an earlier one is of no use.
    pub source_run: u64,
    /// Disks in the order of the specification.
    pub disks: Vec<DiskOffer>,
    /// Files that the machine needs at the target.
    pub files: Vec<FileOffer>,
    /// Whether the machine shall be started at the target: after a warm migration.
    pub start: bool,
}

/// Pages that a target keeps for further machines of the same tenant, from the same source with the same
/// [`Offer::source_run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShelfOffer {
    /// Which it is: never the same for two.
    pub id: u64,
    /// Pages may be put under the numbers below this.
    pub pages_max: u32,
}

/// How memory travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryOffer {
    /// Page by page.
    Pages {
        /// Streams of pages.
        lanes: u8,
    },
    /// QEMU's main stream byte by byte, compressed; every frame carries the hash of the stream so far.
    Tunnel,
    /// No memory: a cold migration.
    None,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskOffer {
    /// Bytes that the guest sees, a multiple of 512.
    pub size_bytes: u64,
    /// Format of the file to make at the target.
    pub format: DiskFormat,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOffer {
    /// What it is to the machine.
    pub role: FileRole,
    /// BLAKE3 of the content.
    pub hash: [u8; 32],
    /// Length in bytes.
    pub bytes: u64,
}

/// What a file is to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FileRole {
    /// Kernel that QEMU loads.
    Kernel,
    /// Initial RAM disk.
    Initrd,
}

/// Everything has been sent: what the target must have seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Digests at the source, of what it sent.
    pub digests: Digests,
}

/// Digests of a machine's memory and disks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// Of each RAM block that travelled page by page, by name in order of the names.
    pub memory: Vec<MemoryDigest>,
    /// Of each disk in the order of the specification.
    pub disks: Vec<[u8; 16]>,
}

/// Digest of one RAM block: of the newest content of all its pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryDigest {
    /// The block's name, such as `pc.ram`.
    pub block: String,
    /// Pages of the block.
    pub pages: u64,
    /// One sum per region of the block, at most [`DIGEST_REGIONS_MAX`] regions of equal size.
    pub regions: Vec<[u8; 16]>,
}

impl Digests {
    /// The first difference, for a person; `None` if they are equal.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.memory.len() != other.memory.len() || self.disks.len() != other.disks.len() {
            return Some("the number of memory blocks or disks differs".to_owned());
        }
        let memory = self.memory.iter().zip(&other.memory).find_map(|(a, b)| a.difference(b));
        let disks = || {
            let differing = self.disks.iter().zip(&other.disks).position(|(a, b)| a != b)?;
            Some(format!("disk {differing} differs"))
        };
        memory.or_else(disks)
    }
}

impl MemoryDigest {
    fn difference(&self, other: &Self) -> Option<String> {
        if self.block != other.block || self.pages != other.pages {
            return Some(format!("memory block {} is not {}", self.block, other.block));
        }
        if self.regions.len() != other.regions.len() {
            return Some(format!("memory block {} is divided differently", self.block));
        }
        let region = self.regions.iter().zip(&other.regions).position(|(a, b)| a != b)?;
        Some(format!("memory block {} differs in region {region}", self.block))
    }
}

/// From the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetMessage {
    /// The offer is taken. The source sends the files named here, then the disks.
    Taken {
        /// The minor version that both speak.
        minor: u16,
        /// Hashes of the offered files that the target lacks.
        missing_files: Vec<[u8; 32]>,
        /// Whether the target still has the memory of the offered base, and begins with it.
        has_base: bool,
        /// Where pages may be kept, and what may be there already.
        shelf: Option<ShelfOffer>,
    },
    /// What a disk holds already, before `Prepared`; several for one disk, none for one that begins as zeros. See
    /// [`crate::disk::beginning`].
    Holds {
        /// Its number in the specification.
        disk: u16,
        /// A piece of what it holds.
        piece: Vec<u8>,
    },
    /// What memory holds already of an earlier attempt at this migration, before `Prepared`; several, or none. See
    /// [`crate::pages::beginning`].
    HoldsPages {
        /// A piece of what it holds.
        piece: Vec<u8>,
    },
    /// Process, disks and memory are there: the source may begin.
    Prepared,
    /// Bytes of the return path of the target's QEMU, except the final `SHUT`.
    ReturnPath(Vec<u8>),
    /// Loaded and verified: the digests are equal at the target. The guest can run there.
    Ready {
        /// Digests at the target, of what it holds.
        digests: Digests,
        /// Microseconds from the arrival of `Sent` until everything was applied and the device state loaded.
        load_us: u64,
    },
    /// The answer to `Resume`. What the source said after what is heard, it says again.
    Resumed {
        /// Messages of the source that the target has heard.
        heard: u64,
        /// For each data stream that has begun, the number of frames that were taken from it. The source sends each
        /// again from there.
        streams: Vec<(StreamHeader, u64)>,
    },
    /// The other answer to `Resume`: this agent was restarted, expects the machine and remembers nothing of it. The
    /// source offers everything anew on another connection. Does not count as heard.
    Forgotten,
    /// How many frames of each data stream have been processed: the source need not keep them. Does not count as heard.
    Processed(Vec<(StreamHeader, u64)>),
    /// How busy the target's host is, a few times a second. Does not count as heard.
    HostLoad {
        /// Thousandths of its processors that were in use since the last time.
        processors_permille: u16,
    },
    /// What the target has durably decided.
    Verdict(Verdict),
    /// The guest runs at the target.
    Running {
        /// Microseconds from the arrival of `Go` until the guest ran.
        resume_us: u64,
    },
    /// The target gave up; nothing of the machine is left there.
    Failed {
        /// For a person.
        reason: String,
    },
}

/// First frame on a data stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StreamHeader {
    /// Page batches.
    Lane {
        /// Its number, from 0.
        lane: u8,
    },
    /// The rest of QEMU's main stream.
    Main,
    /// Records of one disk.
    Disk {
        /// Its number in the specification.
        disk: u16,
    },
    /// What the guest has written to its serial port: the target's log goes on where the source's ends.
    ConsoleLog,
    /// One file's content.
    File {
        /// BLAKE3 of the content.
        hash: [u8; 32],
    },
}

impl SourceMessage {
    /// Whether a source says this only after it has heard [`TargetMessage::Prepared`], in whatever mode the machine moves.
    pub fn follows_prepared(&self) -> bool {
        matches!(self, Self::DisksSynchronised | Self::Sent(_) | Self::Go)
    }
}

impl StreamHeader {
    /// Whether a source opens this stream only after it has heard [`TargetMessage::Prepared`]. Files go before it, and
    /// memory may.
    pub fn follows_prepared(&self) -> bool {
        matches!(self, Self::Disk { .. } | Self::ConsoleLog)
    }
}

impl Message for SourceMessage {
    const VERSION: u16 = 3;
    const BYTES_MAX: usize = CONTROL_BYTES_MAX;
    const NAME: &'static str = "migration message of the source";
}

impl Message for TargetMessage {
    const VERSION: u16 = 4;
    const BYTES_MAX: usize = CONTROL_BYTES_MAX;
    const NAME: &'static str = "migration message of the target";
}

impl Message for StreamHeader {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 64;
    const NAME: &'static str = "stream header";
}

/// Bytes of one control message. The largest holds the digests: at most 64 KiB for each of a few memory blocks.
pub const CONTROL_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::wire::codec;

    fn of_all<M: Message>(messages: &[M]) -> (usize, u64) {
        let encode = |message: &M| codec::encode(message).unwrap();
        let bytes: Vec<u8> = messages.iter().flat_map(encode).collect();
        (bytes.len(), xxh3_64(&bytes))
    }

    /// If this fails, the layout has changed: raise the version.
    #[test]
    fn golden_messages_of_a_source() {
        let (migration, vm) = (MigrationId(Uuid::from_u128(1)), VmId(Uuid::from_u128(2)));
        let offer = Offer {
            versions: MinorRange { oldest: 0, newest: 0 },
            migration,
            vm,
            generation: Generation(3),
            mode: MigrationMode::Warm,
            machine_type: "pc-q35-10.0".to_owned(),
            qemu_version: "10.0.2".to_owned(),
            cpu_model: "host".to_owned(),
            memory: MemoryOffer::Pages { lanes: 4 },
            hash_seed: 5,
            base: Some(MigrationId(Uuid::from_u128(6))),
            source_run: 7,
            disks: vec![DiskOffer { size_bytes: 8, format: DiskFormat::Raw }],
            files: vec![FileOffer { role: FileRole::Initrd, hash: [9; 32], bytes: 10 }],
            start: true,
        };
        let messages = [
            SourceMessage::Offer(offer),
            SourceMessage::DisksSynchronised,
            SourceMessage::Sent(Sent { digests: digests(1) }),
            SourceMessage::Go,
            SourceMessage::Resume { vm, migration, heard: 11 },
            SourceMessage::Ask { vm, migration },
            SourceMessage::Abort { reason: "why".to_owned() },
        ];
        assert_eq!(
            (SourceMessage::VERSION, of_all(&messages)),
            (3, (479, 18_185_077_712_355_377_594))
        );
    }

    /// If this fails, the layout has changed: raise the version.
    #[test]
    fn golden_messages_of_a_target() {
        let header = StreamHeader::Disk { disk: 1 };
        let messages = [
            TargetMessage::Taken {
                minor: 1,
                missing_files: vec![[2; 32]],
                has_base: true,
                shelf: Some(ShelfOffer { id: 3, pages_max: 4 }),
            },
            TargetMessage::Holds { disk: 5, piece: vec![6] },
            TargetMessage::HoldsPages { piece: vec![7] },
            TargetMessage::Prepared,
            TargetMessage::ReturnPath(vec![8]),
            TargetMessage::Ready { digests: digests(9), load_us: 10 },
            TargetMessage::Resumed { heard: 11, streams: vec![(header, 12)] },
            TargetMessage::Forgotten,
            TargetMessage::Processed(vec![(header, 13)]),
            TargetMessage::HostLoad { processors_permille: 14 },
            TargetMessage::Verdict(Verdict::Refused),
            TargetMessage::Running { resume_us: 14 },
            TargetMessage::Failed { reason: "why".to_owned() },
        ];
        assert_eq!(
            (TargetMessage::VERSION, of_all(&messages)),
            (4, (342, 14_399_276_680_105_915_552))
        );
    }

    fn digests(region: u8) -> Digests {
        let memory =
            MemoryDigest { block: "pc.ram".into(), pages: 2, regions: vec![[0; 16], [region; 16]] };
        Digests { memory: vec![memory], disks: vec![[1; 16]] }
    }

    #[test]
    fn a_difference_is_named() {
        assert_eq!(digests(1).difference(&digests(1)), None);
        assert_eq!(
            digests(1).difference(&digests(2)).unwrap(),
            "memory block pc.ram differs in region 1"
        );
        let mut other = digests(1);
        other.disks[0][3] = 9;
        assert_eq!(digests(1).difference(&other).unwrap(), "disk 0 differs");
    }
}
