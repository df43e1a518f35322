//! What takes its time, and what follows when it is done.

use novacron_protocol::session::source::SourceEvent;

use super::link::{ResumeFault, Resumption};
use super::{Run, progress};
use crate::migrate::control::Control;
use crate::migrate::files::FileTransferError;
use crate::migrate::relay::Outlets;
use crate::reason::reason;

/// Something that took its time is done.
pub(super) enum Step {
    Connected(Result<Control, String>),
    Resumed(Result<Resumption, ResumeFault>),
    FileSent(Result<u64, FileTransferError>),
    DisksReady(Result<(), String>),
    /// A disk that was in step failed.
    DiskFailed(String),
    DisksDrained(Result<Vec<[u8; 16]>, String>),
    LogSent(Result<(), String>),
    Remaining(Option<progress::Remaining>),
    /// What was left to send at the beginning of a round.
    Round(Option<u64>),
    /// Of a warm migration: what is left of the disks.
    Left(Option<u64>),
    /// Of a warm migration: the guest was shut down.
    ShutDown(Result<(), String>),
    /// QEMU was told something that needs no answer.
    Told,
}

impl Run {
    pub(super) async fn step(&mut self, step: Result<Step, tokio::task::JoinError>) {
        let Ok(step) = step else { return };
        match step {
            Step::Connected(Ok(control)) => {
                let connection = control.connection().clone();
                self.outlets = Outlets::begin_limited(connection, self.bandwidth_limit());
                self.dialogue.begin(control, 0);
                self.handle(SourceEvent::Connected);
            }
            Step::Resumed(Ok(resumption)) => self.resumed(resumption).await,
            Step::Connected(Err(reason)) | Step::Resumed(Err(ResumeFault::Away(reason))) => {
                self.link_lost(reason);
            }
            Step::Resumed(Err(ResumeFault::Forgotten)) => self.handle(SourceEvent::Forgotten),
            Step::Resumed(Err(ResumeFault::Over(reason))) => {
                self.fail(format!("the target gave up: {reason}"));
            }
            Step::FileSent(Ok(bytes)) => {
                self.file_bytes += bytes;
                self.remember();
            }
            // It is sent again when the link is back.
            Step::FileSent(Err(error)) if error.is_of_link() => {}
            Step::FileSent(Err(error)) => self.fail(reason(&error)),
            Step::DisksReady(Ok(())) => self.disks_ready(),
            Step::DisksDrained(Ok(digests)) => self.disks_drained(digests).await,
            Step::LogSent(Ok(())) => {}
            Step::Remaining(said) => {
                said.into_iter().for_each(|said| self.progress.remaining(said))
            }
            Step::Round(left_bytes) => self.round_began(left_bytes),
            Step::Left(left_bytes) => self.round_looked(left_bytes).await,
            Step::ShutDown(Ok(())) => self.guest_is_down(),
            Step::Told => {}
            Step::DisksReady(Err(reason))
            | Step::DiskFailed(reason)
            | Step::ShutDown(Err(reason))
            | Step::DisksDrained(Err(reason))
            | Step::LogSent(Err(reason)) => self.fail(reason),
        }
    }
}
