//! A disk of the source: what QEMU's mirror writes becomes one stream of records.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::disk::{DiskContent, OutsideDisk, Record, RecordEncodeError, RecordEncoder};

use super::counters::DiskCounters;
use super::nbd::{End, Export, ServeError, Sink, serve};
use crate::migrate::memory::pace::{LaneClock, Pace};
use crate::migrate::relay::{Outlet, OutletError};

/// Why a disk cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskOutError {
    #[error("QEMU's mirror cannot be served")]
    Serve(#[from] ServeError<RecordError>),
    #[error("QEMU closed the connection of its mirror")]
    QemuLeft,
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Why a record cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error(transparent)]
    Outside(#[from] OutsideDisk),
    #[error("cannot encode disk blocks")]
    Encode(#[from] RecordEncodeError),
    #[error(transparent)]
    Outlet(#[from] OutletError),
}

/// How much longer than a link may be away the target may take for one record: it is met only by a target that is there
/// and whose disk is not. QEMU may be deaf, and its guest with it, while a write is not answered: better no migration
/// than that for ever.
const STALL_GRACE: Duration = Duration::from_secs(15);

/// One disk; run on a thread of its own.
pub(super) struct DiskOut {
    pub socket: UnixStream,
    pub export: Export,
    pub recorder: Recorder,
}

impl DiskOut {
    /// Until QEMU says goodbye: all of the disk is on the stream then, and this is its digest.
    pub(super) fn run(mut self) -> Result<[u8; 16], DiskOutError> {
        // On this thread, whose processor time it counts.
        self.recorder.clock = LaneClock::start();
        match serve(&self.socket, &self.export, &mut self.recorder)? {
            End::Disconnected => Ok(self.recorder.finish()?),
            // The stream is not ended: the target waits until it is told that the migration is over.
            End::Closed => Err(DiskOutError::QemuLeft),
        }
    }
}

/// Where QEMU's writes go.
pub(super) struct Recorder {
    pub content: DiskContent,
    pub outlet: Outlet,
    /// For how long the link may be away.
    pub link_patience: Duration,
    pub counters: Arc<DiskCounters>,
    pub encoder: RecordEncoder,
    /// How hard to compress, which all disks of the migration find out together.
    pub pace: Arc<Pace>,
    pub clock: LaneClock,
}

impl Recorder {
    fn finish(&mut self) -> Result<[u8; 16], RecordError> {
        // A mirror that is ready has flushed before; whatever another QEMU does, nothing may be left unsaid.
        self.flush()?;
        self.outlet.finish();
        Ok(self.content.digest())
    }

    fn send(&mut self, record: &Record<'_>) -> Result<(), RecordError> {
        let mut bytes = Vec::new();
        self.encoder.set_compression(self.pace.compression(&mut self.clock))?;
        self.encoder.encode(record, &mut bytes)?;
        self.counters.count_record(record, bytes.len());
        self.clock.worked();
        self.outlet.send_within(Bytes::from(bytes), self.link_patience + STALL_GRACE)?;
        self.clock.waited();
        Ok(())
    }
}

impl Sink for Recorder {
    type Error = RecordError;

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), RecordError> {
        self.clock.idle();
        self.counters.count_written(data.len() as u64);
        let records = self.content.write(offset, data)?;
        records.iter().try_for_each(|record| self.send(record))?;
        self.clock.worked();
        Ok(())
    }

    fn zero(&mut self, offset: u64, bytes: u64) -> Result<(), RecordError> {
        for record in self.content.zero(offset, bytes)? {
            self.counters.count_written(record.disk_bytes());
            self.send(&record)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        let records = self.content.settle();
        records.iter().try_for_each(|record| self.send(record))
    }
}
