//! The machines of this host.
//!
//! | module | what |
//! |---|---|
//! | [`machine`], [`fence`], [`record`], [`command_line`] | pure: states and moves, the generation check, what is remembered, QEMU's arguments |
//! | [`machines`], `driver`, `orders`, `lending` | one task per machine that owns its record and its process |
//! | [`lease`] | a machine in the hands of a migration |
//! | [`launch`], [`process`], [`tpm`], [`network`] | processes that outlive the agent, and what goes with them |
//! | `snapshots` | how disks were, kept within them |
//! | [`image`], [`extents`], [`former`], `arrival` | disks: made of images, what they hold, those of machines that left, those of machines that arrive |
//! | [`files`], [`directories`], [`console`] | kernels, places, the serial port |

mod arrival;
pub mod command_line;
pub mod console;
pub mod directories;
mod driver;
pub mod extents;
pub mod fence;
pub mod files;
pub mod former;
pub mod image;
pub mod launch;
pub mod lease;
mod lending;
pub mod machine;
pub mod machines;
pub mod network;
mod orders;
pub mod process;
pub mod record;
mod snapshots;
pub mod throttle;
pub mod tpm;

pub use command_line::{RAM_BLOCK, disk_node};
pub use console::Attachment;
pub use directories::{Directories, MachineDirectories, SOCKET_NAME_BYTES_MAX};
pub use extents::Extents;
pub use files::{FileHash, FileStore};
pub use lease::{
    Departure, GuestFacts, IncomingGuest, Interrupted, LeaseError, Receiving, SourceGuest,
};
pub use machine::{Order, POWER_BUTTON_INTERVAL};
pub use machines::{MachineOrder, Machines, Settings, SnapshotOrder};
pub use record::{
    BootFiles, Disk, Hardware, MEMO_BYTES_MAX, Processor, SourceRole, TargetRole, VmRecord,
};
pub use throttle::Throttle;
