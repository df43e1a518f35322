//! The machines of this host.
//!
//! | module | what |
//! |---|---|
//! | [`machine`], [`fence`], [`record`], [`command_line`] | pure: states and moves, the generation check, what is remembered, QEMU's arguments |
//! | [`machines`], `driver`, `orders`, `lending` | one task per machine that owns its record and its process |
//! | [`lease`] | a machine in the hands of a migration |
//! | [`launch`], [`process`], [`tpm`], [`network`] | processes that outlive the agent, and what goes with them |
//! | [`image`], [`files`], [`directories`], [`console`] | disks, kernels, places, the serial port |

pub mod command_line;
pub mod console;
pub mod directories;
mod driver;
pub mod fence;
pub mod files;
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
pub mod tpm;

pub use command_line::{RAM_BLOCK, disk_node};
pub use console::Attachment;
pub use directories::{Directories, MachineDirectories, SOCKET_NAME_BYTES_MAX};
pub use files::{FileHash, FileStore};
pub use lease::{GuestFacts, IncomingGuest, Interrupted, LeaseError, Receiving, SourceGuest};
pub use machine::Order;
pub use machines::{MachineOrder, Machines, Settings};
pub use record::{
    BootFiles, Disk, Hardware, MEMO_BYTES_MAX, Processor, SourceRole, TargetRole, VmRecord,
};
