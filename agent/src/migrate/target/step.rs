//! What takes its time, and what follows when it is done.

use novacron_protocol::pages::PageTable;
use novacron_protocol::session::message::StreamHeader;
use novacron_transport::FramedRecv;
use quinn::RecvStream;
use tokio::sync::mpsc;

use super::Run;
use super::streams::StreamFault;
use crate::disk::{DiskEvent, IncomingDisks};
use crate::vm::Receiving;

/// Something that took its time is done.
pub(super) enum Step {
    Stream(Result<(StreamHeader, FramedRecv<RecvStream>), StreamFault>),
    FileReceived(Result<[u8; 32], StreamFault>),
    LogReceived(Result<(), String>),
    /// A QEMU that waits.
    Started(Result<Box<Receiving>, String>),
    DisksBegun(Result<(IncomingDisks, mpsc::Receiver<DiskEvent>), String>),
    /// What is in the guest's memory.
    MemoryFound(Result<Box<PageTable>, String>),
    DisksFinished(Result<Vec<[u8; 16]>, String>),
}

impl Run {
    pub(super) async fn step(&mut self, step: Result<Step, tokio::task::JoinError>) {
        let Ok(step) = step else { return };
        match step {
            Step::Stream(Ok((header, frames))) => self.begin_stream(header, frames),
            Step::FileReceived(Ok(hash)) => {
                // One that was cut when it had arrived comes again.
                let missing = self.missing_files.iter().position(|file| file.hash == hash);
                if let Some(index) = missing {
                    self.missing_files.swap_remove(index);
                    if self.missing_files.is_empty() {
                        self.prepare();
                    }
                }
            }
            Step::LogReceived(Ok(())) => {
                self.loading.log = true;
                self.check_loaded();
            }
            Step::Started(Ok(receiving)) => self.started(*receiving),
            Step::DisksBegun(Ok((disks, events))) => self.disks_begun(disks, events).await,
            Step::MemoryFound(Ok(table)) => self.memory_found(*table).await,
            Step::DisksFinished(Ok(digests)) => {
                self.loading.disks = Some(digests);
                self.check_loaded();
            }
            Step::Stream(Err(StreamFault::Cut)) | Step::FileReceived(Err(StreamFault::Cut)) => {}
            Step::Stream(Err(StreamFault::Nonsense(reason)))
            | Step::FileReceived(Err(StreamFault::Nonsense(reason)))
            | Step::LogReceived(Err(reason))
            | Step::Started(Err(reason))
            | Step::DisksBegun(Err(reason))
            | Step::MemoryFound(Err(reason))
            | Step::DisksFinished(Err(reason)) => self.fail(reason),
        }
    }
}
