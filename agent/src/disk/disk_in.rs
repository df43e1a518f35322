//! A disk of the target: records become writes to QEMU's export.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use novacron_protocol::disk::{
    DiskContent, OutsideDisk, Record, RecordDecoder, RecordError, RunContent,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::flusher::Flusher;
use super::nbd::{ClientError, NbdClient};
use crate::migrate::relay::{Inlet, InletError};

/// Why a disk cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskInError {
    #[error(transparent)]
    Inlet(#[from] InletError),
    #[error("a disk record of the source is not understood")]
    Record(#[from] RecordError),
    #[error(transparent)]
    Outside(#[from] OutsideDisk),
    #[error("the disk cannot be written")]
    Write(#[from] ClientError),
    #[error("the migration is over")]
    Over,
}

/// One disk; run on a thread of its own.
pub(super) struct DiskIn {
    pub stream: Inlet,
    pub client: NbdClient<UnixStream>,
    pub flusher: Flusher,
    pub content: DiskContent,
    pub runtime: Handle,
    pub stop: CancellationToken,
    pub records_applied: Arc<AtomicU64>,
}

impl DiskIn {
    /// Until the source ends the stream: all of the disk is durable then, and this is its digest.
    pub(super) fn run(mut self) -> Result<[u8; 16], DiskInError> {
        let mut decoder = RecordDecoder::new()?;
        while let Some(frame) = self.receive()? {
            let record = decoder.decode(&frame, self.client.size_bytes())?;
            self.content.apply(&record)?;
            self.write(&record)?;
            self.records_applied.fetch_add(1, Ordering::Relaxed);
        }
        self.flusher.finish()?;
        self.client.flush()?;
        self.client.disconnect()?;
        Ok(self.content.digest())
    }

    fn receive(&mut self) -> Result<Option<bytes::Bytes>, DiskInError> {
        let receive = self.stream.receive();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(DiskInError::Over),
                received = receive => Ok(received?),
            }
        })
    }

    fn write(&mut self, record: &Record<'_>) -> Result<(), ClientError> {
        match record.content {
            RunContent::Zero(bytes) => self.client.write_zeroes(record.offset, bytes)?,
            RunContent::Data(data) => {
                self.client.write(record.offset, data)?;
                self.flusher.wrote(data.len());
            }
        }
        Ok(())
    }
}
