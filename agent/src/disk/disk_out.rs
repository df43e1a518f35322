//! A disk of the source: what QEMU's mirror writes becomes one stream of records.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::disk::{DiskContent, OutsideDisk, Record, RecordEncodeError, RecordEncoder};
use novacron_protocol::pages::Compression;
use novacron_transport::{FrameError, FramedSend};
use quinn::{SendStream, VarInt};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::counters::DiskCounters;
use super::nbd::{End, Export, ServeError, Sink, serve};

/// Why a disk cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskOutError {
    #[error("QEMU's mirror cannot be served")]
    Serve(#[from] ServeError<RecordError>),
    #[error("QEMU closed the connection of its mirror")]
    QemuLeft,
    #[error("the stream to the target cannot be ended")]
    Finish(#[source] FrameError),
}

/// Why a record cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error(transparent)]
    Outside(#[from] OutsideDisk),
    #[error("cannot encode disk blocks")]
    Encode(#[from] RecordEncodeError),
    #[error("the disk's stream to the target failed")]
    Send(#[from] FrameError),
    #[error("the target has not taken a disk record for {} s", STALL_DEADLINE.as_secs())]
    Stalled,
    #[error("the migration is over")]
    Over,
}

/// How long the target may take for one record. QEMU may be deaf, and its guest with it, while a write is not answered:
/// better no migration than that. Longer than a connection lives on which nothing comes, so it is met only by a target
/// that is there and whose disk is not.
const STALL_DEADLINE: Duration = Duration::from_secs(15);

/// Disks are compressed as pages are by default.
const COMPRESSION: Compression = Compression::Zstd { level: 1 };

/// What the target reads if the disk did not end as it should: never a clean end.
const CUT_OFF: VarInt = VarInt::from_u32(1);

/// One disk; run on a thread of its own.
pub(super) struct DiskOut {
    pub socket: UnixStream,
    pub export: Export,
    pub recorder: Recorder,
}

/// Where QEMU's writes go.
pub(super) struct Recorder {
    pub content: DiskContent,
    pub stream: FramedSend<SendStream>,
    pub runtime: Handle,
    pub counters: Arc<DiskCounters>,
    pub stop: CancellationToken,
    pub encoder: RecordEncoder,
}

impl DiskOut {
    /// Until QEMU says goodbye: all of the disk is on the stream then, and this is its digest.
    pub(super) fn run(mut self) -> Result<[u8; 16], DiskOutError> {
        let ended = match serve(&self.socket, &self.export, &mut self.recorder) {
            Ok(End::Disconnected) => self.recorder.finish(),
            Ok(End::Closed) => Err(DiskOutError::QemuLeft),
            Err(error) => Err(error.into()),
        };
        if ended.is_err() {
            // Dropping it would end it cleanly. If it has ended otherwise, that is as good.
            let _ = self.recorder.stream.stream_mut().reset(CUT_OFF);
        }
        ended
    }
}

impl Recorder {
    pub(super) fn encoder() -> Result<RecordEncoder, RecordEncodeError> {
        RecordEncoder::new(COMPRESSION)
    }

    fn finish(&mut self) -> Result<[u8; 16], DiskOutError> {
        self.runtime.block_on(self.stream.finish()).map_err(DiskOutError::Finish)?;
        Ok(self.content.digest())
    }

    fn send(&mut self, record: &Record<'_>) -> Result<(), RecordError> {
        let mut bytes = Vec::new();
        self.encoder.encode(record, &mut bytes)?;
        self.counters.count_record(record, bytes.len());
        let send = self.stream.send(Bytes::from(bytes));
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(RecordError::Over),
                sent = tokio::time::timeout(STALL_DEADLINE, send) => {
                    Ok(sent.map_err(|_| RecordError::Stalled)??)
                }
            }
        })
    }
}

impl Sink for Recorder {
    type Error = RecordError;

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), RecordError> {
        self.counters.count_written(data.len() as u64);
        let records = self.content.write(offset, data)?;
        records.iter().try_for_each(|record| self.send(record))
    }

    fn zero(&mut self, offset: u64, bytes: u64) -> Result<(), RecordError> {
        for record in self.content.zero(offset, bytes)? {
            self.counters.count_written(record.disk_bytes());
            self.send(&record)?;
        }
        Ok(())
    }
}
