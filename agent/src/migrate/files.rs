//! Kernels and initial RAM disks that the target lacks, on streams of their own.

use std::io::{self, Read};
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use novacron_protocol::session::message::{FileRole, StreamHeader};
use novacron_transport::{Connection, FrameError, FramedRecv};
use quinn::RecvStream;
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;

use super::context::Context;
use super::memory::{BootFile, OutgoingError, open};
use super::relay::Limit;
use crate::vm::{BootFiles, FileHash};

/// Bytes of a file in one frame.
const FILE_FRAME_BYTES_MAX: usize = 256 * 1024;

/// Why a file could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum FileTransferError {
    /// It cannot be read here.
    #[error("a file of the machine cannot be read")]
    File(#[from] io::Error),
    /// Its stream cannot be opened.
    #[error(transparent)]
    Open(#[from] OutgoingError),
    /// Its stream failed.
    #[error("the stream of a file failed")]
    Stream(#[from] FrameError),
}

impl FileTransferError {
    /// Whether the connection or the other end is at fault, of which the control stream tells.
    pub(super) fn is_of_link(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Stream(_))
    }
}

/// Files from which the guest was booted, in the order of the offer: both ends have them.
pub(super) fn boot_files(context: &Context, boot: &BootFiles) -> Vec<BootFile> {
    let BootFiles::Kernel { kernel, initrd, .. } = boot else { return Vec::new() };
    let store = context.machines.files();
    let file = |role, hash: FileHash| BootFile { role, path: store.path(hash) };
    let initrd = initrd.map(|hash| file(FileRole::Initrd, hash));
    [file(FileRole::Kernel, *kernel)].into_iter().chain(initrd).collect()
}

/// Sends the file at `path` as the content of `hash`, no faster than `limit` allows; returns its length in bytes.
pub(super) async fn send(
    connection: &Connection,
    limit: &Limit,
    path: &Path,
    hash: [u8; 32],
) -> Result<u64, FileTransferError> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut stream = open(connection, StreamHeader::File { hash }, FILE_FRAME_BYTES_MAX).await?;
    let mut sent = 0;
    loop {
        let mut piece = BytesMut::with_capacity(FILE_FRAME_BYTES_MAX);
        let count = (&mut file).take(FILE_FRAME_BYTES_MAX as u64).read_buf(&mut piece).await?;
        if count == 0 {
            break;
        }
        sent += count as u64;
        limit.take(count).await;
        stream.send(Bytes::from(piece)).await?;
    }
    stream.finish().await?;
    Ok(sent)
}

/// A file's stream as something that can be read by code that blocks, up to the length that was offered.
pub(super) struct FileReader {
    stream: FramedRecv<RecvStream>,
    runtime: Handle,
    piece: Bytes,
    remaining_bytes: u64,
    is_cut: bool,
}

impl FileReader {
    /// Reads `bytes` bytes from `stream`. For a thread outside of the runtime that `runtime` names.
    pub(super) fn new(stream: FramedRecv<RecvStream>, runtime: Handle, bytes: u64) -> Self {
        Self { stream, runtime, piece: Bytes::new(), remaining_bytes: bytes, is_cut: false }
    }

    /// Whether the stream ended before the file did.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn next_piece(&mut self) -> io::Result<Bytes> {
        let piece = self.runtime.block_on(self.stream.receive());
        self.is_cut = matches!(piece, Err(FrameError::Stream(_) | FrameError::CutOff { .. }));
        Ok(piece.map_err(io::Error::other)?.unwrap_or_default())
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.piece = self.next_piece()?;
        }
        let count = self.piece.len().min(buffer.len());
        self.remaining_bytes = (self.remaining_bytes)
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other("a file is longer than it was announced"))?;
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
