//! QEMU's migration stream, as bytes: parsed, written and rewritten.
//!
//! What is here decides nothing about a migration and touches no socket, clock or task; it may not
//! know of QUIC, of batches or of who is asking. Every decoder is fed by another process, so each
//! one has a limit on everything and answers bad input with a typed error that names the offset.
//!
//! | module | what |
//! |---|---|
//! | [`layout`] | for which QEMU versions the rest of this module holds |
//! | [`parser`], [`item`] | main channel, bytes to items: zero-copy, any chunking |
//! | [`writer`] | main channel, items to bytes, with QEMU's CONTINUE compression of block names |
//! | [`rewriter`] | main channel to main channel without the shared blocks' pages |
//! | [`multifd`] | channel greeting and packet header of the page channels |
//! | [`return_path`] | what the target's QEMU says back |
//! | [`block`] | RAM block names, lengths, the list of them |
//! | [`input`] | the bounded buffer between a socket and a parser |
//!
//! # How the source agent uses it
//!
//! ```text
//! main socket ─► InputBuffer ─► MainRewriter::advance(&mut output) ─► output ─► target's QEMU
//!                                 ├ Progress::Blocks        the RAM block list, once
//!                                 ├ Progress::SharedPage    a page for the page pipeline
//!                                 ├ Progress::Flush{epoch}  every channel must have reached its
//!                                 │                         SYNC of that epoch; inject() the
//!                                 │                         foreign pages, then go on
//!                                 ├ Progress::SwitchoverStart
//!                                 └ Progress::RamComplete   all pages applied before going on
//!
//! channel socket ─► 64 bytes ─► ChannelInit::parse
//!                └► 1344 bytes ─► PacketHeader::parse ─► payload_bytes() more ─► pages
//! ```
//!
//! **Epochs.** The pages a channel carries before its first SYNC packet, and what the main channel
//! carries before its first MULTIFD_FLUSH, are epoch 0; each SYNC and each flush ends an epoch.
//! [`rewriter::Progress::Flush`] names the epoch it ends. Inside an epoch no page occurs twice.

pub mod block;
pub mod input;
pub mod item;
pub mod layout;
pub mod multifd;
pub mod parser;
pub mod return_path;
pub mod rewriter;
pub mod writer;

pub use block::{BlockList, BlockName, RamBlock, StreamLimits};
pub use input::InputBuffer;
pub use item::{Item, Parsed};
pub use layout::{QemuVersion, StreamLayout};
pub use parser::{MainParser, StreamError, StreamErrorKind};
pub use rewriter::{MainRewriter, Progress, RewriteError};
pub use writer::MainWriter;
