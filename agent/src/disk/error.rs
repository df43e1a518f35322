//! Why disks do not move.

use std::io;
use std::path::PathBuf;

use novacron_protocol::disk::{InvalidDiskSize, RecordEncodeError};

use super::nbd::ClientError;
use crate::qmp::QmpError;

/// What can go wrong with the disks of a migration. At either end it is the end of the migration, not of the guest.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A disk that cannot be.
    #[error(transparent)]
    Size(#[from] InvalidDiskSize),
    /// Source: no memory for a compressor.
    #[error(transparent)]
    Encoder(#[from] RecordEncodeError),
    /// Source: the socket for QEMU's mirror cannot be made.
    #[error("cannot listen at {path}")]
    Listen {
        /// The socket's path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The host gives no thread.
    #[error("the host gives no thread for disk {disk}")]
    Thread {
        /// Its number.
        disk: usize,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// QEMU does not do its part.
    #[error("QEMU cannot {what}")]
    Qemu {
        /// What it was to do.
        what: &'static str,
        /// The cause.
        #[source]
        source: QmpError,
    },
    /// Target: QEMU's export of the disk cannot be used.
    #[error("QEMU's export of disk {disk} cannot be used")]
    Export {
        /// Its number.
        disk: usize,
        /// The cause.
        #[source]
        source: ClientError,
    },
    /// Target: the disk that was made is not as large as the one that comes.
    #[error("disk {disk} has {here_bytes} bytes here and {offered_bytes} at the source")]
    OtherSize {
        /// Its number.
        disk: usize,
        /// Bytes of the disk here.
        here_bytes: u64,
        /// Bytes of the disk at the source.
        offered_bytes: u64,
    },
    /// Target: a stream for a disk that was not offered, or a second one for a disk.
    #[error("a stream for disk {disk} was not announced or came twice")]
    UnexpectedStream {
        /// The number.
        disk: u16,
    },
    /// Target: all should be there, and nothing came for this disk.
    #[error("no stream came for disk {disk}")]
    NoStream {
        /// Its number.
        disk: usize,
    },
    /// A disk failed on its way.
    #[error("disk {disk} failed on its way: {reason}")]
    Failed {
        /// Its number.
        disk: usize,
        /// For a person.
        reason: String,
    },
    /// Source: asked to complete what has not been copied once.
    #[error("disk {disk} is not copied yet")]
    NotReady {
        /// Its number.
        disk: usize,
    },
    /// It took too long.
    #[error("QEMU did not {what} within {seconds} s")]
    Deadline {
        /// What it was to do.
        what: &'static str,
        /// The deadline.
        seconds: u64,
    },
}

impl DiskError {
    /// For `map_err`.
    pub(super) fn qemu(what: &'static str) -> impl FnOnce(QmpError) -> Self {
        move |source| Self::Qemu { what, source }
    }
}
